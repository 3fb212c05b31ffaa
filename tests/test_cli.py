"""Tests that run ``python -m pulltrace`` in a subprocess."""

import os
import subprocess
import sys

import pytest

from pulltrace import __version__

COMMANDS = ["agent", "server", "local", "demo"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULLTRACE_")}
    command = [sys.executable, "-m", "pulltrace", *arguments]
    return subprocess.run(command, env=kept | variables, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("arguments", [["--version"], *([command, "--version"] for command in COMMANDS)])
def test_every_command_prints_its_version(arguments: list[str]) -> None:
    assert run(*arguments).stdout == f"pulltrace {__version__}\n"


def test_an_agent_with_an_invalid_configuration_reports_every_mistake_and_exits_with_status_2() -> None:
    done = run("agent", PULLTRACE_REPORT_INTERVAL="fast", PULLTRACE_LOG_LEVEL="loud")
    assert done.returncode == 2
    assert [line.split("=")[0].split()[0] for line in done.stderr.splitlines()[1:]] == [
        "PULLTRACE_LOG_LEVEL",
        "PULLTRACE_NODE_NAME",
        "PULLTRACE_REPORT_INTERVAL",
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["server", "local"])
def test_server_and_local_report_every_mistake_in_their_configuration(command: str) -> None:
    done = run(command, PULLTRACE_HTTP_ADDR="nowhere", PULLTRACE_HISTORY_TTL="0s")
    assert done.returncode == 2
    assert "PULLTRACE_HTTP_ADDR" in done.stderr
    assert "PULLTRACE_HISTORY_TTL" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["demo", "--nodes", "0"], ["demo", "--speed", "x"]])
def test_invalid_arguments_cause_exit_status_2_and_one_clear_line_of_output(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("pulltrace")


def test_the_agent_does_not_import_the_libraries_of_the_server() -> None:
    code = (
        "import sys; import pulltrace.agent.run; "
        "print([m for m in ('starlette', 'kubernetes_asyncio', 'uvicorn', 'prometheus_client', 'pydantic') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
