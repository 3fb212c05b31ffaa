"""``python -m bench.serve pulltrace|naive`` runs a server on free loopback ports, and prints the ports as JSON.

The real server's limits are raised to a hundred thousand nodes and ten thousand clients, so that the benchmarks reach
other limits first.
"""

import logging
import sys

import uvloop

from bench.naive import serve_naive
from pulltrace.cli import run_until_stopped
from pulltrace.server.limits import Limits
from pulltrace.server.run import serve
from pulltrace.settings import ServerSettings, load


def _say(port: int, metrics_port: int) -> None:
    print(f"[{port}, {metrics_port}]", flush=True)


def main() -> int:
    """Serve until a signal arrives."""
    if sys.argv[1] == "naive":
        return run_until_stopped(serve_naive(_say), logging.WARNING, uvloop.new_event_loop)
    local = {"PULLTRACE_HTTP_ADDR": "127.0.0.1:0", "PULLTRACE_METRICS_ADDR": "127.0.0.1:0"}
    limits = Limits(nodes=100_000, readers=10_000, readers_per_address=10_000, connections=200_000)
    work = serve(load(ServerSettings, local), on_ready=_say, limits=limits)
    return run_until_stopped(work, logging.WARNING, uvloop.new_event_loop)


if __name__ == "__main__":
    sys.exit(main())
