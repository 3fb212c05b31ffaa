"""Tests that the page's generated TypeScript interfaces are up to date."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_interfaces_match_the_models() -> None:
    spec = importlib.util.spec_from_file_location("wire_types", ROOT / "web/scripts/wire_types.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.text() == (ROOT / "web/src/wire/generated.ts").read_text(), "out of date: run make schema"
