"""The agent in a runc container with its seccomp profile and the chart's security contexts.

The container has the image's root file system, and the agent observes a real containerd. The test exercises every
function of the agent. The agent resolves a name over UDP and TCP, reports over TLS with a token from a file, reconnects
to a containerd that has been killed, and exits on SIGTERM. In the tests, a system call outside the profile kills the
agent. On a node, such a call would only return an error.
"""

import asyncio
import errno
import itertools
import json
import os
import platform
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART
from tests.e2e.programs import Program
from tests.patience import PATIENCE
from tests.real.certificates import Authority
from tests.real.container import RUNC, Container
from tests.real.containerd import Containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.real.registry import Registry
from tests.release.test_images import rootfs, site

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(RUNC is None or os.geteuid() != 0, reason="containers need runc and root"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates"),
]

PROFILE: dict[str, Any] = json.loads((CHART / "files" / "agent-seccomp.json").read_text())
STRICT = PROFILE | {"defaultAction": "SCMP_ACT_KILL_PROCESS"}
AGENT = yaml.safe_load((CHART / "values.yaml").read_text())["agent"]
PYTHON = "/usr/local/bin/python3"
# If this Python was built with an rpath, LD_LIBRARY_PATH is needed, because the image has Python's library elsewhere.
PLACE = {"PATH": "/usr/local/bin", "LD_LIBRARY_PATH": "/usr/local/lib", "PYTHONUNBUFFERED": "1"}
TOKEN = "right-7c1f94d2a6"

# This program attempts actions that the profile forbids, and prints each one that is not blocked. A system call outside
# the profile fails as if the kernel did not support it.
ATTEMPTS = """
import ctypes, errno, os, socket

def call(number, *arguments):
    if ctypes.CDLL(None, use_errno=True).syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

attempts = {
    "another process": os.fork,
    "listening for connections": lambda: socket.socket().listen(),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "the hypervisor": lambda: socket.socket(socket.AF_VSOCK),
    "the kernel's cryptography": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "the kernel's firewall": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    "another user": lambda: os.setuid(1),
    "signals to others": lambda: os.kill(1, 0),
    "a file's mode": lambda: os.chmod("/tmp", 0o777),
    "a folder": lambda: os.mkdir("/tmp/folder"),
    "a program in memory": lambda: os.memfd_create("program"),
    "clone3, with flags that no filter can check": lambda: call(435, None, 0),
    "io_uring": lambda: call(425, 1, None),
}
X86_64 = {"ptrace": 101, "unshare": 272, "mount": 165, "setns": 308, "bpf": 321, "keyctl": 250, "perf_event_open": 298}
attempts |= {name: lambda number=number: call(number, 0, 0, 0) for name, number in X86_64.items()}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        if error.errno == errno.ENOSYS:
            continue
    print("may:", name)
for line in open("/proc/self/status"):
    print(line, end="")
"""

# This program sends more data than a socket accepts at once. Some versions of Python use a different system call to
# send the rest.
CONGESTED = """
import asyncio, socket

async def main():
    one, other = [await asyncio.open_connection(sock=end) for end in socket.socketpair()]
    for _ in range(8):
        one[1].write(bytes(1 << 20))
    print("read", len(await other[0].readexactly(8 << 20)))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of the agent's image."""
    for tool in ("strip", "ldd", "dpkg-query"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian's binutils, libc-bin, dpkg)")
    folder = tmp_path_factory.mktemp("agent")
    rootfs.assemble(site(folder / "site", "agent"), folder / "root")
    return folder / "root"


@pytest.fixture
def contain(tmp_path: Path, root: Path) -> Callable[..., Container]:
    """Return a function that makes a container with the chart's security contexts."""
    context = AGENT["podSecurityContext"] | AGENT["securityContext"]

    def make(*command: str, seccomp: dict[str, Any], mounts: Mapping[str, Path] = {}, **more: str) -> Container:
        folder = Path(tempfile.mkdtemp(prefix="container-", dir=tmp_path)) / "bundle"
        return Container(
            folder, root, *command, mounts=mounts, environment=PLACE | more, context=context, seccomp=seccomp
        )

    return make


class Names(asyncio.DatagramProtocol):
    """A DNS server that resolves every name to 127.0.0.1 and ::1. UDP responses are truncated until the server has
    received a query over TCP.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.over_tcp = 0
        self.over_udp = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._transport.sendto(self._response(data, truncated=self.over_tcp == 0), address)
        self.over_udp += 1

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(2):
            response = self._response(await reader.readexactly(int.from_bytes(size)), truncated=False)
            writer.write(len(response).to_bytes(2) + response)
            self.over_tcp += 1
        writer.close()

    @staticmethod
    def _response(query: bytes, *, truncated: bool) -> bytes:
        question = query[12 : query.index(b"\0", 12) + 5]
        kind = question[-4:-2]
        address = {b"\0\1": b"\x7f\0\0\1", b"\0\x1c": b"\0" * 15 + b"\1"}[kind]
        record = b"\xc0\x0c" + kind + b"\0\1" + b"\0\0\0\0" + len(address).to_bytes(2) + address
        if truncated:
            return query[:2] + b"\x87\x80" + b"\0\1" + b"\0" * 6 + question
        return query[:2] + b"\x85\x80" + b"\0\1\0\1" + b"\0" * 4 + question + record


@asynccontextmanager
async def nameserver() -> AsyncIterator[Names]:
    """Start a DNS server on port 53 of the first free loopback address. Resolvers always use this port."""
    loop = asyncio.get_running_loop()
    for number in itertools.count(1):
        names = Names(f"127.83.53.{number}")
        try:
            tcp = await asyncio.start_server(names.talk, names.address, 53)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            break
    async with tcp:
        udp, _ = await loop.create_datagram_endpoint(lambda: names, local_addr=(names.address, 53))
        yield names
        udp.close()


async def test_the_agent_works_with_its_seccomp_profile(
    contain: Callable[..., Container], node: Containerd, registry: Registry, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    authority.issue(tmp_path / "tls.crt", tmp_path / "tls.key", "server")
    (tmp_path / "token").write_text(TOKEN)
    port = free_port()
    server = Program(
        "server",
        HTTP_ADDR=f"127.0.0.1:{port}",
        METRICS_ADDR="127.0.0.1:0",
        TLS_CERT_FILE=str(tmp_path / "tls.crt"),
        TLS_KEY_FILE=str(tmp_path / "tls.key"),
        AGENT_TOKEN=TOKEN,
    )
    settings = {
        "NODE_NAME": "worker-1",
        "SERVER_URL": f"https://localhost:{port}",
        "SERVER_CA_FILE": "/ca/ca.crt",
        "AGENT_TOKEN_FILE": "/token/token",
        "CONTAINERD_SOCKET": f"/run/containerd/{node.socket.name}",
        "REPORT_INTERVAL": "500ms",
        "LOG_LEVEL": "debug",
    }
    agent = contain(
        *(PYTHON, "-m", "pulltrace", "agent"),
        seccomp=STRICT,
        mounts={
            "/run/containerd": node.socket.parent,
            "/etc/resolv.conf": tmp_path / "resolv.conf",
            "/ca": authority.ca.parent,
            "/token": tmp_path,
        },
        **{f"PULLTRACE_{name}": value for name, value in settings.items()},
    )
    layer = make_layer(6 * MIB)
    running = registry.push("team/running:1", make_image(layer))
    refs = [registry.push(f"team/app:{number}", make_image(make_layer(2 * MIB))) for number in range(3)]
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(nameserver())
        (tmp_path / "resolv.conf").write_text(f"nameserver {names.address}\n")
        await stack.enter_async_context(server)
        await stack.enter_async_context(agent)
        await agent.says("containerd found")
        registry.limit(2 * MIB)
        await asyncio.gather(*map(node.cri.pull, refs))
        await logged(agent, "pull.completed", 3)
        registry.blob(layer.digest).hold(at=3 * MIB)
        pulling = asyncio.create_task(node.cri.pull(running))
        await logged(agent, "pull.started", 4)
        await node.kill()
        await asyncio.wait([pulling])
        assert pulling.exception()
        await node.start()
        await agent.says("pull.failed")
        registry.blob(layer.digest).release()
        await node.cri.pull(running)
        await logged(agent, "pull.completed", 4)
        await server.stop()
        await agent.says("report not accepted")
        await server.start()
        await agent.says("server accepts reports again")
        assert names.over_tcp
        assert names.over_udp > names.over_tcp
        assert await agent.stop(signal.SIGTERM) == 0, agent.output
    assert "Traceback" not in agent.output


async def test_data_that_does_not_fit_into_the_socket_buffer_is_sent_later(
    contain: Callable[..., Container],
) -> None:
    async with contain(PYTHON, "-c", CONGESTED, seccomp=STRICT) as container:
        await container.says(f"read {8 << 20}\n")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls have other numbers on this architecture")
async def test_all_system_calls_outside_the_profile_fail(contain: Callable[..., Container]) -> None:
    async with contain(PYTHON, "-c", ATTEMPTS, seccomp=PROFILE) as container:
        await container.process.wait()
        await container.says("nonvoluntary_ctxt_switches")
    assert "may:" not in container.output, container.output
    state = dict(line.split(":\t", 1) for line in container.output.splitlines())
    assert {int(state[name], 16) for name in state if name.startswith("Cap")} == {0}
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2")


async def logged(agent: Program, text: str, times: int) -> None:
    """Wait until the agent's log contains ``text`` at least ``times`` times."""
    try:
        async with asyncio.timeout(PATIENCE):
            while agent.output.count(text) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(agent.output) from None
