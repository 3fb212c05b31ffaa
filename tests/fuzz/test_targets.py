"""Run each target briefly, to check that it still works. ``make fuzz`` runs each target for longer."""

import pytest

from tests.fuzz.__main__ import TARGET_NAMES, fuzz
from tests.fuzz.targets import TARGETS

RUNS = 2000


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[int, str]]:
    """For each target, the number of executions and a description of the problem that was found, or an empty string."""
    pytest.importorskip("atheris", reason="no atheris for this Python")
    return fuzz(TARGETS, f"-runs={RUNS}", "-seed=7")


@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzz_target_accepts_its_seeds_and_their_mutations(results: dict[str, tuple[int, str]], name: str) -> None:
    runs, finding = results[name]
    assert not finding, finding
    assert runs >= RUNS


def test_the_list_of_target_names_contains_every_target() -> None:
    assert set(TARGET_NAMES) == set(TARGETS)
