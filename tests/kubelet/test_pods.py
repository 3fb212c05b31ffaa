"""Tests for every pod field that contains an image name, and for changes to a pod during a pull."""

import asyncio
import json

import pytest

from tests.kubelet.lab import Lab
from tests.real.images import MIB
from tests.real.manifests import container, pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
RUNS = {"resolving", "downloading", "extracting"}


def volume(name: str, ref: str) -> dict[str, object]:
    """Return an image volume."""
    return {"name": name, "image": {"reference": ref, "pullPolicy": "IfNotPresent"}}


async def test_init_container_images_are_pulled_before_app_container_images(lab: Lab) -> None:
    first, second = (lab.push(f"team/{name}:1", 3 * MIB, rate=MIB) for name in ("init", "app"))
    init = container("i0", first, args=["1s"])
    await lab.create(pod("init-app", second, initContainers=[init]))
    begin = await lab.happened("init-app", "Pulling", image=first)
    earlier, later = await lab.completed("init-app", first), await lab.completed("init-app", second)
    for look in lab.during(begin.at, earlier):
        states = look.states("init-app")
        assert states["i0"] in RUNS
        assert states["c0"] == "waiting"
    for look in lab.during((await lab.happened("init-app", "Pulling", image=second)).at, later):
        assert look.states("init-app").keys() == {"c0"}
        assert look.states("init-app")["c0"] in RUNS
    lab.check_completed(earlier)
    lab.check_completed(later)
    await lab.counted(first, second)


async def test_image_volumes_are_pulled_before_container_images(lab: Lab) -> None:
    files, app = (lab.push(f"team/volume-{name}:1", 3 * MIB, rate=MIB) for name in ("files", "app"))
    manifest = pod("volume", app, volumes=[volume("v", files)])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    await lab.create(manifest)
    begin = await lab.happened("volume", "Pulling", image=files)
    earlier, later = await lab.completed("volume", files), await lab.completed("volume", app)
    for look in lab.during(begin.at, earlier):
        states = look.states("volume")
        assert states["v"] in RUNS
        assert states["c0"] == "waiting"
    lab.check_completed(earlier)
    lab.check_completed(later)
    await lab.counted(files, app)


async def test_a_failed_image_volume_is_not_reported_as_a_failed_container(lab: Lab) -> None:
    missing = f"{lab.registry.host}/team/no-volume:1"
    app = lab.push("team/no-volume-app:1", 1000)
    manifest = pod("no-volume", app, volumes=[volume("v", missing)])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    await lab.create(manifest)
    await lab.happened("no-volume", "Failed", image=missing)
    await lab.until(lambda: lab.looks[-1].states("no-volume").get("v") == "failed")
    # The kubelet writes the reason for the failure to the status at its next sync.
    await lab.until(lambda: any(reason == "ErrImagePull" for _, reason in lab.statuses.get(("no-volume", "c0"), [])))
    await asyncio.sleep(1)
    assert lab.looks[-1].states("no-volume") == {"v": "failed", "c0": "waiting"}
    assert not lab.ids(app)
    assert lab.the_row(missing)["errorReason"] == "not_found"
    await lab.delete_failing(manifest, missing)
    await lab.counted(missing)


async def test_a_static_pod_is_shown_like_any_other_pod(lab: Lab) -> None:
    ref = lab.push("team/static:1", 4 * MIB, rate=MIB)
    manifest = {"apiVersion": "v1"} | pod("static", ref)
    (lab.cluster.static_pods / "static.json").write_text(json.dumps(manifest))
    begin = await lab.happened("static", "Pulling")
    pulled = await lab.completed("static", ref)
    for look in lab.during(begin.at, pulled):
        assert look.states("static-")["c0"] in RUNS
    lab.check_completed(pulled)
    await lab.counted(ref)


async def test_an_ephemeral_container_in_a_running_pod_is_shown_while_its_image_is_being_pulled(lab: Lab) -> None:
    ref, debug = lab.push("team/running:1", 1000), lab.push("team/debug:1", 4 * MIB, rate=MIB)
    await lab.create(pod("debugged", ref))
    await lab.happened("debugged", "Started")
    path = "/api/v1/namespaces/default/pods/debugged/ephemeralcontainers"
    patch = {"spec": {"ephemeralContainers": [container("e0", debug)]}}
    kind = "application/strategic-merge-patch+json"
    await lab.cluster.api.request("PATCH", path, patch, content_type=kind)
    begin = await lab.happened("debugged", "Pulling", image=debug)
    pulled = await lab.completed("debugged", debug)
    for look in lab.during(begin.at, pulled):
        assert look.states("debugged")["e0"] in RUNS
    lab.check_completed(pulled)
    await lab.counted(ref, debug)


async def test_an_image_that_cannot_be_pulled_does_not_hide_another_image_in_the_same_pod(lab: Lab) -> None:
    bad, good = f"{lab.registry.host}/team/bad:1", lab.push("team/good:1", 4 * MIB, rate=MIB)
    await lab.create(mixed := pod("mixed", bad, good))
    begin = await lab.happened("mixed", "Pulling", image=good)
    pulled = await lab.completed("mixed", good)
    for look in lab.during(begin.at, pulled):
        states = look.states("mixed")
        assert states["c0"] == "failed"
        assert states["c1"] in RUNS
    lab.check_completed(pulled)
    await lab.delete_failing(mixed, bad)
    await lab.counted(bad, good)


async def test_a_missing_tag_is_shown_as_failed_while_another_tag_in_the_same_pod_is_downloading(lab: Lab) -> None:
    await correct_tag(lab, "one", together=True)


async def test_a_missing_tag_is_shown_as_failed_while_an_existing_tag_in_another_pod_is_downloading(lab: Lab) -> None:
    await correct_tag(lab, "two", together=False)


async def correct_tag(lab: Lab, kind: str, *, together: bool) -> None:
    right = lab.push(f"team/corrected-{kind}:right", 10 * MIB, rate=MIB)
    wrong = f"{lab.registry.host}/team/corrected-{kind}:wrong"
    lab.hold(right, at=MIB)
    pods = [pod(f"{kind}-0", wrong, right)] if together else [pod(f"{kind}-0", wrong), pod(f"{kind}-1", right)]
    await lab.create(pods[0])
    await lab.happened(f"{kind}-0", "Failed", image=wrong)
    await lab.create(*pods[1:])
    begin = await lab.happened(kind, "Pulling", image=right)
    await lab.shown(begin.at)
    lab.release(right)
    pulled = await lab.completed(kind, right)
    looks = lab.during(begin.at, pulled)
    assert looks
    for look in looks:
        assert {row["status"] for row in look.rows(right)} <= RUNS
        assert look.rows(right)
        # While the kubelet retries the missing tag, its row briefly has the ``resolving`` status.
        assert {row["status"] for row in look.rows(wrong)} <= {"failed", "queued", "resolving"}
    lab.check_completed(pulled)
    assert len(lab.ids(wrong)) == 1
    await lab.delete_failing(pods[0], wrong)
    for one in pods[1:]:
        await lab.cluster.delete(one)
    await lab.counted(right, wrong)


async def test_the_pull_of_a_deleted_pod_continues_and_its_row_lists_no_pods(lab: Lab) -> None:
    ref = lab.push("team/deleted:1", 6 * MIB, rate=MIB)
    lab.hold(ref, at=3 * MIB)
    await lab.create(deleted := pod("deleted", ref))
    await lab.happened("deleted", "Pulling")
    await lab.until(lambda: any(row["downloadedBytes"] for row in lab.looks[-1].rows(ref)))
    await lab.cluster.delete(deleted)
    await lab.until(lambda: not lab.looks[-1].states("deleted"))
    lab.release(ref)
    pulled = await lab.completed("deleted", ref)
    assert [row["status"] for row in lab.looks[-1].rows(ref)] == ["completed"]
    row = lab.check_completed(pulled)
    assert not row.get("pods")
    await lab.counted(ref)


async def test_an_image_has_a_row_if_and_only_if_the_kubelet_tried_to_pull_it(lab: Lab) -> None:
    events = [*lab.kubelet.events(reason="Pulling"), *lab.kubelet.events(reason="Failed")]
    pulled = {event.image for event in events if event.image}
    rows = {row["imageRef"] for look in lab.looks for row in look.pulls}
    assert rows == pulled
