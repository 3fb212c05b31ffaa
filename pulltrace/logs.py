"""Log lines: JSON on stdout for collectors, text when a person is looking.

Write ``log.info("pull.started", extra=fields(node=…, image=…))``: the message names the event, the fields tell it.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_LEVEL_NAMES = {logging.WARNING: "warn", logging.CRITICAL: "error"}


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """Fields of one log line, for ``extra=``. Those that are None are left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def configure(level: int, stream: TextIO = sys.stdout) -> None:
    """Send every logger's lines to ``stream``. Libraries speak only from warning up."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextLines() if stream.isatty() else _JsonLines())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("pulltrace").setLevel(level)


def _parts(record: logging.LogRecord) -> tuple[datetime, str, dict[str, Any]]:
    values = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[1]:
        values["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        if not record.name.startswith("pulltrace") or record.levelno >= logging.ERROR:
            values["trace"] = logging.Formatter().formatException(record.exc_info)
    level = _LEVEL_NAMES.get(record.levelno, record.levelname.lower())
    return datetime.fromtimestamp(record.created, UTC), level, values


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time, level, values = _parts(record)
        line = {"time": time.isoformat(timespec="milliseconds"), "level": level, "msg": record.getMessage()}
        return json.dumps(line | values, default=str, ensure_ascii=False)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time, level, values = _parts(record)
        trace = values.pop("trace", None)
        line = f"{time.astimezone():%H:%M:%S} {level:<5} {record.getMessage()}"
        line += "".join(f"  {name}={value}" for name, value in values.items())
        return f"{line}\n{trace}" if trace else line
