"""Tests in which Helm installs the chart in a real cluster, with images built from this repository."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.chart.rendering import CHART
from tests.kubelet.lab import Lab
from tests.patience import PATIENCE
from tests.real.apiserver import APIError
from tests.real.images import MIB, make_image, make_tree
from tests.real.manifests import pod
from tests.real.versions import HELM
from tests.release.test_images import rootfs, site

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.chart,
    pytest.mark.asyncio(loop_scope="session"),
    # Create the failing pods as early as possible.
    pytest.mark.usefixtures("failing"),
]
NAMESPACE = "pulltrace"
ENVIRONMENT = (
    "PATH=/usr/local/bin",
    # If Python was built with an rpath, this variable is needed because the image contains Python's library in a
    # different directory.
    "LD_LIBRARY_PATH=/usr/local/lib",
    "PYTHONUNBUFFERED=1",
)
Helm = Callable[..., Awaitable[str]]


def assemble(half: str, folder: Path) -> None:
    """Build one image's root file system."""
    rootfs.assemble(site(folder / "site", half), folder / "root")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The root file systems of the agent's image and the server's image."""
    for tool in ("strip", "ldd", "dpkg-query"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian's binutils, libc-bin, dpkg)")
    roots = {}
    for half in ("agent", "server"):
        folder = tmp_path_factory.mktemp(half)
        # Build the images in a thread, because this process also runs the cluster's registry.
        await asyncio.to_thread(assemble, half, folder)
        roots[half] = folder / "root"
    return roots


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def helm(parallel: Lab, halves: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Push the images of the agent and the server to the cluster's registry. Return a function that runs Helm as the
    cluster's admin.
    """
    if not HELM.path.exists():
        pytest.skip("no helm here; `make parts` builds it")
    cluster, folder = parallel.cluster, tmp_path_factory.mktemp("helm")
    for half, root in halves.items():
        entrypoint = ["/usr/local/bin/python3", "-m", "pulltrace"]
        layer = await asyncio.to_thread(make_tree, root)
        image = make_image(layer, entrypoint=entrypoint, environment=ENVIRONMENT)
        cluster.registry.push(f"pulltrace-{half}:test", image)
    environment = {**os.environ, "KUBECONFIG": str(cluster.api.kubeconfig)}
    environment |= {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}

    async def run(*words: str) -> str:
        command = cluster.inside.command(HELM.path, *words, "--namespace", NAMESPACE)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode() + out.decode()
        return out.decode()

    return run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(parallel: Lab, helm: Helm) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client for the Service of the installed server."""
    values = ["agent.runtimeSocket.risksAcknowledged=true"]
    for half in ("agent", "server"):
        values += [f"{half}.image.repository={parallel.registry.host}/pulltrace-{half}", f"{half}.image.tag=test"]
    sets = [word for value in values for word in ("--set", value)]
    await helm("install", "pulltrace", str(CHART), "--create-namespace", "--wait", "--timeout", "5m", *sets)
    service = f"/api/v1/namespaces/{NAMESPACE}/services/pulltrace-server"
    address = (await parallel.cluster.api.request("GET", service))["spec"]["clusterIP"]
    async with AsyncExitStack() as stack:
        connector = parallel.cluster.inside.connector()
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://{address}:8080", connector=connector))
        await connected(session)
        yield session


async def connected(session: aiohttp.ClientSession) -> None:
    """Wait until kube-proxy forwards connections, which happens shortly after the pod is ready."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with session.get("/healthz"):
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.2)


async def pods(lab: Lab) -> list[dict[str, Any]]:
    """Return all pods of the Helm release."""
    return list((await lab.cluster.api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods"))["items"])


async def agent_state(session: aiohttp.ClientSession) -> list[tuple[str, str]]:
    """Return the name and state of each node that the server knows about."""
    async with session.get("/api/v1/nodes") as answer:
        return [(node["name"], node["state"]) for node in (await answer.json())["nodes"]]


async def test_all_pods_become_ready_without_a_restart_and_the_agent_sends_reports(
    parallel: Lab, installed: aiohttp.ClientSession
) -> None:
    statuses = [status for each in await pods(parallel) for status in each["status"]["containerStatuses"]]
    assert [(status["name"], status["ready"], status["restartCount"]) for status in statuses] == [
        ("pulltrace-agent", True, 0),
        ("pulltrace-server", True, 0),
    ]
    async with asyncio.timeout(PATIENCE):
        while await agent_state(installed) != [("node-1", "reporting")]:  # noqa: ASYNC110 (the API has no event to wait for)
            await asyncio.sleep(0.2)


async def test_helm_test_passes(installed: aiohttp.ClientSession, helm: Helm) -> None:
    assert "Phase:          Succeeded" in await helm("test", "pulltrace", "--timeout", "5m")


async def test_the_service_of_the_installed_chart_returns_a_pull_with_its_pod(
    parallel: Lab, installed: aiohttp.ClientSession
) -> None:
    ref = parallel.push("team/through-chart:1", 5 * MIB, rate=MIB)
    parallel.hold(ref, at=3 * MIB)
    await parallel.create(pod("through-chart", ref))
    names: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not names:
            await asyncio.sleep(0.2)
            async with installed.get("/api/v1/pulls", params={"image": ref, "status": "downloading"}) as answer:
                rows = (await answer.json())["pulls"]
            names = [one["podName"] for row in rows for one in row.get("pods", [])]
    assert names == ["through-chart"]
    parallel.release(ref)
    await parallel.completed("through-chart", ref)


async def test_the_server_accepts_reports_only_with_the_token_of_an_agent_pod(
    parallel: Lab, installed: aiohttp.ClientSession
) -> None:
    api = parallel.cluster.api
    [agent] = [one for one in await pods(parallel) if one["spec"]["containers"][0]["name"] == "pulltrace-agent"]
    account = agent["spec"]["serviceAccountName"]
    [audience] = {
        source["serviceAccountToken"]["audience"]
        for each in agent["spec"]["volumes"]
        for source in each.get("projected", {}).get("sources", [])
        if source.get("serviceAccountToken", {}).get("audience")
    }
    bound = {"kind": "Pod", "apiVersion": "v1", "name": agent["metadata"]["name"], "uid": agent["metadata"]["uid"]}
    tokens = {
        "its own": await api.service_account_token(NAMESPACE, account, boundObjectRef=bound, audiences=[audience]),
        "unbound": await api.service_account_token(NAMESPACE, account, audiences=[audience]),
        "another account's": await api.service_account_token(NAMESPACE, "default", audiences=[audience]),
        "made up": "no-token",
        "none": "",
    }
    report = {"nodeName": "node-1", "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "pulls": None}
    answers = {}
    for name, token in tokens.items():
        answers[name] = 429
        while answers[name] == 429:  # the agent on this node has just sent a report
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with installed.post("/api/v1/report", json=report, headers=headers) as answer:
                answers[name] = answer.status
            await asyncio.sleep(0.1)
    assert answers == {"its own": 200, "unbound": 403, "another account's": 403, "made up": 401, "none": 401}


async def test_an_upgrade_replaces_the_pods_and_helm_test_still_passes(
    parallel: Lab, installed: aiohttp.ClientSession, helm: Helm
) -> None:
    before = {each["metadata"]["uid"] for each in await pods(parallel)}
    debug = ("--reuse-values", "--set", "config.logLevel=debug")
    await helm("upgrade", "pulltrace", str(CHART), *debug, "--wait", "--timeout", "5m")
    running = {each["metadata"]["uid"] for each in await pods(parallel) if "deletionTimestamp" not in each["metadata"]}
    assert len(running) == 2
    assert not running & before
    await helm("test", "pulltrace", "--timeout", "5m")


async def test_an_uninstall_leaves_nothing_behind(parallel: Lab, installed: aiohttp.ClientSession, helm: Helm) -> None:
    await helm("uninstall", "pulltrace", "--wait", "--timeout", "5m")
    api = parallel.cluster.api
    async with asyncio.timeout(PATIENCE):
        while await pods(parallel):  # noqa: ASYNC110 (the API has no event to wait for)
            await asyncio.sleep(0.2)
    label = "labelSelector=app.kubernetes.io/instance%3Dpulltrace"
    roots = {
        f"/api/v1/namespaces/{NAMESPACE}": ("pods", "services", "serviceaccounts", "configmaps", "secrets"),
        "/apis/apps/v1": ("daemonsets", "deployments", "replicasets"),
        "/apis/rbac.authorization.k8s.io/v1": ("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
    }
    left = []
    for root, plurals in roots.items():
        for plural in plurals:
            left += [one["metadata"]["name"] for one in (await api.request("GET", f"{root}/{plural}?{label}"))["items"]]
    assert left == []
    with pytest.raises(APIError):
        await api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/pulltrace-agent-token")
