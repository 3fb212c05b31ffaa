"""Tokens never appear in process lists, debug logs, metrics or error responses."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.registries import Registries
from pulltrace.demo.virtual_containerd import VirtualContainerd
from tests.e2e.programs import Api, Program
from tests.real.process import free_port
from tests.server.kubernetes.accounts import ACCOUNT, AGENT, Accounts

NODE = "worker-1"
REPORT = "/api/v1/report"


@dataclass
class Mode:
    """A way to authenticate agents: the server's configuration, a valid token and an invalid token."""

    right: str
    wrong: str
    server: dict[str, str]
    in_file: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    """Additional environment variables for the server."""


@pytest.fixture
async def containerd(tmp_path: Path) -> Any:
    node = VirtualContainerd(Registries(), now=0.0)
    async with SimulatedContainerd(node, tmp_path / "containerd.sock") as running:
        yield running


def listed(program: Program, *more: str) -> str:
    """Return what /proc shows about the process: its command line, which every user can read, and the files in
    ``more``, which only the process's owner can read.
    """
    return "".join(Path(f"/proc/{program.process.pid}", name).read_text() for name in ("cmdline", "comm", *more))


async def mistaken_answers(url: str, tokens: tuple[str, ...]) -> str:
    """Send several kinds of invalid requests with each token, and return the responses."""
    told = ""
    body = json.dumps({"nodeName": "Not_A_Node", "pulls": 5}).encode()
    async with aiohttp.ClientSession() as session:
        for token in tokens:
            bearer = {"Authorization": f"Bearer {token}"}
            for headers, sent in (
                (bearer, b"{"),
                (bearer, body),
                (bearer, json.dumps({"nodeName": "another-node"}).encode()[:-1]),
                (bearer | {"Content-Encoding": "gzip"}, b"no gzip"),
                (bearer | {"Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 21))),
                ({"Authorization": token}, b"{}"),
                ({"Authorization": f"Basic {token}"}, b"{}"),
            ):
                async with session.post(url + REPORT, headers=headers, data=sent) as answer:
                    assert answer.status in (400, 401, 413), answer.status
                    told += f"{answer.headers}{await answer.text()}"
            for method, path in (("PUT", REPORT), ("GET", "/no/such/path"), ("GET", "/api/v1/pulls?node=%00")):
                async with session.request(method, url + path, headers=bearer) as answer:
                    told += f"{answer.headers}{await answer.text()}"
    return told


@pytest.mark.parametrize("in_file", [False, True], ids=["environment", "file"])
async def test_a_shared_token_never_leaks(tmp_path, containerd, in_file):
    right = "right-7c1f94d2a6"
    mode = Mode(right, "wrong-e03b58d917", {"AGENT_TOKEN": right}, in_file=in_file)
    await assert_no_token_leaks(mode, tmp_path / "token", containerd.socket)


@pytest.mark.cluster
async def test_a_reviewed_token_never_leaks(tmp_path, containerd, cluster):
    accounts = Accounts(cluster)
    await accounts.prepare(AGENT)
    await accounts.agent_on(NODE)
    right = await accounts.token(NODE)
    claims, _, signature = right.rpartition(".")
    kubeconfig = {"KUBECONFIG": str(cluster.kubeconfig)}
    mode = Mode(right, f"{claims}.{signature[::-1]}", {"AGENT_SERVICE_ACCOUNT": ACCOUNT}, environment=kubeconfig)
    await assert_no_token_leaks(mode, tmp_path / "token", containerd.socket)


async def assert_no_token_leaks(mode: Mode, mounted: Path, socket: Path) -> None:
    """Run both programs, and check their entries in /proc, their logs, metrics and responses."""
    port, metrics = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"

    def agent(token: str) -> Program:
        mounted.write_text(token)
        given = {"AGENT_TOKEN_FILE": str(mounted)} if mode.in_file else {"AGENT_TOKEN": token}
        where = {"SERVER_URL": url, "CONTAINERD_SOCKET": str(socket), "NODE_NAME": NODE}
        return Program("agent", LOG_LEVEL="debug", REPORT_INTERVAL="500ms", **where, **given)

    ports = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics}"}
    server = Program("server", LOG_LEVEL="debug", **ports, **mode.server)
    server._environment |= mode.environment
    # Only the process's owner and root can read the environment. If the token is in a file, it must not appear in the
    # environment either.
    more = ["environ"] if mode.in_file else []
    tokens = (mode.right, mode.wrong)
    async with server, Api(port) as api:
        await api.ready()
        async with agent(mode.wrong) as refused:
            await refused.says("HTTP 401")
            told = listed(refused, *more)
        async with agent(mode.right) as heard:
            await api.reported()
            told += listed(heard, *more) + listed(server)
        told += await mistaken_answers(url, tokens)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
            told += await answer.text()
    assert 'pulltrace_reports_rejected_total{reason="' in told
    told += refused.output + heard.output + server.output
    for token in tokens:
        assert token not in told
        assert token.rpartition(".")[2] not in told, "the signature of a service account token must not leak either"


@pytest.mark.parametrize("command", ["server", "agent"])
async def test_the_program_exits_without_leaking_an_invalid_token(command):
    async with Program(command, AGENT_TOKEN="half-7c1f94d2a6 half-e03b58d917") as program:
        await program.says("PULLTRACE_AGENT_TOKEN")
        assert await program.process.wait() == 2
    assert "half-" not in program.output
