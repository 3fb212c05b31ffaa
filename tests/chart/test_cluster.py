"""Tests in which the Helm binary installs the chart on a real API server.

The cluster has no kubelet, so the tests make the status updates that a kubelet would make.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pulltrace.server.kubernetes.api import EVENTS, PODS
from tests.chart.rendering import CHART, PLATFORMS, PRESETS, render, values
from tests.patience import PATIENCE
from tests.real.apiserver import APIError, APIServer
from tests.real.process import Process, free_port
from tests.real.versions import HELM

pytestmark = [pytest.mark.chart, pytest.mark.cluster]

NAMESPACE = "pulltrace"
FLAGS = ("--namespace", NAMESPACE)
ACKNOWLEDGED = ("--set", "agent.runtimeSocket.risksAcknowledged=true")
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/pulltrace-agent-token"
REVIEW = (["tokenreviews"], ["create"])
OF_EVERY_ACCOUNT = {
    "selfsubjectreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "clustertrustbundles",
}
Helm = Callable[..., Awaitable[str]]

# Group, version, kind and plural of the resources that other projects define.
FOREIGN = [
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ("grafana.integreatly.org", "v1beta1", "GrafanaDashboard", "grafanadashboards"),
    ("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler", "verticalpodautoscalers"),
]


@pytest.fixture
def helm(cluster: APIServer, tmp_path: Path) -> Helm:
    """Return a function that runs Helm against the cluster, as its admin, and returns Helm's output."""
    program = str(HELM.path) if HELM.path.exists() else shutil.which("helm")
    if program is None:
        pytest.skip("no helm here; `make parts` builds it")
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    environment |= {f"HELM_{name}_HOME": str(tmp_path / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}

    async def run(*words: object) -> str:
        process = await asyncio.create_subprocess_exec(
            program,
            *map(str, words),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    return run


def collection(document: dict[str, Any], plural: str) -> str:
    """Return the API path at which objects of this kind are created."""
    version, namespace = document["apiVersion"], document["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


async def plurals(cluster: APIServer, verb: str = "create") -> dict[tuple[str, str], str]:
    """Return the plural name of each resource that supports this verb, keyed by (apiVersion, kind). Raise APIError if
    the resources of a listed group cannot be read.
    """
    groups = (await cluster.request("GET", "/apis"))["groups"]
    roots = {"v1": "/api/v1"} | {
        one["groupVersion"]: f"/apis/{one['groupVersion']}" for g in groups for one in g["versions"]
    }
    known = {}
    for version, root in roots.items():
        for resource in (await cluster.request("GET", root))["resources"]:
            if "/" not in resource["name"] and verb in resource["verbs"]:
                known[version, resource["kind"]] = resource["name"]
    return known


async def make_namespaces(cluster: APIServer, *names: str) -> None:
    for name in names:
        await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


async def make_foreign_kinds(cluster: APIServer) -> None:
    """Create CRDs that accept any object, because their real schemas belong to other projects."""
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    for group, version, kind, plural in FOREIGN:
        spec = {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": anything}],
        }
        # Groups under k8s.io are protected: their CRDs need this annotation.
        note = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"}
        crd = {"metadata": {"name": f"{plural}.{group}", "annotations": note}, "spec": spec}
        await cluster.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    async with asyncio.timeout(PATIENCE):
        while not await served(cluster):  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.2)


async def served(cluster: APIServer) -> bool:
    """Return whether discovery lists all foreign kinds, and whether the objects of each kind can be listed. Both must
    be checked, because the API server briefly lists a new group without its resources.
    """
    try:
        known = await plurals(cluster)
        for group, version, kind, plural in FOREIGN:
            if (f"{group}/{version}", kind) not in known:
                return False
            await cluster.request("GET", f"/apis/{group}/{version}/{plural}")
    except APIError:
        return False
    return True


async def test_every_object_of_every_preset_passes_a_strict_server_side_dry_run(cluster: APIServer) -> None:
    await make_namespaces(cluster, NAMESPACE, "observability", "grafana")
    await make_foreign_kinds(cluster)
    known, seen = await plurals(cluster), set()
    given = [yaml.safe_load(preset.read_text()) for preset in PRESETS]
    given += [values(yaml.safe_load(preset.read_text())) for preset in PLATFORMS]
    for chosen in given:
        rendered = render(chosen, namespace=NAMESPACE)
        for key, document in (rendered.objects | rendered.hooks).items():
            kind = (document["apiVersion"], document["kind"])
            if key.startswith(("ConfigMap/pulltrace-extra", "ConfigMap/pulltrace-text")):
                document["metadata"]["namespace"] = NAMESPACE
            path = collection(document, known[kind])
            await cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", document)
            seen.add(kind[1])
    assert seen >= {
        "DaemonSet",
        "Deployment",
        "Service",
        "Ingress",
        "HTTPRoute",
        "NetworkPolicy",
        "ServiceMonitor",
        "Pod",
    }


async def test_the_strict_dry_run_rejects_an_unknown_field(cluster: APIServer) -> None:
    await make_namespaces(cluster, NAMESPACE)
    rendered = render(yaml.safe_load((CHART / "ci" / "default-values.yaml").read_text()), namespace=NAMESPACE)
    document = rendered.at("Deployment/pulltrace-server#spec")
    document["replica"] = 1
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments?dryRun=All&fieldValidation=Strict"
    with pytest.raises(APIError, match=r'unknown field "spec\.replica"'):
        await cluster.request("POST", deployments, rendered.objects["Deployment/pulltrace-server"])


async def of_the_release(cluster: APIServer) -> set[str]:
    """Return the path of every stored object that is in the release's namespace or named after the release.

    Other objects are ignored, because the API server keeps creating built-in objects for a while after it is ready.
    """
    found = set()
    for (version, _), plural in (await plurals(cluster, "list")).items():
        if version in ("events.k8s.io/v1", "coordination.k8s.io/v1") or plural in ("events", "apiservices"):
            continue
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        items = (await cluster.request("GET", f"{root}/{plural}"))["items"]
        found |= {f"{root}/{plural} {item['metadata'].get('namespace')} {item['metadata']['name']}" for item in items}
    return {path for path in found if NAMESPACE in path}


async def test_uninstalling_a_release_leaves_nothing_behind(cluster: APIServer, helm: Helm) -> None:
    await make_namespaces(cluster, NAMESPACE)
    before = await of_the_release(cluster)

    notes = await helm("install", "pulltrace", CHART, *FLAGS, *ACKNOWLEDGED, "--set=agent.auth.mode=token")
    assert "an agent runs on every Linux node" in notes
    assert len(await of_the_release(cluster)) > len(before) + 5
    token = (await cluster.request("GET", SECRET))["data"]["token"]
    agent = await cluster.request("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/pulltrace-agent")

    await helm("upgrade", "pulltrace", CHART, *FLAGS, "--reuse-values", "--set=config.historyTTL=1h")
    assert (await cluster.request("GET", SECRET))["data"]["token"] == token, "a generated token is kept"
    upgraded = await cluster.request("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/pulltrace-agent")
    assert upgraded["metadata"]["generation"] == agent["metadata"]["generation"], (
        "a changed value of the server restarts no agent"
    )

    await asyncio.gather(helm("test", "pulltrace", *FLAGS, "--timeout=180s"), succeed(cluster, "pulltrace-test"))

    await helm("uninstall", "pulltrace", *FLAGS)
    assert await of_the_release(cluster) == before


async def succeed(cluster: APIServer, name: str) -> None:
    """Wait until the pod exists, then set its phase to Succeeded, as its kubelet would."""
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    async with asyncio.timeout(PATIENCE):
        while not any(pod["metadata"]["name"] == name for pod in (await cluster.request("GET", pods))["items"]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    path, kind = f"{pods}/{name}/status", "application/merge-patch+json"
    await cluster.request("PATCH", path, {"status": {"phase": "Succeeded"}}, content_type=kind)


@pytest.mark.parametrize("namespaces", ["", "shop"], ids=["all namespaces", "one namespace"])
async def test_the_server_has_exactly_the_permissions_it_needs(
    cluster: APIServer, helm: Helm, namespaces: str, tmp_path: Path
) -> None:
    await make_namespaces(cluster, NAMESPACE, "shop", "other")
    await helm("install", "pulltrace", CHART, *FLAGS, *ACKNOWLEDGED, f"--set=config.watchNamespaces={namespaces}")
    server = await cluster.service_account_token(NAMESPACE, "pulltrace-server")
    agent = await cluster.service_account_token(NAMESPACE, "pulltrace-agent")
    watched = sorted(resource.name for resource in (PODS, EVENTS))
    for resource, verb in [
        *((name, verb) for name in watched for verb in ("list", "watch")),
        ("tokenreviews", "create"),
    ]:
        group = "authentication.k8s.io" if resource == "tokenreviews" else ""
        where = "" if group else namespaces
        await cluster.until_may(f"{NAMESPACE}:pulltrace-server", verb, resource, group=group, namespace=where)
    for namespace in (NAMESPACE, "shop", "other"):
        expected = [(watched, ["list", "watch"])] if namespaces in ("", namespace) else []
        assert sorted(await rights(cluster, server, namespace)) == sorted([*expected, REVIEW])
        assert await rights(cluster, agent, namespace) == []

    kubeconfig = tmp_path / "server.kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig_for(server))
    await becomes_ready(kubeconfig, namespaces)


async def becomes_ready(kubeconfig: Path, namespaces: str) -> None:
    """Start the server with a kubeconfig that contains only its own token, and wait until it is ready."""
    port = free_port()
    variables = {
        "KUBECONFIG": str(kubeconfig),
        "PULLTRACE_HTTP_ADDR": f"127.0.0.1:{port}",
        "PULLTRACE_METRICS_ADDR": "127.0.0.1:0",
        "PULLTRACE_WATCH_NAMESPACES": namespaces,
    }
    command = [
        "env",
        *(f"{name}={value}" for name, value in variables.items()),
        sys.executable,
        "-m",
        "pulltrace",
        "server",
    ]
    process = Process(command, kubeconfig.parent / "server.log")
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
            while not await returns_ok(session, f"http://127.0.0.1:{port}/readyz"):  # polls like a readiness probe
                process.check()
                await asyncio.sleep(0.1)
        assert "forbidden" not in process.last_words()
    finally:
        await process.end(signal.SIGTERM)


async def returns_ok(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def rights(cluster: APIServer, token: str, namespace: str) -> list[tuple[list[str], list[str]]]:
    """Return a token's permissions in a namespace as (resources, verbs) pairs, except the permissions that every
    service account has.
    """
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = await cluster.request("POST", path, {"spec": {"namespace": namespace}}, token=token)
    rules = [rule for rule in answer["status"]["resourceRules"] if not OF_EVERY_ACCOUNT.issuperset(rule["resources"])]
    return [(sorted(rule["resources"]), sorted(rule["verbs"])) for rule in rules]


def workload(kind: str, name: str) -> dict[str, Any]:
    """Return a workload from chart 0.1.0, with the parts that an upgrade must preserve: its name, its selector and its
    container's name.
    """
    labels = {"app.kubernetes.io/name": f"pulltrace-{name}", "app.kubernetes.io/instance": "pulltrace"}
    container = {"name": f"pulltrace-{name}", "image": f"ghcr.io/d44b/pulltrace-{name}:0.1.0"}
    if name == "agent":
        mount = {"name": "containerd-socket", "mountPath": "/run/containerd/containerd.sock"}
        container["volumeMounts"] = [mount]  # type: ignore[assignment]
    volume = {"name": "containerd-socket", "hostPath": {"path": "/run/containerd/containerd.sock", "type": "Socket"}}
    pod = {"containers": [container], "volumes": [volume] if name == "agent" else []}
    template = {"metadata": {"labels": labels}, "spec": pod}
    meta = {"name": f"pulltrace-{name}", "namespace": NAMESPACE, "labels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta,
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


async def test_a_release_of_chart_0_1_0_is_upgraded_in_place(cluster: APIServer, helm: Helm, tmp_path: Path) -> None:
    await make_namespaces(cluster, NAMESPACE)
    group = "rbac.authorization.k8s.io"
    role = {"name": "pulltrace-pod-reader"}
    subject = {"kind": "ServiceAccount", "name": "pulltrace-server", "namespace": NAMESPACE}
    binding = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", **role}, "subjects": [subject]}
    server = workload("Deployment", "server")
    ports = [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}]
    service = {"ports": ports, "selector": server["spec"]["selector"]["matchLabels"]}
    objects = [
        workload("DaemonSet", "agent"),
        server,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pulltrace-config", "namespace": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": server["metadata"], "spec": service},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": server["metadata"]},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": role, "rules": []},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": role, **binding},
    ]
    old = tmp_path / "pulltrace"
    (old / "templates").mkdir(parents=True)
    (old / "Chart.yaml").write_text("apiVersion: v2\nname: pulltrace\nversion: 0.1.0\n")
    (old / "templates" / "all.yaml").write_text("\n---\n".join(json.dumps(document) for document in objects))
    await helm("install", "pulltrace", old, *FLAGS)

    with pytest.raises(AssertionError, match="helm upgrade --reset-then-reuse-values"):
        await helm("upgrade", "pulltrace", CHART, *FLAGS, *ACKNOWLEDGED, "--reuse-values")
    await helm("upgrade", "pulltrace", CHART, *FLAGS, *ACKNOWLEDGED, "--reset-then-reuse-values")
    apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"
    for path in (f"{apps}/daemonsets/pulltrace-agent", f"{apps}/deployments/pulltrace-server"):
        workload_now = await cluster.request("GET", path)
        [container] = workload_now["spec"]["template"]["spec"]["containers"]
        assert container["image"].endswith(":0.2.0")
    pod = (await cluster.request("GET", f"{apps}/daemonsets/pulltrace-agent"))["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["containerd", "token"]
    with pytest.raises(APIError) as gone:
        await cluster.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/pulltrace-config")
    assert gone.value.code == 404


async def test_the_chart_can_be_installed_as_a_conditional_dependency(
    cluster: APIServer, helm: Helm, tmp_path: Path
) -> None:
    await make_namespaces(cluster, NAMESPACE)
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "pulltrace")
    dependency = {"name": "pulltrace", "version": ">=0.1.0", "condition": "pulltrace.enabled"}
    about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
    acknowledged = "--set=pulltrace.agent.runtimeSocket.risksAcknowledged=true"
    await helm("install", "parent", parent, *FLAGS, acknowledged, "--set=pulltrace.enabled=true")
    daemonsets = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
    [agent] = (await cluster.request("GET", daemonsets))["items"]
    assert agent["metadata"]["name"] == "parent-pulltrace-agent"
    await helm("upgrade", "parent", parent, *FLAGS, acknowledged, "--set=pulltrace.enabled=false")
    assert (await cluster.request("GET", daemonsets))["items"] == []
