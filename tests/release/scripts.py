"""The release scripts live outside the package; this brings one in by its name."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pulltrace

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pulltrace.__file__).parent
"""Where it is installed: CI tests the wheel, with the sources' folder removed."""


def script(name: str) -> ModuleType:
    """``.github/scripts/<name>.py`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
