"""A real Prometheus scrapes the demo, evaluates the rules and returns data for every query in the dashboard."""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pulltrace.wire import ErrorReason
from tests.chart.rendering import CHART, render, values
from tests.chart.troubles import LARGE, troubles
from tests.patience import PATIENCE
from tests.real.process import Process, free_port

pytestmark = pytest.mark.chart

PROMETHEUS = shutil.which("prometheus")
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
OURS = ("PulltraceDown", "PulltraceAgentLost", "PulltraceCannotWatchCluster", "PulltraceRegistrySlow")


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a demo's metrics. The demo runs fast enough for pulls to fail during the test."""
    command = [sys.executable, "-m", "pulltrace", "demo", "--port=0", "--speed=10", "--nodes=8"]
    process = Process(command, tmp_path / "demo.log")

    async def found_it() -> bool:
        process.check()
        return "/metrics" in process.last_words()

    try:
        await eventually("the demo's address", found_it)
        yield re.findall(r"http://(127\.0\.0\.1:\d+)/metrics", process.log.read_text())[-1]
    finally:
        await process.end(signal.SIGTERM)


class Prometheus:
    """A client for the Prometheus HTTP API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{path}", params=parameters) as response:
            body = await response.json()
            assert response.status == 200, body
            return body["data"]

    async def query(self, expression: str) -> list[Any]:
        """Return the current series of an expression, except those whose value is NaN."""
        result = (await self.get("query", query=expression))["result"]
        return [one for one in result if one["value"][1] != "NaN"]


@pytest.fixture
async def prometheus(demo: str, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the demo every second and evaluates the chart's rules."""
    async with running(demo, tmp_path, rules()) as prometheus:
        yield prometheus


def rules() -> list[dict[str, Any]]:
    """Return the chart's rendered rules."""
    groups: list[dict[str, Any]] = render(values({"metrics.prometheusRule.enabled": True})).at(
        "PrometheusRule/pulltrace#spec.groups"
    )
    return groups


@contextlib.asynccontextmanager
async def running(target: str, folder: Path, groups: list[dict[str, Any]]) -> AsyncIterator[Prometheus]:
    """Start Prometheus and wait until it has scraped the target."""
    if PROMETHEUS is None:
        pytest.skip("no prometheus here (Debian's prometheus)")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "pulltrace", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [PROMETHEUS, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=error"]
    process = Process(command, folder / "prometheus.log")
    try:
        async with aiohttp.ClientSession() as session:
            prometheus = Prometheus(session, f"http://{address}")
            await eventually("Prometheus to scrape", lambda: scraped(prometheus))
            yield prometheus
    finally:
        await process.end(signal.SIGTERM)


async def scraped(prometheus: Prometheus) -> bool:
    try:
        return bool(await prometheus.query("pulltrace_build_info"))
    except aiohttp.ClientError:
        return False


async def eventually(what: str, holds: Callable[[], Awaitable[bool]], about: object = "") -> None:
    """Wait until ``await holds()`` is true."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.5)
    except TimeoutError:
        pytest.fail(f"timed out waiting for {what} {about}")


def expressions() -> dict[str, str]:
    """Return every query in the dashboard, with its variables replaced by values, as Grafana does."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = re.sub(r"\$(cluster|namespace|registry)\b", ".*", target["expr"])
            expression = expression.replace("$__rate_interval", "30s")
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def test_every_panel_has_a_description_and_filters_its_metrics_by_every_variable() -> None:
    labelled = (
        r"pulltrace_(pulls_total|pull_bytes_total|pull_cached_bytes_total|pull_errors_total|pull_duration_"
        r"|pulls_bound_total|pull_bound_seconds_total|slow_nodes)"
    )
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            metrics = re.findall(r"\b(pulltrace_\w+)(\{[^}]*\})?", target["expr"])
            for metric, selector in metrics:
                assert 'cluster=~"$cluster",namespace=~"$namespace"' in selector, metric
                assert ('registry=~"$registry"' in selector) == bool(re.match(labelled, metric)), metric


async def test_every_dashboard_query_returns_data(prometheus: Prometheus) -> None:
    # The demo's server never rejects a report, so the query for rejected reports returns no data.
    missing = {name: text for name, text in expressions().items() if "reports_rejected" not in text}

    async def answered() -> bool:
        for name, expression in list(missing.items()):
            if await prometheus.query(expression):
                del missing[name]
        return not missing

    await eventually("a result of", answered, missing)


async def test_the_rules_are_evaluated_and_no_unexpected_alert_fires(prometheus: Prometheus) -> None:
    noisy: list[str] = []

    async def quiet() -> bool:
        [group] = (await prometheus.get("rules"))["groups"]
        wrong = [rule["name"] for rule in group["rules"] if rule["health"] != "ok"]
        # The other alerts may fire, because some of the demo's pulls fail or stall.
        noisy[:] = wrong + [
            rule["name"] for rule in group["rules"] if rule["state"] != "inactive" and rule["name"] in OURS
        ]
        return not noisy

    await eventually("quiet from", quiet, noisy)


def shortened() -> list[dict[str, Any]]:
    """Return the chart's rules with minutes replaced by seconds.

    The rules' time windows are still long enough to cover all of the test's faults.
    """
    [group] = rules()
    for rule in group["rules"]:
        rule["expr"] = re.sub(r"\b(15m|30m)\b", "120s", rule["expr"]).replace("> 120", "> 10")
        if "for" in rule:
            rule["for"] = "2s"
    return [group]


IN_TROUBLE = {
    ("PulltraceAgentLost", "n2"),
    ("PulltraceCannotWatchCluster", "pods"),
    ("PulltraceCannotWatchCluster", "events"),
    ("PulltracePullsFailing", "broken.example.org unauthorized"),
    ("PulltracePullsStalled", ""),
    ("PulltraceRegistryRateLimited", "limited.example.org"),
    ("PulltraceRegistrySlow", "slow.example.org"),
    ("PulltraceSlowerThanUsual", "usual.example.org"),
}


async def test_each_alert_fires_only_during_the_fault_that_it_reports(tmp_path: Path) -> None:
    seen: set[tuple[str, str]] = set()

    async def firing(prometheus: Prometheus) -> set[tuple[str, str]]:
        now = set()
        for alert in (await prometheus.get("alerts"))["alerts"]:
            labels = alert["labels"]
            about = [labels[name] for name in ("node", "resource", "registry", "reason") if name in labels]
            if alert["state"] == "firing":
                now.add((labels["alertname"], " ".join(about)))
        seen.update(now)
        return now

    async with (
        troubles(tmp_path) as server,
        running(server.metrics, tmp_path, shortened()) as prometheus,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):
        reporting = group.create_task(server.report(session))
        for registry in ("slow.example.org", "fast.example.org"):
            await server.fetch(registry, 1, 1)
        server.pulled_elsewhere("usual.example.org", 10, times=3)  # fewer pulls are not enough to call a pull slow

        async def known() -> bool:
            ended = await prometheus.query('pulltrace_pulls_total{result="completed"} offset 3s')
            return len(ended) == 3 and len(await prometheus.query("pulltrace_kube_watch_up == 1")) == 2

        await eventually("the first results", known)
        assert await firing(prometheus) == set()

        server.moves = server.n2_lives = False
        server.refused.set()
        # Each kind of failure below creates a new time series. The alerts must also take the first value of such a
        # series into account.
        for _ in range(3):
            server.fail("broken.example.org", ErrorReason.UNAUTHORIZED)
        for _ in range(4):
            server.fail("fast.example.org", ErrorReason.CANCELED)
        server.fail("fast.example.org", ErrorReason.TIMEOUT)
        server.fail("limited.example.org", ErrorReason.RATE_LIMITED)
        server.pulled_elsewhere("usual.example.org", 100)
        await server.fetch("slow.example.org", LARGE, 1000)
        await server.fetch("fast.example.org", LARGE, 1)

        async def all_seen() -> bool:
            await firing(prometheus)
            return seen >= IN_TROUBLE

        await eventually("the alerts", all_seen, seen)
        assert seen == IN_TROUBLE

        reporting.cancel()
        await server.process.end(signal.SIGTERM)

        async def down() -> bool:
            return ("PulltraceDown", "") in await firing(prometheus)

        await eventually("the alert that the server is down", down)
