"""Tests with a real API server that is down, hangs, is slow, forbids requests, or rejects the token. Pulltrace's server
catches up when the fault has ended.
"""

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from tests.faults.lab import Fault, Lab
from tests.server.kubernetes.test_rights import chart_roles  # noqa: F401  # imported as a fixture
from tests.server.kubernetes.writing import Writer
from tests.soak.wire import Wire

pytestmark = pytest.mark.cluster
ROLES = "/apis/rbac.authorization.k8s.io/v1"
MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"


class Cluster(Lab):
    """A lab whose server watches an API server. The tests write to the API server in place of the node's kubelet."""

    writer: Writer

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._pods = {}

    async def requested(self, pull, name):
        """Create the pod that needs the image, and the kubelet's event about the pull. Return both as ``PodEvents``."""
        arrival = PodEvents(pod(name, "worker-1", {"app": str(pull.reference)}, at=time.time()))
        await self.writer.create(arrival)
        await self.writer.event(arrival.pulling("app", time.time()))
        self._pods[pull.reference.name] = name
        return arrival

    async def wrong(self, since):
        """Return the first difference between the server's state and the node's. It also counts as a difference if a
        row does not show the pod that needs the image.
        """
        for row in await self.api.pulls():
            wanted = self._pods.get(row["imageRef"].rpartition(":")[0])
            if wanted and wanted not in [pod["podName"] for pod in row.get("pods", [])]:
                return f"{row['imageRef']} is not known to be for {wanted}"
        return await super().wrong(since)


@asynccontextmanager
async def followed(cluster, folder, **server):
    """Start a lab and a pull of an image that a pod needs, and yield the lab once the server shows the pull."""
    lab = Cluster(folder)
    lab.writer = Writer(cluster)
    try:
        await lab.start(server=server)
        before = lab.pull("before", 12)
        await lab.requested(before, "before")
        await lab.recovered()
        yield lab
    finally:
        await lab.close()


async def test_pods_are_shown_again_once_a_stopped_api_server_restarts(cluster, tmp_path):
    async with followed(cluster, tmp_path, environment={"KUBECONFIG": str(cluster.kubeconfig)}) as lab:
        async with Fault(lab, "API server down for 12 s", "pulls continue, and pods are shown afterwards") as seen:
            await cluster.kill()
            late = lab.held("late", 8)
            await lab.until(lambda: lab.row(late, "downloading"))
            await asyncio.sleep(12)
            await cluster.start()
            seen.over()
            await lab.requested(late, "late")
            lab.release(late)


async def test_pods_are_shown_again_once_a_frozen_api_server_resumes(cluster, tmp_path):
    async with followed(cluster, tmp_path, environment={"KUBECONFIG": str(cluster.kubeconfig)}) as lab:
        async with Fault(
            lab, "API server frozen (SIGSTOP)", "pulls continue, and pods are shown again afterwards"
        ) as seen:
            os.kill(cluster._apiserver.pid, signal.SIGSTOP)
            late = lab.held("late", 8)
            await lab.until(lambda: lab.row(late, "downloading"))
            await asyncio.sleep(3)
            os.kill(cluster._apiserver.pid, signal.SIGCONT)
            seen.over()
            await lab.requested(late, "late")
            lab.release(late)


async def test_events_from_a_slow_api_server_arrive_late_but_no_event_is_lost(cluster, tmp_path):
    async with Wire(cluster.port) as wire:
        config = tmp_path / "slow"
        config.write_text(cluster.kubeconfig.read_text().replace(f":{cluster.port}", f":{wire.port}"))
        async with followed(cluster, tmp_path, environment={"KUBECONFIG": str(config)}) as lab:
            async with Fault(lab, "API server sends 500 B/s", "pulls continue, and pods are shown late") as seen:
                wire.slow(500)
                late = lab.held("late", 8)
                await lab.requested(late, "late")
                await lab.until(lambda: lab.row(late, "downloading"))
                await asyncio.sleep(2)
                wire.mend()
                seen.over()
                lab.release(late)


async def test_the_server_notices_when_permissions_are_removed_and_restored(cluster, chart_roles, tmp_path):  # noqa: F811
    config = await chart_roles()
    async with Wire(cluster.port) as wire:
        config.write_text(config.read_text().replace(f":{cluster.port}", f":{wire.port}"))
        async with followed(cluster, tmp_path, environment={"KUBECONFIG": str(config)}) as lab:
            bindings = (await cluster.request("GET", f"{ROLES}/clusterrolebindings"))["items"]
            (binding,) = [item for item in bindings if item["roleRef"]["name"].endswith("pod-reader")]
            async with Fault(
                lab,
                "API server forbids the watches",
                "the page shows the reason, and shows pods again when the watches are allowed",
            ) as seen:
                await cluster.request("DELETE", f"{ROLES}/clusterrolebindings/{binding['metadata']['name']}")
                wire.reset()  # the API server checks permissions only when a watch starts
                await asyncio.sleep(1)
                wire.mend()
                await lab.until(lambda: lab.said("kube.watch.forbidden"))
                late = lab.held("late", 8)
                await lab.requested(late, "late")
                await lab.until(lambda: lab.row(late, "downloading"))
                kept = {key: binding["metadata"][key] for key in ("name", "labels") if key in binding["metadata"]}
                await cluster.request("POST", f"{ROLES}/clusterrolebindings", binding | {"metadata": kept})
                seen.over()
                lab.release(late)


async def test_a_rejected_token_is_replaced_by_the_newly_mounted_token(
    cluster,
    chart_roles,  # noqa: F811
    tmp_path,
):
    await chart_roles()
    account = "/api/v1/namespaces/pulltrace/serviceaccounts"
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "ca.crt").write_bytes(cluster.certificate.read_bytes())
    (mounted / "token").write_text(await cluster.service_account_token("pulltrace", "pulltrace-server"))
    mount = f'mkdir -p {MOUNTED} && mount --bind {mounted} {MOUNTED} && exec "$@"'
    async with Wire(cluster.port) as wire:
        where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(wire.port)}
        half = {"before": ("unshare", "--mount", "sh", "-c", mount, "sh"), "environment": where}
        async with followed(cluster, tmp_path, **half) as lab:
            made = await cluster.request("GET", f"{account}/pulltrace-server")
            async with Fault(
                lab, "API server no longer accepts the token", "the old token receives 401, and the new token is used"
            ) as seen:
                await cluster.request("DELETE", f"{account}/pulltrace-server")
                wire.reset()
                await asyncio.sleep(1)
                wire.mend()
                await lab.until(lambda: lab.said("kube.watch.down"))
                late = lab.held("late", 8)
                await lab.requested(late, "late")
                await lab.until(lambda: lab.row(late, "downloading"))
                await cluster.request("POST", account, {"metadata": {"name": made["metadata"]["name"]}})
                token = await cluster.service_account_token("pulltrace", "pulltrace-server")
                (mounted / "next").write_text(token)
                (mounted / "next").rename(mounted / "token")
                seen.over()
                lab.release(late)
                assert json.dumps(token) not in lab.server.output
