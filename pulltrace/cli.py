"""``pulltrace agent | server | local | demo``.

Each command imports only what it needs, so agents do not waste memory on the server's libraries.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pulltrace import __version__, logs, settings

if TYPE_CHECKING:
    import asyncio

EXIT_CONFIGURATION = 2

_log = logging.getLogger("pulltrace")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 for success, 1 for failure, 2 for an invalid configuration."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except settings.SettingsError as error:
        print(f"pulltrace {args.command}: the configuration is invalid", file=sys.stderr)
        for mistake in error.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "pulltrace"):
            raise
        print(
            f"pulltrace {args.command}: the library {library} is missing. Install Pulltrace with its libraries:\n"
            "  pipx install --force 'pulltrace[all] @ <address or file of the wheel>'",
            file=sys.stderr,
        )
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pulltrace",
        description="Shows in real time which images the nodes of a Kubernetes cluster are pulling, "
        "which pods are waiting for them, and when they will be ready.",
        epilog="agent, server and local read PULLTRACE_* variables: see https://d44b.github.io/pulltrace/configuration/",
    )
    parser.add_argument("--version", action="version", version=f"pulltrace {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--version", action="version", version=f"pulltrace {__version__}")
        added.set_defaults(run=run)
        return added

    command("agent", _agent, "observe containerd on this node and report to the server")
    command(
        "server",
        _server,
        "receive the reports of all agents; serve the API, the live stream, the dashboard and metrics",
    )
    command("local", _local, "run server and agent in one process, for containerd on this machine")
    demo = command("demo", _demo, "run the whole system with a simulated cluster")
    demo.add_argument(
        "--nodes", type=_between(int, 1, 500), default=12, help="number of simulated nodes (default %(default)s)"
    )
    demo.add_argument(
        "--speed", type=_between(float, 0.1, 100), default=1.0, help="speed of the simulation (default %(default)s)"
    )
    demo.add_argument(
        "--port",
        type=_between(int, 0, 65535),
        default=8080,
        help="dashboard port on loopback, 0 for any free port (default %(default)s)",
    )
    return parser


def _between(kind: Callable[[str], Any], least: float, most: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    parse.__name__ = "number"  # argparse prints: invalid number value: 'many'
    return parse


def _agent(_: argparse.Namespace) -> int:
    from pulltrace.agent.unused_modules import leave_out_python_messages, leave_out_tls

    config = settings.load(settings.AgentSettings, os.environ)
    if not (config.server_url or "").startswith("https:"):
        leave_out_tls()
    leave_out_python_messages()

    from pulltrace.agent.run import new_event_loop, watch
    from pulltrace.agent.watchdog import PATIENCE, Watchdog

    with Watchdog(config.report_interval + PATIENCE) as watchdog:
        return run_until_stopped(watch(config, alive=watchdog.postpone), config.log_level, new_event_loop)


def _server(_: argparse.Namespace) -> int:
    import uvloop

    from pulltrace.server.run import serve

    config = settings.load(settings.ServerSettings, os.environ)
    return run_until_stopped(serve(config), config.log_level, uvloop.new_event_loop)


def _local(_: argparse.Namespace) -> int:
    from pulltrace.local import load, run

    server, agent = load(os.environ)
    return run_until_stopped(run(server, agent), server.log_level)


def _demo(args: argparse.Namespace) -> int:
    from pulltrace.demo.run import demo

    return run_until_stopped(demo(nodes=args.nodes, speed=args.speed, port=args.port), logging.INFO)


def run_until_stopped(
    work: Coroutine[Any, Any, None],
    log_level: int,
    loop_factory: "Callable[[], asyncio.AbstractEventLoop] | None" = None,
) -> int:
    """Run ``work`` until it finishes or the process receives SIGTERM or SIGINT. Then return 0. If ``work`` fails, log
    the error and return 1.
    """
    import asyncio

    logs.configure(log_level)
    settings.warn_of_unknown(os.environ, _log)

    async def until_stopped() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return 0
        except Exception as error:  # noqa: BLE001  # the process exits: log the cause in one line and let Kubernetes restart it
            for cause in _causes(error):
                _log.error("%s", cause, exc_info=cause if _log.isEnabledFor(logging.DEBUG) else None)
            return 1
        return 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(until_stopped())


def _causes(error: BaseException) -> list[BaseException]:
    """Flatten nested exception groups into a list of errors."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]
