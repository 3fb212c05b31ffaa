"""Tests for which service accounts may send reports. A real API server issues and reviews the tokens."""

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter

import aiohttp
import pytest

from pulltrace.server.api.auth import RefusedError
from pulltrace.server.api.token_review import (
    FRESH,
    HELD,
    MOST_AT_ONCE,
    MOST_REFUSED,
    MOST_WAITING,
    TokenReviewAuthenticator,
)
from pulltrace.server.kubernetes import client
from pulltrace.server.kubernetes.api import Review
from tests.e2e.programs import Api, Program
from tests.patience import PATIENCE
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.server.kubernetes.accounts import ACCOUNT, AGENT, LIFE, Accounts

pytestmark = pytest.mark.cluster


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def cluster(shared_cluster):
    return shared_cluster


@pytest.fixture
async def accounts(cluster):
    made = Accounts(cluster)
    await made.prepare(AGENT, "somebody-else")
    for node in ("n1", "n2"):
        await made.agent_on(node)
    return made


@contextlib.asynccontextmanager
async def connected(kubeconfig):
    api = await client.connect({"KUBECONFIG": str(kubeconfig)})
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
async def api(cluster):
    async with connected(cluster.kubeconfig) as api:
        yield api


async def refused(authenticator, token) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await authenticator.authenticate(f"Bearer {token}".encode())
    assert token not in str(caught.value)
    return caught.value


async def test_the_token_of_an_agent_identifies_its_node(api, accounts):
    authenticator = TokenReviewAuthenticator(ACCOUNT, api)
    for node in ("n1", "n2"):
        assert await authenticator.authenticate(f"Bearer {await accounts.token(node)}".encode()) == node


async def test_tokens_for_a_different_audience_or_account_are_rejected(api, accounts):
    authenticator = TokenReviewAuthenticator(ACCOUNT, api)
    for audience in ("https://kubernetes.default.svc", "vault"):
        assert "audience" in str(await refused(authenticator, await accounts.token("n1", audience=audience)))
    default = await accounts.cluster.service_account_token("pulltrace", AGENT)
    assert (await refused(authenticator, default)).status == 401
    unbound = await accounts.cluster.service_account_token("pulltrace", AGENT, audiences=["pulltrace"])
    error = await refused(authenticator, unbound)
    assert (error.status, "not bound to a node" in str(error)) == (403, True)
    other = await accounts.cluster.service_account_token("pulltrace", "somebody-else", audiences=["pulltrace"])
    assert (await refused(authenticator, other)).status == 403


async def test_an_expired_token_is_rejected_even_while_its_review_is_cached(api, accounts):
    clock = Clock()
    authenticator = TokenReviewAuthenticator(ACCOUNT, api, clock)
    token = await accounts.token("n1")
    assert await authenticator.authenticate(f"Bearer {token}".encode()) == "n1"
    clock.ahead = LIFE + 1
    error = await refused(authenticator, token)
    assert (error.status, str(error)) == (401, "this token has expired")


async def test_a_modified_token_is_rejected_by_the_api_server(api, accounts):
    authenticator = TokenReviewAuthenticator(ACCOUNT, api)
    head, payload, signature = (await accounts.token("n1")).split(".")
    error = await refused(authenticator, f"{head}.{payload}.{signature[::-1]}")
    assert (error.status, "the API server refuses this token" in str(error)) == (401, True)


async def test_the_token_of_a_deleted_pod_is_rejected_once_the_cached_review_has_expired(api, accounts):
    clock = Clock()
    authenticator = TokenReviewAuthenticator(ACCOUNT, api, clock)
    token = f"Bearer {await accounts.token('n1')}".encode()
    assert await authenticator.authenticate(token) == "n1"
    await accounts.evict("n1")
    assert await authenticator.authenticate(token) == "n1", "the review is cached for five minutes"
    async with asyncio.timeout(PATIENCE):
        while True:  # the API server itself caches valid tokens for ten seconds
            clock.ahead = FRESH + 1
            refusals = [
                error
                for error in await asyncio.gather(authenticator.authenticate(token), return_exceptions=True)
                if error != "n1"
            ]
            if refusals:
                break
            authenticator._admitted.clear()
            await asyncio.sleep(0.5)
    assert [refusal.status for refusal in refusals] == [401]


async def test_known_agents_can_report_for_a_while_without_the_api_server_but_new_agents_must_wait(
    api, accounts, caplog
):
    clock = Clock()
    authenticator = TokenReviewAuthenticator(ACCOUNT, api, clock)
    known, new = await accounts.token("n1"), await accounts.token("n2")
    assert await authenticator.authenticate(f"Bearer {known}".encode()) == "n1"
    await accounts.cluster.kill()
    error = await refused(authenticator, new)
    assert (error.status, error.headers["Retry-After"]) == (503, "5")
    clock.ahead = FRESH + 1
    assert await authenticator.authenticate(f"Bearer {known}".encode()) == "n1"
    assert [record.message for record in caplog.records] == ["reports.unreviewed"], "it is logged only once"
    clock.ahead = HELD - 10
    assert await authenticator.authenticate(f"Bearer {known}".encode()) == "n1"
    clock.ahead = HELD + 10
    assert (await refused(authenticator, known)).status == 503
    await accounts.cluster.start()
    clock.ahead = 0
    authenticator._review_after = 0
    assert await authenticator.authenticate(f"Bearer {new}".encode()) == "n2"


async def test_the_server_logs_that_it_lacks_permission_to_review_tokens(cluster, accounts, tmp_path, caplog):
    path = tmp_path / "kubeconfig"
    path.write_text(cluster.kubeconfig_for(await cluster.service_account_token("pulltrace", "somebody-else")))
    async with connected(path) as api:
        error = await refused(TokenReviewAuthenticator(ACCOUNT, api), await accounts.token("n1"))
    assert error.status == 503
    assert 'cannot create resource "tokenreviews"' in caplog.records[-1].fields["error"]


@pytest.mark.real
async def test_an_agent_cannot_report_for_a_different_node_and_loses_no_data_while_tokens_cannot_be_reviewed(
    cluster, accounts, registry, tmp_path
):
    """Run the agent and the server with a real containerd. The token is in a file, as it would be if the kubelet had
    mounted it.
    """
    port, file = free_port(), tmp_path / "token"
    file.write_text(await accounts.token("n1"))
    url = f"http://127.0.0.1:{port}"
    server = Program("server", HTTP_ADDR=f"127.0.0.1:{port}", METRICS_ADDR="127.0.0.1:0", AGENT_SERVICE_ACCOUNT=ACCOUNT)
    server._environment["KUBECONFIG"] = str(cluster.kubeconfig)
    async with Containerd(require_containerd("debian")) as node, server, Api(port) as api:
        node.trust(registry.host, registry.url)
        agent = Program(
            "agent",
            NODE_NAME="n1",
            SERVER_URL=url,
            CONTAINERD_SOCKET=str(node.socket),
            HEARTBEAT_INTERVAL="500ms",
            AGENT_TOKEN_FILE=str(file),
        )
        await api.ready()
        async with agent, aiohttp.ClientSession() as session:
            await api.reported()
            # A compromised node reports for a different node.
            bearer = {"Authorization": f"Bearer {file.read_text()}"}
            async with session.post(f"{url}/api/v1/report", json={"nodeName": "n2"}, headers=bearer) as answer:
                body = await answer.json()
                assert (answer.status, body["error"]) == (403, "this agent may report only for node n1")
            # The API server stops, and the kubelet mounts a new token, which cannot be reviewed until the API server
            # runs again.
            fresh = await accounts.token("n1")
            await cluster.kill()
            file.write_text(fresh)
            registry.limit(MIB)
            await node.cri.pull(registry.push("team/app:1", make_image(make_layer(3 * MIB))))
            await agent.says("report not accepted")
            assert not await api.pulls()
            await cluster.start()
            (pull,) = await api.until(lambda pulls: pulls and pulls[0]["status"] == "completed")
            assert pull["nodeName"] == "n1"
    for token in (bearer["Authorization"], fresh):
        assert token.removeprefix("Bearer ") not in server.output + agent.output


async def test_a_server_that_requires_service_account_tokens_does_not_start_without_an_api_server():
    server = Program("server", HTTP_ADDR="127.0.0.1:0", METRICS_ADDR="127.0.0.1:0", AGENT_SERVICE_ACCOUNT=ACCOUNT)
    async with server:
        assert await server.process.wait() == 1
        await server.stop()
    assert "PULLTRACE_AGENT_SERVICE_ACCOUNT needs an API server" in server.output


class Counting:
    """A reviewer that rejects every token and counts the reviews."""

    def __init__(self) -> None:
        self.asked = 0
        self.release = asyncio.Event()

    async def review(self, token: str, audience: str) -> Review:
        self.asked += 1
        await self.release.wait()
        return Review("", [], {}, "")


def forged(number: int, **claims) -> bytes:
    """Return a forged token that appears to have been issued for Pulltrace's agent."""
    said = {"aud": ["pulltrace"], "sub": "system:serviceaccount:pulltrace:pulltrace-agent", "exp": 4e9}
    payload = base64.urlsafe_b64encode(json.dumps(said | claims | {"jti": number}).encode()).rstrip(b"=")
    return b"Bearer e30." + payload + b".signature"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"Basic dTpw", id="another scheme"),
        pytest.param(b"Bearer secret", id="not a JWT"),
        pytest.param(b"Bearer a.!!!.c", id="not base64"),
        pytest.param(b"Bearer a." + base64.urlsafe_b64encode(b"[" * 3000) + b".c", id="deeply nested"),
        pytest.param(b"Bearer " + b"a" * 9000, id="too long"),
        pytest.param(forged(1) + b"\xff", id="not ASCII"),
        pytest.param(b"Bearer e30.a\nb.c", id="a line feed"),
        pytest.param(forged(1, aud="vault"), id="another audience"),
        pytest.param(forged(1, exp=1), id="expired"),
        pytest.param(forged(1, sub="system:serviceaccount:a:b"), id="another account"),
    ],
)
async def test_a_token_that_cannot_belong_to_an_agent_is_rejected_before_any_review(header):
    reviewer = Counting()
    with pytest.raises(RefusedError):
        await TokenReviewAuthenticator(ACCOUNT, reviewer).authenticate(header)
    assert reviewer.asked == 0


async def test_a_flood_of_forged_tokens_does_not_overload_the_api_server_or_exhaust_memory():
    reviewer = Counting()
    authenticator = TokenReviewAuthenticator(ACCOUNT, reviewer)
    flood = [asyncio.ensure_future(authenticator.authenticate(forged(number))) for number in range(500)]
    same = [asyncio.ensure_future(authenticator.authenticate(forged(0))) for _ in range(50)]
    await asyncio.wait([*flood, *same], timeout=0.2)
    assert reviewer.asked == MOST_AT_ONCE
    reviewer.release.set()
    refusals = await asyncio.gather(*flood, *same, return_exceptions=True)
    waited = MOST_WAITING // 2
    reviewed = MOST_AT_ONCE + waited
    assert Counter(error.status for error in refusals) == {503: 500 - reviewed, 401: reviewed + 50}
    with pytest.raises(RefusedError):
        await authenticator.authenticate(forged(0))
    assert reviewer.asked == reviewed, "rejected tokens are cached for a while"
    for number in range(2 * MOST_REFUSED):
        with pytest.raises(RefusedError):
            await authenticator.authenticate(forged(number))
    assert len(authenticator._refused) <= MOST_REFUSED
