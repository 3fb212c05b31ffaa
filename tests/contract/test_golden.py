"""Tests that the golden JSON matches the models, contains no unknown fields, and loses nothing when decoded and
re-encoded.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pulltrace.server import models, responses

HERE = Path(__file__).parent


def plain(value: Any) -> Any:
    """Replace the times in decoded JSON with datetimes, so that ``.25Z`` equals ``.250000Z``."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and value.endswith("Z") and value[:4].isdigit():
        return datetime.fromisoformat(value)
    return value


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("hello", models.Hello, id="hello"),
        pytest.param("event-started", models.PullEvent, id="started"),
        pytest.param("event-progress", models.PullEvent, id="progress"),
        pytest.param("event-completed", models.PullEvent, id="completed"),
        pytest.param("event-failed", models.PullEvent, id="failed"),
        pytest.param("event-removed", models.PullRemovedEvent, id="removed"),
        pytest.param("pulls", responses.PullList, id="pulls"),
        pytest.param("nodes", responses.NodeList, id="nodes"),
    ],
)
def test_golden_json_is_unchanged_after_decoding_and_encoding(name: str, model: type[msgspec.Struct]) -> None:
    text = (HERE / f"{name}.json").read_bytes()
    through = msgspec.json.encode(msgspec.json.decode(text, type=model))
    assert plain(json.loads(through)) == plain(json.loads(text))
