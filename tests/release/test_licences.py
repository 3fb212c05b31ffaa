"""The licence page lists everything that is shipped, and every licence on it is permissive."""

from tests.release.scripts import ROOT, script

PERMISSIVE = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "PSF-2.0", "OFL-1.1", "MPL-2.0"}


def test_the_licence_page_is_up_to_date() -> None:
    assert script("licences").text() == (ROOT / "docs" / "licences.md").read_text(), "run `make licences`"


def test_every_shipped_package_has_a_permissive_licence() -> None:
    licences = script("licences")
    shipped = {*licences.python("agent"), *licences.python("server"), *licences.page()}
    assert {part for *_, text in shipped for part in text.split(" AND ")} <= PERMISSIVE
