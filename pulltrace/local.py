"""``pulltrace local``: server and agent in one process, for containerd on this machine.

The command is intended for a k3s host, a kind node or a laptop. ``pulltrace local`` reads the same variables as the
server and the agent. Two defaults differ from those of the server and the agent: the server listens on loopback, and
the node is named after the machine.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Mapping
from dataclasses import replace

from pulltrace.agent.containerd import SOCKETS, find_socket
from pulltrace.agent.run import watch
from pulltrace.server.run import serve
from pulltrace.settings import AgentSettings, ServerSettings, Settings, SettingsError
from pulltrace.settings import load as load_settings

_log = logging.getLogger(__name__)


class LocalError(Exception):
    """The machine's containerd cannot be used. The message explains why."""


def load(environ: Mapping[str, str]) -> tuple[ServerSettings, AgentSettings]:
    """Read the settings of the server and the agent. Raises ``SettingsError`` with a list of all mistakes."""
    defaults = {
        "PULLTRACE_HTTP_ADDR": "127.0.0.1:8080",
        "PULLTRACE_METRICS_ADDR": "127.0.0.1:9090",
        "PULLTRACE_NODE_NAME": node_name(socket.gethostname()),
    }
    known = defaults | {name: text for name, text in environ.items() if text.strip()}
    known.pop("PULLTRACE_SERVER_URL", None)  # the agent reports to the server in the same process
    mistakes: dict[str, None] = {}

    def read(kind: type[Settings]) -> Settings | None:
        try:
            return load_settings(kind, known)
        except SettingsError as error:
            mistakes.update(dict.fromkeys(error.mistakes))
            return None

    server, agent = read(ServerSettings), read(AgentSettings)
    if server is None or agent is None:
        raise SettingsError(list(mistakes))
    return server, agent


async def run(server: ServerSettings, agent: AgentSettings) -> None:
    """Run the server and the agent until cancelled. Raises ``LocalError`` if containerd's socket cannot be opened."""
    path = _readable(agent.containerd_socket)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(server, on_ready=lambda port, _: listening.set_result(port)))
        url = _url("https" if server.tls_cert_file else "http", server.http_addr.host, await listening)
        _log.info("local: the dashboard is at %s/ and shows the pulls of containerd at %s", url, path)
        tasks.create_task(watch(replace(agent, containerd_socket=path, server_url=url)))


def node_name(hostname: str) -> str:
    """Convert a host name to a valid node name: lower-case letters, digits, ``-`` and ``.``."""
    labels = [re.sub(r"[^a-z0-9-]+", "-", label).strip("-") for label in hostname.lower().split(".")]
    return ".".join(filter(None, labels))[:253].rstrip("-.") or "localhost"


def _readable(path: str | None) -> str:
    path = path or find_socket()
    if path is None:
        raise LocalError(
            f"no containerd here: none of {', '.join(SOCKETS)} exists. Set PULLTRACE_CONTAINERD_SOCKET to its socket"
        )
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except FileNotFoundError:
        raise LocalError(f"no containerd here: {path} does not exist") from None
    except PermissionError:
        raise LocalError(f"no permission to read {path}: run this as root, for example with sudo") from None
    except OSError as error:
        raise LocalError(f"containerd does not respond at {path}: {error.strerror or error}") from None
    return path


def _url(scheme: str, host: str, port: int) -> str:
    """Return a URL at which this machine can reach a server that listens on the given address."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
