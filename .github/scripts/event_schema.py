"""Generate the JSON Schema of the stream's messages from ``pulltrace/server/models.py``: ``make schema``.

The schema describes what the server sends. Clients must ignore fields that they do not know, so the schema allows
additional fields.
"""

import json
from pathlib import Path
from typing import Any

from pulltrace.server.api.openapi import schemas
from pulltrace.server.models import SCHEMA_VERSION, EventType, PullEvent, PullRemovedEvent

TARGET = Path(__file__).parents[2] / "docs" / "schemas" / "pull-event-v1.json"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a ``data:`` line."""
    (event, removed), components = schemas((PullEvent, PullRemovedEvent), ref_template="#/$defs/{name}")
    properties = components["PullEvent"]["properties"] | {"schemaVersion": {"const": SCHEMA_VERSION}}
    properties["type"] = {"enum": sorted(set(EventType) - {EventType.REMOVED})}
    components["PullEvent"]["properties"] = properties
    properties = components["PullRemovedEvent"]["properties"] | {"schemaVersion": {"const": SCHEMA_VERSION}}
    properties["type"] = {"const": EventType.REMOVED}
    components["PullRemovedEvent"]["properties"] = properties
    del components["EventType"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pulltrace event",
        "description": "One data: line of GET /api/v1/events.",
        "oneOf": [event, removed],
        "$defs": dict(sorted(components.items())),
    }


def text() -> str:
    """Return the contents of the schema file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text())
