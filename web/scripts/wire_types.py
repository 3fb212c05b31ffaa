"""Generate web/src/wire/generated.ts from the server's ``models`` and ``responses``; run by ``make schema``.

The interfaces describe the JSON as it is sent. ``web/src/wire/wire.ts`` checks each field at run time. Because of the
interfaces, this module compiles only if every field that it reads exists and has the right type.
"""

from pathlib import Path
from typing import Any

import msgspec

from pulltrace.server.models import Hello, PullEvent, PullRemovedEvent, Reset
from pulltrace.server.responses import NodeList, PodList, PullList, ThroughputList

TARGET = Path(__file__).parents[1] / "src/wire/generated.ts"
HEAD = """/**
 * Generated from pulltrace/server/models.py and responses.py by web/scripts/wire_types.py. Do not edit; run
 * `make schema`.
 */

/** An RFC 3339 time in UTC. */
export type Time = string & { readonly format: 'date-time' }
"""
MODELS = (PullEvent, PullRemovedEvent, PullList, PodList, NodeList, Hello, Reset, ThroughputList)
"""The models that the page reads."""

Json = dict[str, Any]


def text() -> str:
    """Return the TypeScript source."""
    _, components = msgspec.json.schema_components(MODELS, ref_template="{name}")
    parts = [_enumeration(one) if "enum" in one else _interface(one) for one in components.values()]
    return "\n".join([HEAD, *parts])


def _enumeration(schema: Json) -> str:
    name, words = schema["title"], ", ".join(f"'{word}'" for word in schema["enum"])
    constant = "".join("_" + letter if letter.isupper() else letter.upper() for letter in name).strip("_").upper()
    line = f"export const {constant} = [{words}] as const\n"
    if len(line) > 111:
        lines = "".join(f"  '{word}',\n" for word in schema["enum"])
        line = f"export const {constant} = [\n{lines}] as const\n"
    return f"{line}export type {name} = (typeof {constant})[number]\n"


def _interface(schema: Json) -> str:
    required = schema.get("required", [])
    lines = [
        f"  readonly {name}{'' if name in required else '?'}: {_type(one)}\n"
        for name, one in schema["properties"].items()
    ]
    return f"export interface {schema['title']} {{\n{''.join(lines)}}}\n"


_SCALARS = {"integer": "number", "number": "number", "boolean": "boolean", "string": "string"}


def _type(schema: Json) -> str:
    match schema:
        case {"anyOf": alternatives}:
            # Fields without a value are omitted, so null is never sent.
            found = " | ".join(_type(one) for one in alternatives if one != {"type": "null"})
        case {"$ref": name}:
            found = name
        case {"enum": words}:
            found = " | ".join(f"'{word}'" for word in words)
        case {"type": "array", "items": item}:
            found = f"readonly {_type(item)}[]"
        case {"type": "object", "additionalProperties": value}:
            found = f"Readonly<Record<string, {_type(value)}>>"
        case {"format": "date-time"}:
            found = "Time"
        case _:
            found = _SCALARS[schema["type"]]
    return found


if __name__ == "__main__":
    TARGET.write_text(text())
