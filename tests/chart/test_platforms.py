"""Each platform's values file can be rendered, sets the right socket, and is listed on the compatibility page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART as CHART_FOLDER
from tests.chart.rendering import PLATFORMS, HelmRenderError, helm, render, values
from tests.real.versions import HELM

pytestmark = pytest.mark.chart

DEFAULT = "/run/containerd/containerd.sock"
SOCKETS = {
    "aks": DEFAULT,
    "eks-al2023": DEFAULT,
    "eks-auto-mode": DEFAULT,
    "eks-bottlerocket": DEFAULT,
    "gke-standard": DEFAULT,
    "k0s": "/run/k0s/containerd.sock",
    "k3s": "/run/k3s/containerd/containerd.sock",
    "kind": DEFAULT,
    "microk8s": "/var/snap/microk8s/common/run/containerd.sock",
    "minikube": DEFAULT,
    "openshift": None,
    "rke2": "/run/k3s/containerd/containerd.sock",
    "talos": DEFAULT,
}
AGENT = "DaemonSet/pulltrace-agent#spec.template.spec"
SERVER = "Deployment/pulltrace-server#spec.template.spec"
each_platform = pytest.mark.parametrize("path", PLATFORMS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    return values(yaml.safe_load(path.read_text()))


@each_platform
def test_the_values_file_for_each_platform_sets_the_right_containerd_socket(path: Path) -> None:
    rendered = render(load(path))
    assert rendered.at(f"{AGENT}.containers.0.env.[PULLTRACE_CONTAINERD_SOCKET].value") == SOCKETS[path.stem]
    assert helm.lint(CHART_FOLDER, load(path), strict=True)["messages"] == []
    assert rendered.at(f"{SERVER}.containers.0.image").startswith("ghcr.io/d44b/pulltrace-server:")


@each_platform
def test_the_user_must_acknowledge_the_risks_on_every_platform(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    if SOCKETS[path.stem] is None:
        render(given)
    else:
        with pytest.raises(HelmRenderError, match="risksAcknowledged=true"):
            render(given)
        assert "--set agent.runtimeSocket.risksAcknowledged=true" in path.read_text()


def template(path: Path, version: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Render with the Helm binary, because the library has no option for the Kubernetes version."""
    program = str(HELM.path) if HELM.path.exists() else shutil.which("helm")
    if program is None:
        pytest.skip("no helm here; `make parts` builds it")
    command = [program, "template", "pulltrace", CHART_FOLDER, "--values", path, "--kube-version", version, *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@each_platform
@pytest.mark.parametrize("version", ["1.25.0", "1.29.15", "1.30.0", "1.37.2"])
def test_the_values_file_for_each_platform_renders_for_every_supported_kubernetes_version(
    path: Path, version: str
) -> None:
    flags = ["--set=agent.runtimeSocket.risksAcknowledged=true"]
    done = template(path, version, *flags)
    if version < "1.30":
        assert "agent.auth.mode=serviceAccount needs Kubernetes 1.30" in done.stderr
        done = template(path, version, *flags, "--set=agent.auth.mode=token")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind: Deployment" in done.stdout


def test_a_kubernetes_version_that_is_too_old_is_rejected() -> None:
    assert "which is incompatible with Kubernetes v1.24.0" in template(PLATFORMS[0], "1.24.0").stderr


def test_the_agent_reads_the_soci_directory_in_auto_mode() -> None:
    [path] = [path for path in PLATFORMS if path.stem == "eks-auto-mode"]
    volume = render(load(path)).at(f"{AGENT}.volumes.[soci].hostPath.path")
    assert volume == "/var/lib/soci-snapshotter"


def test_the_expected_sockets_cover_every_platform() -> None:
    assert SOCKETS.keys() == {path.stem for path in PLATFORMS}


@pytest.mark.parametrize("name", ["eks-bottlerocket", "eks-auto-mode"])
def test_the_agent_has_the_selinux_type_spc_t_on_platforms_that_always_enforce_selinux(name: str) -> None:
    [path] = [path for path in PLATFORMS if path.stem == name]
    assert render(load(path)).at(f"{AGENT}.containers.0.securityContext.seLinuxOptions.type") == "spc_t"


def test_the_server_on_openshift_runs_as_the_user_that_openshift_assigns() -> None:
    [path] = [path for path in PLATFORMS if path.stem == "openshift"]
    assert render(load(path)).at(f"{SERVER}.securityContext") == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_the_compatibility_page_lists_every_platform() -> None:
    page = (CHART_FOLDER.parents[1] / "docs" / "compatibility.md").read_text()
    assert set(re.findall(r"`presets/([\w-]+)\.yaml`", page)) == SOCKETS.keys()
