"""Logging: JSON lines on stdout for log collectors, plain text on a terminal.

Use ``log.info("pull.started", extra=fields(node=…, image=…))``: the message identifies the event, and the fields
describe it.
"""

import contextlib
import io
import json
import logging
import os
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, TextIO

_LEVEL_NAMES = {logging.WARNING: "warn", logging.CRITICAL: "error"}
_WAITING = 2000
"""Maximum number of lines to buffer while nothing reads the output. Further lines are dropped and counted."""
_FLUSH_WITHIN = 2.0
"""Maximum time, in seconds, to wait at exit for the buffered lines to be written."""


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """Return the ``extra=`` argument of a log call. Fields that are None are omitted."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def configure(level: int, stream: TextIO = sys.stdout) -> None:
    """Send every logger's output to ``stream``. Libraries log only at the WARNING level and above."""
    formatter = _TextLines() if stream.isatty() else _JsonLines()
    handler = _handler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("pulltrace").setLevel(level)


def _handler(stream: TextIO) -> logging.Handler:
    try:
        return _OutputHandler(stream.fileno())
    except (OSError, io.UnsupportedOperation):  # the stream is not a real file, so writing cannot block
        return logging.StreamHandler(stream)


class _OutputHandler(logging.Handler):
    """Writes lines to a file descriptor in a background thread. If nothing reads the output, only the background thread
    blocks.

    The thread is a daemon and bypasses Python's buffers, so the process can exit even while the thread is blocked.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # as in the handlers of the standard library
            self.handleError(record)
            return
        with contextlib.suppress(queue.Full):
            if self._dropped:
                self._lines.put_nowait(self._encode(self.format(_dropped(self._dropped))))
                self._dropped = 0
            self._lines.put_nowait(self._encode(line))
            return
        self._dropped += 1

    def flush(self) -> None:
        """Wait briefly for the buffered lines to be written. ``logging`` calls this method at exit."""
        deadline = time.monotonic() + _FLUSH_WITHIN
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    @staticmethod
    def _encode(line: str) -> bytes:
        return line.encode(errors="backslashreplace") + b"\n"

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):  # the output is closed or full, so drop this line
                while line:
                    line = line[os.write(self._descriptor, line) :]
            self._lines.task_done()


def _dropped(count: int) -> logging.LogRecord:
    record = logging.LogRecord("pulltrace.logs", logging.WARNING, __file__, 0, "log.dropped", None, None)
    record.fields = {"lines": count}
    return record


def _parts(record: logging.LogRecord) -> tuple[datetime, str, dict[str, Any]]:
    values = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[1]:
        values["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        if not record.name.startswith("pulltrace") or record.levelno >= logging.ERROR:
            values["trace"] = logging.Formatter().formatException(record.exc_info)
    level = _LEVEL_NAMES.get(record.levelno, record.levelname.lower())
    return datetime.fromtimestamp(record.created, UTC), level, values


_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""C0 and C1 control characters, line separators, and characters that change the direction of text."""
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}
_TEXT_ESCAPES = {code: f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}" for code in _CONTROLS}


_TRACE_ESCAPES = _TEXT_ESCAPES | {ord("\n"): "\n", ord("\t"): "\t"}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time_, level, values = _parts(record)
        line = {"time": time_.isoformat(timespec="milliseconds"), "level": level, "msg": record.getMessage()}
        return json.dumps(line | values, default=str, ensure_ascii=False).translate(_JSON_ESCAPES)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time_, level, values = _parts(record)
        trace = values.pop("trace", None)
        line = f"{time_.astimezone():%H:%M:%S} {level:<5} {record.getMessage()}"
        line += "".join(f"  {name}={value}" for name, value in values.items())
        line = line.translate(_TEXT_ESCAPES)
        return f"{line}\n{trace.translate(_TRACE_ESCAPES)}" if trace else line
