"""Log lines are JSON for log collectors, and plain text for terminals."""

import io
import json
import logging
import re
import subprocess
import sys
from subprocess import PIPE

import pytest

from pulltrace import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before():
    root, own = logging.getLogger(), logging.getLogger("pulltrace")
    before = (root.level, root.handlers[:], own.level)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    own.setLevel(before[2])


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_is_one_json_object_that_contains_the_fields() -> None:
    stream = io.StringIO()
    logs.configure(logging.INFO, stream)
    logging.getLogger("pulltrace.x").info("pull.started", extra=logs.fields(image="a\nb", bytes=3, error=None))
    logging.getLogger("pulltrace.x").warning("late")
    first, second = lines(stream)
    assert {key: first[key] for key in first if key != "time"} == {
        "level": "info",
        "msg": "pull.started",
        "image": "a\nb",
        "bytes": 3,
    }
    assert str(first["time"]).endswith("+00:00")
    assert second["level"] == "warn"


def test_libraries_log_only_warnings_and_errors() -> None:
    stream = io.StringIO()
    logs.configure(logging.DEBUG, stream)
    logging.getLogger("grpc").debug("noise")
    logging.getLogger("pulltrace").debug("ours")
    assert [line["msg"] for line in lines(stream)] == ["ours"]


def test_an_error_and_its_cause_are_logged_on_a_single_line() -> None:
    stream = io.StringIO()
    logs.configure(logging.INFO, stream)
    try:
        raise ValueError("what happened")
    except ValueError:
        logging.getLogger("pulltrace").exception("it failed")
    (line,) = lines(stream)
    assert line["error"] == "ValueError: what happened"
    assert "Traceback" in str(line["trace"])


def test_a_terminal_gets_plain_text() -> None:
    stream = Terminal()
    logs.configure(logging.INFO, stream)
    logging.getLogger("pulltrace").info("pull.completed", extra=logs.fields(seconds=1.5))
    assert stream.getvalue().endswith("info  pull.completed  seconds=1.5\n")


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\u2028", "\u202e", "\x7f"])
def test_control_characters_are_escaped(character: str) -> None:
    for stream in (Terminal(), io.StringIO()):
        logs.configure(logging.INFO, stream)
        logging.getLogger("pulltrace").info("pull.started", extra=logs.fields(image=f"a{character}b"))
        assert re.search(rf"a\\[xu]0*{ord(character):x}b", stream.getvalue())
        assert character not in stream.getvalue()


def test_a_line_break_in_a_value_is_escaped() -> None:
    stream = Terminal()
    logs.configure(logging.INFO, stream)
    logging.getLogger("pulltrace").info("pull.started", extra=logs.fields(image="a\nb"))
    assert stream.getvalue().endswith("image=a\\x0ab\n")


PROGRAM = """
import logging, sys
from pulltrace import logs
logs.configure(logging.INFO)
log = logging.getLogger("pulltrace")
for number in range(20_000):
    log.info("line", extra=logs.fields(number=number))
print("all logged", file=sys.stderr, flush=True)
sys.stdin.read(1)
log.info("last")
"""


def test_logging_does_not_block_and_counts_dropped_lines_if_nobody_reads_the_output() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stderr.readline() == b"all logged\n"
        first = [json.loads(process.stdout.readline()) for _ in range(logs._WAITING)]
        process.stdin.write(b"x")
        process.stdin.close()
        rest = [json.loads(line) for line in process.stdout]
    lines = first + rest
    written = [line["number"] for line in lines if line["msg"] == "line"]
    assert written == sorted(set(written)), "the lines are in order, without duplicates"
    assert [line["msg"] for line in rest[-2:]] == ["log.dropped", "last"]
    dropped = sum(line["lines"] for line in lines if line["msg"] == "log.dropped")
    assert len(written) + dropped == 20_000


def test_a_process_exits_even_if_nobody_reads_its_output() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0
