"""The page of licences is of what is shipped now, and every licence on it is one that may be shipped."""

from tests.release.scripts import ROOT, script

PERMISSIVE = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "PSF-2.0", "OFL-1.1", "MPL-2.0"}


def test_the_page_is_what_make_licences_makes() -> None:
    assert script("licences").text() == (ROOT / "docs" / "licences.md").read_text(), "stale: run make licences"


def test_all_that_is_shipped_may_be() -> None:
    licences = script("licences")
    shipped = {*licences.python("agent"), *licences.python("server"), *licences.page()}
    assert {part for *_, text in shipped for part in text.split(" AND ")} <= PERMISSIVE
