"""The modules that import-linter checks for I/O are exactly those whose docstrings call them sans-I/O."""

import ast
import tomllib
from pathlib import Path

import pulltrace

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pulltrace.__file__).parent


def test_import_linter_checks_exactly_the_modules_that_are_labelled_sans_io():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = [contract["source_modules"] for contract in contracts if contract["name"].startswith("Sans-I/O")]
    described = set()
    for path in PACKAGE.rglob("*.py"):
        if "Sans-I/O" in (ast.get_docstring(ast.parse(path.read_text())) or ""):
            described.add(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    assert described == set(listed)
