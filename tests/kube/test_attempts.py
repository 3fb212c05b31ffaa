"""Pods, events and reports in whatever order: an attempt's end is final, and no attempt ends twice."""

from hypothesis import given, note
from hypothesis import settings as examples
from hypothesis import strategies as st

from pulltrace.demo.kubelet import PodStory, pod
from pulltrace.server.objects import PodGone
from pulltrace.wire import ErrorReason, PullPhase, PullStatus
from tests.kube.test_pods import NOT_FOUND, event, seen
from tests.kube.test_stories import Joined, web
from tests.server.build import MIB, NOW, layer, pull

NGINX = "docker.io/library/nginx:1.27"


class Reader:
    """Follows every change, and believes nothing."""

    def __init__(self) -> None:
        self.told: dict[str, PullStatus] = {}

    def read(self, statuses: list[PullStatus]) -> None:
        for status in statuses:
            before = self.told.get(status.id)
            self.told[status.id] = status
            if before is None or before == status:
                continue
            note(
                f"{before.status} {before.attempt} {before.percent} -> {status.status} {status.attempt} {status.percent}"
            )
            assert status.attempt >= before.attempt
            if status.attempt > before.attempt:
                assert before.status is not PullPhase.COMPLETED, "a success closes the story"
                continue
            assert status.percent >= before.percent
            presumed = before.error_reason is ErrorReason.UNKNOWN
            assert not before.status.ended or presumed or before.status is status.status


step = st.tuples(
    st.sampled_from(
        ["pulling", "failed", "pulled", "status", "gone", "begin", "grow", "done", "broken", "lost", "wait"]
    ),
    st.integers(0, 1),  # which pod
    st.sampled_from([0.0, 0.3, 1.0, 3.0, 11.0, 30.0]),  # seconds later
    st.sampled_from([0.0, 0.0, 1.0, 4.0]),  # seconds late, what Kubernetes tells
)


@examples(max_examples=150, deadline=None)
@given(st.lists(step, max_size=25))
def test_an_end_is_final_and_a_success_closes_the_story(steps) -> None:
    world, reader = Joined(), Reader()
    pods = [web("web-1"), web("web-2")]
    at, number, size, began, runs = 0.5, 0, 0, 0.0, False

    def say(**more) -> None:
        parts = [pull(f"l{number}", layer("a", size * MIB), at=NOW + began, **more)] if runs else []
        world.say(*parts, at=at)

    for what, which, later, late in steps:
        at += later + 0.6
        story, when = pods[which], float(int(NOW + at - late))
        match what:
            case "pulling":
                world.tell(event(story.pulling("app", when)), at=at)
            case "failed":
                world.tell(event(story.failed("app", when, NOT_FOUND)), at=at)
            case "pulled":
                world.tell(event(story.pulled("app", when)), at=at)
            case "status":
                world.tell(seen(story), at=at)
            case "gone":
                world.tell(PodGone(story.pod["metadata"]["uid"]), at=at)
                pods[which] = PodStory(pod(f"web-{at}", "node-1", {"app": "nginx:1.27"}, at=NOW + at))
            case "begin" if not runs:
                number, size, began, runs = number + 1, 0, at - min(late, later), True
                say()
            case "grow" if runs:
                size = min(size + 20, 100)
                say()
            case "done" if runs:
                say(status=PullPhase.COMPLETED, ended_at=NOW + at, image_ref=NGINX)
                runs = False
            case "broken" if runs:
                say(status=PullPhase.FAILED, ended_at=NOW + at, error_reason=ErrorReason.UNKNOWN)
                runs = False
            case "lost":
                runs = False
                say()
            case _:
                say()
        reader.read(world.shown)
