"""Every field of a pod that names an image, and changes to the pod during the pull."""

import asyncio
import json

import pytest

from tests.kubelet.failing import Failing
from tests.kubelet.lab import Lab
from tests.real.images import MIB
from tests.real.manifests import container, pod

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.asyncio(loop_scope="session"),
    # The failing pods are created as early as possible.
    pytest.mark.usefixtures("failing"),
]
RUNS = {"resolving", "downloading", "extracting"}


def volume(name: str, ref: str) -> dict[str, object]:
    """Return an image volume."""
    return {"name": name, "image": {"reference": ref, "pullPolicy": "IfNotPresent"}}


async def test_the_image_of_an_init_container_is_pulled_before_those_of_app_containers(parallel: Lab) -> None:
    first, second = (parallel.push(f"team/{name}:1", 3 * MIB, rate=MIB) for name in ("init", "app"))
    init = container("i0", first, args=["1s"])
    await parallel.create(pod("init-app", second, initContainers=[init]))
    begin = await parallel.happened("init-app", "Pulling", image=first)
    earlier, later = await parallel.completed("init-app", first), await parallel.completed("init-app", second)
    for look in parallel.between(begin.at, earlier.at):
        states = look.states("init-app")
        assert states["i0"] in RUNS
        assert states["c0"] == "waiting"
    for look in parallel.between((await parallel.happened("init-app", "Pulling", image=second)).at, later.at):
        assert look.states("init-app").keys() == {"c0"}
        assert look.states("init-app")["c0"] in RUNS
    parallel.check_completed(earlier)
    parallel.check_completed(later)


async def test_an_image_volume_is_pulled_before_the_images_of_containers(parallel: Lab) -> None:
    files, app = (parallel.push(f"team/volume-{name}:1", 3 * MIB, rate=MIB) for name in ("files", "app"))
    manifest = pod("volume", app, volumes=[volume("v", files)])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    await parallel.create(manifest)
    begin = await parallel.happened("volume", "Pulling", image=files)
    earlier, later = await parallel.completed("volume", files), await parallel.completed("volume", app)
    for look in parallel.between(begin.at, earlier.at):
        states = look.states("volume")
        assert states["v"] in RUNS
        assert states["c0"] == "waiting"
    parallel.check_completed(earlier)
    parallel.check_completed(later)


async def test_a_failed_image_volume_is_not_reported_as_a_failed_container(parallel: Lab) -> None:
    missing = f"{parallel.registry.host}/team/no-volume:1"
    app = parallel.push("team/no-volume-app:1", 1000)
    manifest = pod("no-volume", app, volumes=[volume("v", missing)])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    await parallel.create(manifest)
    await parallel.happened("no-volume", "Failed", image=missing)
    await parallel.until(lambda: parallel.looks[-1].states("no-volume").get("v") == "failed")
    await asyncio.sleep(12)  # the status with the reason arrives at the kubelet's next sync
    assert parallel.looks[-1].states("no-volume") == {"v": "failed", "c0": "waiting"}
    assert not parallel.ids(app)
    assert parallel.the_row(missing)["errorReason"] == "not_found"
    await parallel.cluster.delete(manifest)


async def test_a_static_pod_is_shown_like_any_other_pod(parallel: Lab) -> None:
    ref = parallel.push("team/static:1", 4 * MIB, rate=MIB)
    manifest = {"apiVersion": "v1"} | pod("static", ref)
    (parallel.cluster.static_pods / "static.json").write_text(json.dumps(manifest))
    begin = await parallel.happened("static", "Pulling")
    pulled = await parallel.completed("static", ref)
    for look in parallel.between(begin.at, pulled.at):
        assert look.states("static-")["c0"] in RUNS
    parallel.check_completed(pulled)


async def test_an_ephemeral_container_waits_in_a_running_pod(parallel: Lab) -> None:
    ref, debug = parallel.push("team/running:1", 1000), parallel.push("team/debug:1", 4 * MIB, rate=MIB)
    await parallel.create(pod("debugged", ref))
    await parallel.happened("debugged", "Started")
    path = "/api/v1/namespaces/default/pods/debugged/ephemeralcontainers"
    patch = {"spec": {"ephemeralContainers": [container("e0", debug)]}}
    kind = "application/strategic-merge-patch+json"
    await parallel.cluster.api.request("PATCH", path, patch, content_type=kind)
    begin = await parallel.happened("debugged", "Pulling", image=debug)
    pulled = await parallel.completed("debugged", debug)
    for look in parallel.between(begin.at, pulled.at):
        assert look.states("debugged")["e0"] in RUNS
    parallel.check_completed(pulled)


async def test_a_bad_image_does_not_hide_the_good_one_in_the_same_pod(parallel: Lab) -> None:
    bad, good = f"{parallel.registry.host}/team/bad:1", parallel.push("team/good:1", 4 * MIB, rate=MIB)
    await parallel.create(mixed := pod("mixed", bad, good))
    begin = await parallel.happened("mixed", "Pulling", image=good)
    pulled = await parallel.completed("mixed", good)
    for look in parallel.between(begin.at, pulled.at):
        states = look.states("mixed")
        assert states["c0"] == "failed"
        assert states["c1"] in RUNS
    parallel.check_completed(pulled)
    await parallel.cluster.delete(mixed)


@pytest.mark.parametrize("together", [True, False], ids=["in-one-pod", "in-two-pods"])
async def test_the_right_tag_is_shown_as_downloading_and_the_wrong_one_as_failed(
    parallel: Lab, *, together: bool
) -> None:
    kind = "one" if together else "two"
    right = parallel.push(f"team/corrected-{kind}:right", 10 * MIB, rate=MIB)
    wrong = f"{parallel.registry.host}/team/corrected-{kind}:wrong"
    pods = [pod(f"{kind}-0", wrong, right)] if together else [pod(f"{kind}-0", wrong), pod(f"{kind}-1", right)]
    await parallel.create(pods[0])
    await parallel.happened(f"{kind}-0", "Failed", image=wrong)
    await parallel.create(*pods[1:])
    begin = await parallel.happened(kind, "Pulling", image=right)
    pulled = await parallel.completed(kind, right)
    looks = parallel.between(begin.at, pulled.at)
    assert looks
    for look in looks:
        assert {row["status"] for row in look.rows(right)} <= RUNS
        assert look.rows(right)
        # While the kubelet retries the wrong tag, it is resolving for less than a second.
        assert {row["status"] for row in look.rows(wrong)} <= {"failed", "queued", "resolving"}
    parallel.check_completed(pulled)
    assert len(parallel.ids(wrong)) == 1
    for one in pods:
        await parallel.cluster.delete(one)


async def test_the_pull_of_a_deleted_pod_continues_and_has_no_waiting_pods(parallel: Lab) -> None:
    ref = parallel.push("team/deleted:1", 6 * MIB, rate=MIB)
    await parallel.create(deleted := pod("deleted", ref))
    await parallel.happened("deleted", "Pulling")
    await parallel.until(lambda: any(row["downloadedBytes"] for row in parallel.looks[-1].rows(ref)))
    await parallel.cluster.delete(deleted)
    await parallel.until(lambda: not parallel.looks[-1].states("deleted"), 5)
    pulled = await parallel.completed("deleted", ref)
    assert [row["status"] for row in parallel.looks[-1].rows(ref)] == ["completed"]
    row = parallel.check_completed(pulled)
    assert not row.get("pods")


async def test_every_row_has_a_pull_and_every_pull_has_a_row(parallel: Lab, failing: Failing) -> None:
    events = [*parallel.kubelet.events(reason="Pulling"), *parallel.kubelet.events(reason="Failed")]
    pulled = {event.image for event in events if event.image}
    rows = {row["imageRef"] for look in parallel.looks for row in look.pulls}
    assert rows - {image.ref for image in failing.images.values()} <= pulled
    assert pulled <= rows
