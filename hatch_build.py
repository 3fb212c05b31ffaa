"""A hatchling build hook. It is an error to build a wheel or sdist without the dashboard, unless this is explicitly
requested.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHOUT = "BUILD_WITHOUT_DASHBOARD"
MISSING = f"""the dashboard is not built, so this package would serve no page.

With Node 20.19 or newer, in a clone:  make web
Without Node, install the wheel of a release: https://github.com/d44b/pulltrace/releases
To build it without the page anyway:  {WITHOUT}=1
"""


class DashboardHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's types are not installed for mypy
    """Check that the page exists before anything is built.

    An editable install finds the page at run time, in the source tree.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raise an error if the page is missing. An editable install does not need the page."""
        page = Path(self.root) / "pulltrace" / "server" / "static" / "index.html"
        if version != "editable" and not page.exists() and os.environ.get(WITHOUT) != "1":
            raise FileNotFoundError(MISSING)
