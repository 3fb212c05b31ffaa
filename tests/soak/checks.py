"""Check the invariants. Some invariants must always hold; the others must hold again once a fault is over."""

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import aiohttp

from tests.soak.cluster import HISTORY, SoakCluster
from tests.soak.follower import ENDED, Follower, Pull, seconds

ACTIVE = ("resolving", "downloading", "extracting")
CLOCKS = 2.0
"""The maximum difference, in seconds, between the times recorded by the soak test and by containerd."""


class Checks:
    """Fetch everything that the server publishes, and compare it with the stream, the metrics and the true state."""

    def __init__(self, cluster: SoakCluster, follower: Follower) -> None:
        self._cluster, self._follower = cluster, follower
        self.made: Counter[str] = Counter()
        self.reports: defaultdict[str, set[str]] = defaultdict(set)
        """The times of the reports that ``differences`` has seen, keyed by node."""

    async def agree(self, session: aiohttp.ClientSession) -> list[str]:
        """Compare the list, the stream, the gauges and the counters, if they are all from the same revision."""
        base, metrics = (
            f"http://127.0.0.1:{self._cluster.port}",
            f"http://127.0.0.1:{self._cluster.metrics_port}/metrics",
        )
        async with session.get(f"{base}/api/v1/pulls") as answer:
            tag, pulls = answer.headers["ETag"], json.loads(await answer.read())["pulls"]
        boot, revision = tag.strip('"').removesuffix("-gzip").split("-")
        wrong = []
        async with session.get(metrics) as answer:
            text = await answer.text()
        async with session.get(f"{base}/api/v1/pulls", headers={"If-None-Match": tag}) as answer:
            unchanged = answer.status == 304
        # The list is encoded while it is being sent, so some of its states may be newer than its ETag.
        if unchanged and (self._follower.boot, self._follower.revision) == (boot, int(revision)):
            self.made["list and stream"] += 1
            wrong += _differ({pull["id"]: pull for pull in pulls}, self._follower.table)
        if unchanged:
            self.made["gauges and list"] += 1
            active = Counter(pull["status"] for pull in pulls if pull["status"] not in ENDED)
            published = {phase: int(float(count)) for phase, count in _samples(text, "pulltrace_pulls_active")}
            if published != {phase: active[phase] for phase in published}:
                wrong.append(f"the gauges show {published}, the list {dict(active)}")
            stalled = sum("stalledSince" in pull for pull in pulls)
            if [stalled] != [int(float(count)) for _, count in _samples(text, "pulltrace_pulls_stalled")]:
                wrong.append(f"{stalled} pulls are stalled, and the gauge shows another number")
            counted = sum(float(count) for _, count in _samples(text, "pulltrace_pulls_total"))
            if self._follower.boot == boot and counted > self._follower.ends:
                wrong.append(f"{counted:g} ends were counted and {self._follower.ends} published")
        return wrong

    async def differences(self, since: float) -> dict[str, str]:
        """For each node whose true state differs from the published state, return the first difference. A node whose
        last report is older than ``since`` is also included.
        """
        nodes = {node["name"]: node for node in (await self._cluster.api.get("/api/v1/nodes"))["nodes"]}
        rows: dict[str, list[Pull]] = {}
        for pull in await self._cluster.api.pulls("?layers=false"):
            rows.setdefault(pull["nodeName"], []).append(pull)
        found = {}
        for site in self._cluster.sites:
            node = nodes.get(site.name)
            if node is None or node["state"] != "reporting" or seconds(node["lastSeen"]) < since:
                found[site.name] = f"{site.name} does not report"
                continue
            self.reports[site.name].add(node["lastSeen"])
            for sentence in self._node(site.name, rows.get(site.name, [])):
                found[site.name] = sentence
                break
        return found

    def _node(self, node: str, rows: list[Pull]) -> Iterator[str]:
        """Yield every violation: a live pull without a row, a live row without a pull, or a pull whose observed end has
        not been published.
        """
        now = time.time()
        active = {name for row in rows if row["status"] in ACTIVE for name in (row["imageRef"], row.get("repository"))}
        for truth in self._cluster.running(node):
            if truth.seen and truth.pull.image and not {truth.reference, truth.pull.reference.repository} & active:
                same = [_short(row) for row in rows if truth.pull.reference.repository in row["imageRef"]]
                yield f"{node}: {truth.reference} runs, but no row is live: {same}"
        late = [truth for truth in self._cluster.pulls if truth.node == node and (truth.ended or now) > now - SETTLED]
        names = {name for truth in late for name in (truth.reference, truth.pull.reference.repository)}
        for row in rows:
            known = {row["imageRef"], row.get("repository")} & names
            if row["status"] in ACTIVE and not known and row["imageRef"] != "__pulling__":
                yield f"{node}: {row['imageRef']} is {row['status']} but the node does not pull it"
        shown = {(row["imageRef"], round(seconds(row["completedAt"]))) for row in rows if row["status"] == "completed"}
        for truth in self._cluster.pulls:
            if truth.node != node or truth.ended is None or not truth.completed or not truth.seen:
                continue
            times = self._follower.completed.get((node, truth.reference), [])
            truth.told = truth.told or any(abs(at - truth.ended) <= CLOCKS for at in times)
            same = [_short(row) for row in rows if truth.pull.reference.repository in row["imageRef"]]
            if not truth.told:
                yield f"{node}: {truth.reference} completed {now - truth.ended:.0f} s ago, but is not published: {same}"
            near = {(truth.reference, round(truth.ended) + more) for more in (-2, -1, 0, 1, 2)}
            if now - truth.ended < HISTORY - 15 and not near & shown:
                yield f"{node}: {truth.reference} completed {now - truth.ended:.0f} s ago, and its row is gone: {same}"


def _short(row: Pull) -> tuple[str, ...]:
    return tuple(str(row.get(key, "")) for key in ("imageRef", "status", "attempt", "completedAt", "error"))


SETTLED = 3.0
"""How long, in seconds, a finished pull may still be shown as live."""


def _differ(list_: dict[str, Pull], stream: dict[str, Pull]) -> Iterator[str]:
    for id_ in list_.keys() | stream.keys():
        if list_.get(id_) != stream.get(id_):
            yield f"list and stream differ: {list_.get(id_)} is not {stream.get(id_)}"


def _samples(text: str, name: str) -> list[tuple[str, str]]:
    """For each sample of a metric, return the value of its last label and the value of the sample, as text."""
    return re.findall(rf'^{name}(?:{{(?:.*")?(?:[a-z]+="([^"]*)")}})? (\S+)$', text, re.MULTILINE)
