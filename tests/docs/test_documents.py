"""The documentation and the code refer to the same variables, routes, metrics, chart values and fields."""

import logging
import re
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from starlette.routing import Route

import pulltrace
from pulltrace import __version__, settings, wire
from pulltrace.server import models, responses
from pulltrace.server.api.auth import AnonymousAuthenticator
from pulltrace.server.api.routes import api_routes
from pulltrace.server.metrics import Metrics
from pulltrace.server.models import EventType, Factor
from pulltrace.server.pulls.hub import Hub
from pulltrace.server.responses import NodeState
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.real import ways

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md"))]
CHART = ROOT / "charts" / "pulltrace"
SHOWN = (
    models.PullStatus,
    models.LayerStatus,
    models.PodCorrelation,
    responses.PodWait,
    responses.ContainerWait,
    responses.ImageRollout,
    responses.RolloutNodes,
    responses.NodeStatus,
    responses.RegistryStatus,
    responses.OwnerPulls,
    wire.NodeLoad,
    models.Bound,
    responses.PodStart,
    responses.StartPhase,
)
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


def rows(page: str) -> dict[str, list[str]]:
    """Return the rows of a page's tables. Each name in backticks in a row's first cell is a key for the row's other
    cells.
    """
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
            found.update(dict.fromkeys(re.findall(r"`([^`]+)`", first), others))
    return found


def test_the_configuration_page_lists_every_variable_with_its_default_and_nothing_else() -> None:
    documented = rows("configuration.md")
    known = {item.metadata["name"]: item.metadata for item in settings.variables()}
    assert documented.keys() == known.keys()
    for name, metadata in known.items():
        assert (metadata["default"] or "") in documented[name][1], name
        assert ("required" in documented[name][1]) == metadata["required"], name


@each_text
def test_no_text_mentions_an_unknown_variable(path: Path) -> None:
    known = {item.metadata["name"] for item in settings.variables()}
    assert set(re.findall(r"\bPULLTRACE_[A-Z_]+[A-Z]\b", path.read_text())) <= known


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "docs/index.md", "docs/repository.md", "mkdocs.yml", "charts/pulltrace/Chart.yaml"),
        *("charts/pulltrace/README.md", "Dockerfile.server", "web/index.html"),
    ],
)
def test_the_project_is_described_by_the_same_sentence_everywhere(name: str) -> None:
    sentence = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["description"]
    assert sentence.casefold() in " ".join((ROOT / name).read_text().split()).casefold()


def test_install_commands_name_the_current_version_of_the_package() -> None:
    named = [name for path in TEXTS for name in re.findall(r"/v([^/]+)/pulltrace-(.+?)-py3-none-any", path.read_text())]
    assert set(named) == {(__version__, __version__)}


def test_other_commands_name_the_current_version() -> None:
    pattern = r"pulltrace-(?:(?:agent|server):)?(\d+\.\d+\.\d+)"
    assert {name for path in TEXTS for name in re.findall(pattern, path.read_text())} == {__version__}


def test_the_resource_requests_of_the_agent_match_the_measured_usage() -> None:
    [row] = re.findall(r"^\| \*\*now: (.+)$", (ROOT / "bench" / "README.md").read_text(), re.MULTILINE)
    megabytes, millicores = (
        [
            float(number)
            for cell in re.findall(rf"\*\*([^*]+) {unit}\*\*", row)
            for number in re.findall(r"[\d.]+", cell)
        ]
        for unit in ("MiB", "ms")
    )
    assert (len(megabytes), len(millicores)) == (3, 6)
    asked = yaml.safe_load((CHART / "values.yaml").read_text())["agent"]["resources"]["requests"]
    assert max(megabytes) <= int(asked["memory"].removesuffix("Mi")) < 2 * max(megabytes)
    assert max(millicores) <= int(asked["cpu"].removesuffix("m")) <= 2 * max(millicores)


def leaves(tree: object, path: str = "") -> set[str]:
    """Return the paths of all nodes in a tree of values, including inner nodes."""
    if not isinstance(tree, dict):
        return {path}
    return {path}.union(*(leaves(tree[name], f"{path}.{name}".lstrip(".")) for name in tree))


@each_text
def test_no_text_mentions_an_unknown_chart_value(path: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = leaves(values)
    roots = "|".join(values)
    for named in re.findall(rf"(?<![\w./-])((?:{roots})(?:\.[a-zA-Z]+)+)(?![\w/(])", path.read_text()):
        inside = any(named.startswith(f"{value}.") for value in known if value.rpartition(".")[2].endswith("Context"))
        assert named in known or inside or named.endswith((".md", ".py")), named


@pytest.fixture(scope="module")
def hub() -> Hub:
    """A hub that has received no reports."""
    return Hub(settings.load(settings.ServerSettings, {}), Metrics())


@pytest.fixture(scope="module")
def metrics(hub: Hub) -> set[str]:
    """The names of all metrics."""
    # Some metrics exist only if the hub watches a cluster.
    body = hub.metrics.render("text/plain", replace(hub.gauges(), watches=[("pods", True)]))
    return set(re.findall(r"^# TYPE (pulltrace_\S+) \S+$", body.decode(), re.MULTILINE))


def test_the_api_page_lists_every_route_and_nothing_else(hub: Hub) -> None:
    known = {
        route.path for route in api_routes(hub, AnonymousAuthenticator(), lambda: None) if isinstance(route, Route)
    } | {
        "/",
        "/metrics",
    }
    assert {name.split()[1] for name in rows("api.md") if re.match(r"(GET|POST) /", name)} == known


def test_the_metrics_page_lists_every_metric_and_nothing_else(metrics: set[str]) -> None:
    assert rows("metrics.md").keys() == metrics


def test_the_traces_page_lists_every_attribute_and_nothing_else() -> None:
    source = (Path(pulltrace.__file__).parent / "server" / "traces.py").read_text()
    used = set(re.findall(r'"((?:k8s|container|oci|error|pulltrace)\.[a-z_.]+)":', source))
    documented = {name for name in rows("traces.md") if "." in name}
    assert used
    assert used == documented


@pytest.mark.parametrize("name", ["files/alerts.yaml", "files/dashboard.json"])
def test_the_alerts_and_the_dashboard_use_only_existing_metrics(name: str, metrics: set[str]) -> None:
    text = (CHART / name).read_text()
    asked = set(re.findall(r"\bpulltrace_[a-z_]+[a-z]\b", text))
    parts = {f"{metric}_{part}" for metric in metrics for part in ("bucket", "sum", "count")}
    assert asked <= metrics | parts


def test_every_runbook_link_points_to_an_existing_section() -> None:
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
    headings = re.findall(r"^### (Pulltrace\w+)$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert set(headings) == {rule["alert"] for rule in alerts}


def test_the_api_page_lists_every_field_and_every_value() -> None:
    page = (DOCS / "api.md").read_text()
    for kind in SHOWN:
        for name in kind.__struct_encode_fields__:
            assert f"`{name}`" in page, f"{kind.__name__}.{name}"
    for word in [*ErrorReason, *EventType, *PullPhase]:
        assert f"`{word.value}`" in page, word
    assert rows("verdicts.md").keys() == {"by", *Factor}
    knows = (DOCS / "how-it-knows.md").read_text()
    for state in [*PullPhase, *LayerPhase]:
        assert f"`{state.value}`" in knows, state
    for word in (NodeState.LATE, NodeState.LOST):
        assert word.value in (DOCS / "troubleshooting.md").read_text()


@pytest.mark.parametrize(
    "path",
    [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")],
    ids=lambda path: path.name,
)
def test_relative_links_in_documents_outside_the_site_point_to_existing_files(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_screenshot_is_used_on_a_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    shots = {path.name for path in (ROOT / "docs" / "images").glob("*.png")}
    assert len(shots) > 5
    assert {name for name in shots if f"images/{name}" not in pages} == set()


def test_the_compatibility_page_lists_every_tested_way_of_pulling_and_nothing_else() -> None:
    assert ways.table() in (DOCS / "compatibility.md").read_text(), ways.table()


def test_the_security_page_names_only_existing_tests() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "SECURITY.md").read_text())
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_stubs_of_the_agent_contain_exactly_the_calls_that_the_security_page_lists() -> None:
    calls = set()
    for proto in (Path(pulltrace.__file__).parent / "agent" / "containerd_api").rglob("*.proto"):
        text = proto.read_text()
        if service := re.search(r"^service (\w+)", text, re.MULTILINE):
            calls |= {f"{service[1]}.{name}" for name in re.findall(r"^  rpc (\w+)", text, re.MULTILINE)}
    security = (ROOT / "SECURITY.md").read_text()
    services = "Version|Content|Leases|Images|Snapshots|Introspection|Events"
    assert set(re.findall(rf"`((?:{services})\.\w+)`", security)) == calls


def foreign_parts(html: str) -> list[str]:
    """Return the HTML tags that would make a browser load a script, style sheet, font or image from another host.

    Elements with the class ``mermaid`` are included too, because Material for MkDocs loads a library from another host
    for them.
    """
    tags = re.findall(r"<(?:script|link|img|iframe|source|video|object|embed)\b[^>]*>", html)
    loading = [tag for tag in tags if not re.search(r'rel="?(canonical|alternate|next|prev|edit)\b', tag)]
    return [tag for tag in loading if re.search(r"""(src|href|data|srcset)=["']?(https?:)?//""", tag)] + re.findall(
        r'class="[^"]*\bmermaid\b', html
    )


def test_the_site_builds_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    # Ignore deprecation warnings from the libraries that MkDocs imports.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
        build = pytest.importorskip("mkdocs.commands.build", reason="mkdocs-material is not installed")
        config = pytest.importorskip("mkdocs.config")
        monkeypatch.chdir(ROOT)
        with caplog.at_level(logging.WARNING, logger="mkdocs"):
            site = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
            build.build(site)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("mkdocs")] == []
    assert (tmp_path / "site" / "configuration" / "index.html").read_text().count("agent.containerd.socketPath") >= 1
    assert not (tmp_path / "site" / "charts").exists()
    for page in (tmp_path / "site").rglob("*.html"):
        assert foreign_parts(page.read_text()) == [], page
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style
    start = (tmp_path / "site" / "index.html").read_text()
    [social] = re.findall(r'property="og:image" content="([^"]+)"', start)
    assert (tmp_path / "site" / social.removeprefix(site.site_url)).is_file()
    assert not (tmp_path / "site" / "overrides").exists()
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (tmp_path / "site" / about["icon"].removeprefix(site.site_url)).is_file()


def test_the_docs_pages_of_a_fork_link_to_the_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
        monkeypatch.setenv("REPOSITORY", "Someone/pulls")
        monkeypatch.setenv("SITE_URL", "https://someone.github.io/pulls/")
        build = pytest.importorskip("mkdocs.commands.build", reason="mkdocs-material is not installed")
        config = pytest.importorskip("mkdocs.config")
        monkeypatch.chdir(ROOT)
        build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    page = (tmp_path / "site" / "installation" / "index.html").read_text()
    assert "oci://ghcr.io/someone/charts/pulltrace" in page
    assert "d44b" not in page
