"""Tests for each row of the table in ``image_names``, which defines how well an image demand matches a pull."""

import pytest
from msgspec import structs

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import Retry
from pulltrace.server.pulls import image_names
from pulltrace.server.pulls.image_names import Fit, Name, fit, names_of
from pulltrace.server.pulls.node import Node, Pull
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, PullPhase, PullState
from tests.server.build import MIB, NOW, layer

REPOSITORY = Name("registry.io/team/app", "registry.io", "team/app")
UNKNOWN = Name(UNKNOWN_IMAGE)
IMAGE = "registry.io/team/app:1"
KNOWN = PullState(registry="registry.io", repository="team/app")


def demand(**more):
    facts = {"pulling": False, "failure": None, "pulled_at": None, "since": NOW} | more
    return ImageDemand("n", IMAGE, (), **facts)


def failure(at, *, retry=10.0):
    return Failure(ErrorReason.NOT_FOUND, "no", 1, at, retry and Retry(at + retry + 6, at + retry), NOW)


DEMANDS = {
    "the kubelet began pulling it before the pull": demand(pulling=True),
    "its last attempt was running when the pull started": demand(failure=failure(NOW + 10)),
    "it failed, and a retry is due": demand(failure=failure(NOW - 5), since=NOW - 6),
    "the kubelet has not requested it yet": demand(since=NOW - 60),
    "the node already has it, and another pod waits": demand(pulled_at=NOW - 5, since=NOW - 60, awaited=True),
    "the node already has it, and no other pod waits": demand(pulled_at=NOW - 5, since=NOW - 60),
    "it failed, and no retry is due": demand(failure=failure(NOW), since=NOW - 1),
    "the kubelet never pulls it": demand(failure=failure(NOW + 10, retry=None)),
}


def documented():
    lines = [line for line in image_names.__doc__.splitlines() if line.startswith(tuple(DEMANDS))]
    assert len(lines) == len(DEMANDS)
    for line in lines:
        name = next(name for name in DEMANDS if line.startswith(name))
        known, unknown = (part.strip() for part in (line[52:70], line[70:]))
        for reported, word in ((REPOSITORY, known), (UNKNOWN, unknown)):
            expected = None if word == "cannot match" else Fit[word]
            yield pytest.param(name, reported, expected, id=f"{name}-{reported.image}")


@pytest.mark.parametrize(("name", "reported", "expected"), list(documented()))
def test_the_match_between_a_live_pull_and_a_demand_is_rated_as_the_docstring_states(name, reported, expected):
    pull = Pull("lease", Node("n", NOW, NOW), PullState(), NOW + 4)
    assert fit(pull, reported, DEMANDS[name], Name.of(IMAGE)) is expected


def test_a_pull_that_fetches_no_bytes_still_gets_the_image_name_if_another_pull_completed_after_the_request():
    node = Node("n", NOW, NOW)
    done = Pull("done", node, PullState(image_ref=IMAGE), NOW)
    done.end(PullPhase.COMPLETED, NOW + 5, NOW + 5, None, None)
    again = Pull("again", node, PullState(), NOW + 6)
    assert names_of([done, again], [demand(pulling=True)])["again"].image == IMAGE


def test_a_pull_is_named_after_the_image_that_is_being_pulled_rather_than_the_image_that_failed():
    pull = Pull("lease", Node("n", NOW, NOW), KNOWN, NOW + 30)
    failed = demand(failure=failure(NOW + 1))
    pulling = ImageDemand("n", "registry.io/team/app:2", (), NOW + 29, pulling=True, failure=None, pulled_at=None)
    name = names_of([pull], [failed, pulling])["lease"]
    assert (name.image, name.guessed) == ("registry.io/team/app:2", False)


QUEUED = ImageDemand("n", "registry.io/team/app:2", (), NOW + 1, pulling=True, failure=None, pulled_at=None)


@pytest.mark.parametrize("late", [{"pulled_at": NOW + 9}, {"failure": failure(NOW + 9)}])
def test_a_pull_is_named_after_the_image_that_the_kubelet_requested_first_even_if_its_end_is_already_known(late):
    pull = Pull("lease", Node("n", NOW, NOW), KNOWN, NOW + 2, seen_at=NOW + 10)
    name = names_of([pull], [demand(**late), QUEUED])["lease"]
    assert (name.image, name.guessed) == (IMAGE, True)


def test_a_pull_that_begins_after_another_has_ended_is_named_after_the_queued_image_of_the_same_repository():
    node = Node("n", NOW, NOW)
    done = Pull("done", node, KNOWN, NOW, supposed=IMAGE)  # the agent does not know the tag yet
    done.end(PullPhase.COMPLETED, NOW + 5, NOW + 5, None, None)
    layers = [layer("a", 10 * MIB)]
    later = Pull("later", node, structs.replace(KNOWN, layers=layers), NOW + 6)
    names = names_of([done, later], [demand(pulling=True), QUEUED])
    assert {key: name.image for key, name in names.items()} == {"done": IMAGE, "later": QUEUED.image}
