"""Three clusters for the browser tests, as JSON: one with pulls in every state, a quiet one, and one with failures."""

import hashlib
import time
from typing import Any

from playwright.async_api import Locator, Page, expect

from .scripted import Json, ScriptedServer, rfc3339

MB = 1_000_000
ROWS = "tbody tr:has(button[data-toggle])"


def digest(name: str) -> str:
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def pod(namespace: str, name: str, container: str, image: str, owner: str | None = None) -> Json:
    found = {"namespace": namespace, "podName": name, "container": container, "image": image, "uid": name}
    return found | ({"owner": owner} if owner else {}) | {"waitingReason": "ContainerCreating"}


def layer(name: str, size: int, state: str, done: int = 0, *, start: float | None = None, **times: float) -> Json:
    """Return a layer. ``start``, ``end`` and ``unpacked`` are Unix times in seconds."""
    cached = size if state == "cached" else 0
    found: Json = {
        "pullId": "",
        "digest": digest(name),
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "totalBytes": size,
        "downloadedBytes": done,
        "bytesPerSec": times.get("rate", 0.0),
        "percent": 100.0 if cached else 100.0 * done / size,
        "totalKnown": True,
        "state": state,
        "cachedBytes": cached,
    }
    for key, field in (("end", "completedAt"), ("unpacked", "extractedAt")):
        if key in times:
            found[field] = rfc3339(times[key])
    return found | ({"startedAt": rfc3339(start)} if start is not None else {})


def pull(pull_id: str, node: str, image: str, status: str, *, now: float, ago: float = 30.0, **more: Any) -> Json:
    """Return a pull that began ``ago`` seconds before ``now``. ``more`` contains additional fields of the pull's JSON,
    and overrides existing fields.
    """
    total, done = more.get("totalBytes", 100 * MB), more.get("downloadedBytes", 0)
    return {
        "id": pull_id,
        "nodeName": node,
        "imageRef": image,
        "registry": image.split("/", 1)[0],
        "totalBytes": total,
        "downloadedBytes": done,
        "bytesPerSec": 0.0,
        "percent": min(100.0, 100.0 * done / total) if total else 100.0,
        "layerCount": 5,
        "layersDone": 0,
        "startedAt": rfc3339(now - ago),
        "totalKnown": True,
        "status": status,
        "imageBytes": total,
        "cachedBytes": 0,
        "extractedBytes": 0,
        "layersCached": 0,
        "layersExtracted": 0,
        "attempt": 1,
        **more,
    }


def pytorch_layers(now: float) -> list[Json]:
    t = now - 107
    return [
        layer("cuda-base", int(29.1 * MB), "cached"),
        layer("cuda", 187 * MB, "extracted", 187 * MB, start=t + 5, end=t + 35, unpacked=t + 52),
        layer("nccl", int(12.4 * MB), "extracted", int(12.4 * MB), start=t + 5, end=t + 10, unpacked=t + 55),
        layer("torch", 2600 * MB, "downloading", 1900 * MB, start=t + 5, rate=41.2 * MB),
        layer("cudnn", 941 * MB, "downloaded", 941 * MB, start=t + 10, end=t + 80),
        layer("mpi", 312 * MB, "downloaded", 312 * MB, start=t + 35, end=t + 68),
        layer("apex", 1200 * MB, "downloading", 400 * MB, start=t + 68, rate=18.7 * MB),
        layer("vision", 38 * MB, "downloaded", 38 * MB, start=t + 80, end=t + 87),
        layer("entry", 4200, "waiting"),
    ]


def cluster(now: float) -> list[Json]:
    """Return about twenty pulls that cover every state."""
    billing = "ghcr.io/acme/billing-api:2.14.0"
    feature = "registry.corp.local/ml/feature-store:r118"
    torch = "nvcr.io/nvidia/pytorch:24.05-py3"
    trainers = [pod("ml", f"trainer-{i}", "trainer", torch, "StatefulSet/trainer") for i in range(2)]
    pulls = [
        pull(
            "billing",
            "worker-07",
            billing,
            "failed",
            now=now,
            ago=62,
            totalBytes=0,
            totalKnown=False,
            percent=0.0,
            layerCount=0,
            completedAt=rfc3339(now - 60),
            nextRetryAt=rfc3339(now + 102),
            attempt=4,
            errorReason="unauthorized",
            error=f'failed to pull and unpack image "{billing}": failed to resolve reference: failed to authorize: '
            "unexpected status from GET request to https://ghcr.io/token: 401 Unauthorized",
            pods=[
                pod("billing", f"billing-api-7d9c5bd8f4-{x}", "api", billing, "Deployment/billing-api")
                for x in ("k2x9p", "m4tqz", "zz8wl")
            ],
        ),
        pull(
            "feature",
            "gpu-02",
            feature,
            "downloading",
            now=now,
            ago=190,
            totalBytes=2700 * MB,
            downloadedBytes=1107 * MB,
            stalledSince=rfc3339(now - 48),
            pods=[pod("ml", "feature-store-0", "store", feature)],
        ),
        pull(
            "torch",
            "gpu-03",
            torch,
            "downloading",
            now=now,
            ago=107,
            totalBytes=5290 * MB,
            downloadedBytes=3790 * MB,
            extractedBytes=200 * MB,
            bytesPerSec=59.9 * MB,
            etaSeconds=74.0,
            layerCount=9,
            layersDone=5,
            layersCached=1,
            cachedBytes=29 * MB,
            imageBytes=5319 * MB,
            pods=trainers,
            manifestDigest=digest("torch"),
            layers=pytorch_layers(now),
        ),
        pull(
            "postgres",
            "worker-03",
            "docker.io/library/postgres:17.2",
            "extracting",
            now=now,
            ago=21,
            totalBytes=151 * MB,
            downloadedBytes=151 * MB,
            extractedBytes=96 * MB,
            etaSeconds=6.0,
        ),
        pull(
            "grafana",
            "worker-01",
            "docker.io/grafana/grafana:11.4.0",
            "downloading",
            now=now,
            ago=9,
            totalBytes=118 * MB,
            downloadedBytes=92 * MB,
            extractedBytes=23 * MB,
            bytesPerSec=12.1 * MB,
            etaSeconds=3.0,
        ),
        pull(
            "checkout",
            "worker-05",
            "ghcr.io/acme/checkout:8f31c2e",
            "downloading",
            now=now,
            ago=8,
            totalBytes=134 * MB,
            downloadedBytes=31 * MB,
            bytesPerSec=4.4 * MB,
            etaSeconds=27.0,
            refGuessed=True,
            pods=[
                pod("shop", f"checkout-{x}", "checkout", "ghcr.io/acme/checkout:8f31c2e", "Deployment/checkout")
                for x in "abcd"
            ],
        ),
        pull(
            "exporter",
            "worker-05",
            "quay.io/prometheus/node-exporter:v1.8.2",
            "queued",
            now=now,
            ago=12,
            totalBytes=0,
            totalKnown=False,
            percent=0.0,
            layerCount=0,
            pods=[pod("monitoring", "node-exporter-x2", "exporter", "quay.io/prometheus/node-exporter:v1.8.2")],
        ),
        pull("unknown", "worker-09", "__pulling__", "resolving", now=now, ago=1, totalBytes=0, totalKnown=False),
        pull(
            "cached",
            "worker-02",
            "registry.k8s.io/pause:3.10",
            "completed",
            now=now,
            ago=95,
            totalBytes=0,
            percent=100.0,
            cachedBytes=3 * MB,
            completedAt=rfc3339(now - 94),
        ),
    ]
    return pulls + [
        pull(
            f"nginx-{i}",
            f"worker-{i:02}",
            "docker.io/library/nginx:1.27",
            "completed",
            now=now,
            ago=200 + i,
            totalBytes=71 * MB,
            downloadedBytes=71 * MB,
            extractedBytes=71 * MB,
            completedAt=rfc3339(now - 191 - i / 2),
        )
        for i in range(1, 13)
    ]


def nodes(now: float, names: list[str]) -> list[Json]:
    return [
        {
            "name": name,
            "state": "lost" if name == "worker-11" else "late" if name == "worker-12" else "reporting",
            "agentVersion": "0.2.0",
            "containerdVersion": "2.1.4" if name.startswith("gpu") else "1.7.27",
            "snapshotter": "overlayfs",
            "lastSeen": rfc3339(now - (180 if name == "worker-11" else 12 if name == "worker-12" else 0.6)),
            "activePulls": 1,
            "bytesPerSec": 1e6 * (i % 5),
        }
        for i, name in enumerate(names)
    ]


def waiting_pods(now: float, pulls: list[Json]) -> list[Json]:
    state = {"completed": "completed"}
    found = []
    for one in pulls:
        for who in one.get("pods", []):
            container = {
                "container": who["container"],
                "image": who["image"],
                "kind": "app",
                "waitingReason": "ImagePullBackOff" if one["status"] == "failed" else "ContainerCreating",
                "state": state.get(one["status"], one["status"]),
                "pullId": one["id"],
                "percent": one["percent"],
            }
            container |= {key: one[key] for key in ("etaSeconds", "error", "errorReason") if key in one}
            found.append(
                {
                    "namespace": who["namespace"],
                    "podName": who["podName"],
                    "uid": who["podName"],
                    "nodeName": one["nodeName"],
                    "waitingSince": rfc3339(now - 80),
                    "containers": [container],
                }
                | ({"owner": who["owner"]} if "owner" in who else {})
                | ({"etaSeconds": one["etaSeconds"]} if "etaSeconds" in one else {})
            )
    return found


def row(page: Page, key: str) -> Locator:
    return page.locator(f'tr:has([data-toggle="{key}"])')


async def scene_is_complete(page: Page) -> None:
    """Wait until the page has received the complete state. Rows may move until the state is complete."""
    tiles = page.get_by_role("list", name="Pulls by state")
    await expect(tiles.get_by_role("button", name="Done").locator("b")).to_have_text("13")


async def set_scene(server: ScriptedServer, now: float | None = None) -> None:
    at = time.time() if now is None else now
    pulls = cluster(at)
    names = sorted({one["nodeName"] for one in pulls})
    server.nodes = nodes(at, names)
    server.registries = [
        {"registry": "nvcr.io", "activePulls": 1, "bytesPerSec": 59.9e6},
        {"registry": "docker.io", "activePulls": 2, "bytesPerSec": 12.1e6},
        {"registry": "ghcr.io", "activePulls": 1, "bytesPerSec": 4.4e6},
    ]
    server.pods = {"pods": waiting_pods(at, pulls), "watching": True}
    await server.put(*pulls)


async def set_quiet(server: ScriptedServer, now: float | None = None) -> None:
    """Show a cluster in which the last pull ended twelve minutes ago."""
    at = time.time() if now is None else now
    nginx, redis = "docker.io/library/nginx:1.29", "docker.io/library/redis:8.2"
    ended = {"totalBytes": 71 * MB, "downloadedBytes": 71 * MB, "percent": 100.0}
    server.nodes = nodes(at, ["worker-1", "worker-2", "worker-3"])
    server.pods = {"pods": [], "watching": True}
    await server.put(
        pull("last", "worker-3", nginx, "completed", now=at, ago=724, completedAt=rfc3339(at - 720), **ended),
        pull("before", "worker-1", redis, "completed", now=at, ago=909, completedAt=rfc3339(at - 900), **ended),
    )


def failure(pull_id: str, node: str, image: str, reason: str, *, now: float, **more: Any) -> Json:
    """Return a pull that failed ten seconds ago, before any byte arrived."""
    found = {"totalBytes": 0, "totalKnown": False, "percent": 0.0, "layerCount": 0, "attempt": 5}
    found |= {"errorReason": reason, "completedAt": rfc3339(now - 10), "error": f"failed to pull {image}: {reason}"}
    return pull(pull_id, node, image, "failed", now=now, ago=15, **(found | more))


CORP = "registry.corp.local"


def trouble(now: float) -> list[Json]:
    """Return a cluster with a registry that is down (affecting 40 images, 60 nodes and 200 pods), a few other failures,
    old failures, and live pulls.
    """
    found = []
    for n in range(200):
        image = f"{CORP}/team-{n % 40:02}/service:{n % 40}.1"
        who = [pod(f"team-{n % 40:02}", f"service-{n}", "app", image, f"Deployment/service-{n % 40}")]
        found.append(failure(f"down-{n}", f"worker-{n % 60:02}", image, "timeout", now=now, pods=who))
    typo = "ghcr.io/acme/cart:lates"
    for n in range(7):
        who = [pod("shop", f"cart-{n}", "cart", typo, "DaemonSet/cart")]
        found.append(failure(f"typo-{n}", f"worker-{n:02}", typo, "not_found", now=now, pods=who))
    never = pod("dev", "local-0", "app", "local/tool:dev", "StatefulSet/local") | {"waitingReason": "ErrImageNeverPull"}
    found.append(failure("never", "worker-07", "docker.io/local/tool:dev", "not_found", now=now, pods=[never]))
    found += [
        failure(f"old-{n}", f"worker-{n:02}", "quay.io/old/job:1", "unauthorized", now=now - 900) for n in range(20)
    ]
    cancelled = {"totalBytes": 900 * MB, "downloadedBytes": 342 * MB, "percent": 38.0, "totalKnown": True}
    found.append(failure("cancelled", "gpu-01", "nvcr.io/nvidia/cuda:12.4", "canceled", now=now, **cancelled))
    for n in range(12):
        image = f"docker.io/library/app-{n}:1"
        who = [pod("shop", f"app-{n}", "app", image, f"Deployment/app-{n}")]
        moving = {
            "totalBytes": 300 * MB,
            "downloadedBytes": (20 * n + 9) * MB,
            "bytesPerSec": 5.0 * MB,
            "etaSeconds": 40.0 - n,
        }
        found.append(pull(f"live-{n}", f"worker-{n:02}", image, "downloading", now=now, ago=20 + n, pods=who, **moving))
    return found


async def set_trouble(server: ScriptedServer, now: float | None = None) -> None:
    """Show the cluster with many failures. The pods of the old failures no longer exist."""
    at = time.time() if now is None else now
    pulls = trouble(at)
    server.nodes = nodes(at, sorted({one["nodeName"] for one in pulls}))
    server.registries = [{"registry": "docker.io", "activePulls": 12, "bytesPerSec": 60.0 * MB}]
    server.pods = {"pods": waiting_pods(at, pulls), "watching": True}
    gone = [pod("batch", "job-0", "job", "quay.io/old/job:1")]
    await server.put(*[one | ({"pods": gone} if one["id"].startswith("old-") else {}) for one in pulls])
