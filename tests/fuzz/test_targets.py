"""Each target, briefly: so that they keep working. The long run is ``make fuzz``."""

import pytest

from tests.fuzz.__main__ import TARGET_NAMES, fuzz
from tests.fuzz.targets import TARGETS

RUNS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_what_it_begins_with_and_what_that_leads_to(name: str) -> None:
    pytest.importorskip("atheris", reason="no atheris for this Python")
    runs, finding = fuzz(name, f"-runs={RUNS}", "-seed=7")
    assert not finding, finding
    assert runs >= RUNS


def test_every_target_is_fuzzed() -> None:
    assert set(TARGET_NAMES) == set(TARGETS)
