"""Run each target briefly, to check that it still works. ``make fuzz`` runs the targets for longer."""

import pytest

from tests.fuzz.__main__ import TARGET_NAMES, fuzz
from tests.fuzz.targets import TARGETS

RUNS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_its_seeds_and_their_mutations(name: str) -> None:
    pytest.importorskip("atheris", reason="no atheris for this Python")
    runs, finding = fuzz(name, f"-runs={RUNS}", "-seed=7")
    assert not finding, finding
    assert runs >= RUNS


def test_every_target_is_listed() -> None:
    assert set(TARGET_NAMES) == set(TARGETS)
