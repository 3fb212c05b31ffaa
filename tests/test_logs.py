"""Log lines: JSON for log collectors, plain text for terminals."""

import io
import json
import logging

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


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
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


def test_an_error_is_logged_with_its_cause_in_one_line() -> None:
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
