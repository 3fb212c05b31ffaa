"""Import a release script by its file name. (The release scripts are not part of a package.)"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pulltrace

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pulltrace.__file__).parent
"""The installed package's directory. CI removes the source directory before it tests the wheel."""


def script(name: str) -> ModuleType:
    """Return ``.github/scripts/<name>.py`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
