"""The OpenAPI document of the API, generated from ``wire``, ``server/models`` and ``server/responses``. Sans-I/O.

Clients ignore unknown fields, so no schema forbids additional fields.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from pulltrace import __version__
from pulltrace.server.api import examples
from pulltrace.server.api.query import FILTERS
from pulltrace.server.models import PullEvent, PullRemovedEvent, PullStatus
from pulltrace.server.responses import ImageList, NodeList, PodList, PullList, ThroughputList
from pulltrace.wire import AgentReport, PullPhase, ReportResponse

Json = dict[str, Any]

_MODELS = (
    PullList,
    PullStatus,
    PullEvent,
    PullRemovedEvent,
    PodList,
    ImageList,
    NodeList,
    ThroughputList,
    AgentReport,
    ReportResponse,
)
_NODE_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""``wire.NODE_NAME`` as a JSON Schema pattern."""

_PAGE: list[Json] = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100_000}},
    {
        "name": "cursor",
        "in": "query",
        "schema": {"type": "string"},
        "description": "The `next` value of the previous page",
    },
]
_ETAG = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}

_TAGS = {
    "pulls": "Images that nodes are pulling",
    "cluster": "Pods, images and nodes",
    "agents": "Agent reports",
    "server": "The server itself",
}
_OPERATIONS = {
    ("/api/v1/pulls", "get"): ("listPulls", "pulls"),
    ("/api/v1/pulls/{id}", "get"): ("getPull", "pulls"),
    ("/api/v1/events", "get"): ("watchPulls", "pulls"),
    ("/api/v1/pods", "get"): ("listPods", "cluster"),
    ("/api/v1/images", "get"): ("listImages", "cluster"),
    ("/api/v1/nodes", "get"): ("listNodes", "cluster"),
    ("/api/v1/throughput", "get"): ("getThroughput", "cluster"),
    ("/api/v1/report", "post"): ("postReport", "agents"),
    ("/api/v1/openapi.json", "get"): ("getOpenapi", "server"),
    ("/healthz", "get"): ("getHealth", "server"),
    ("/readyz", "get"): ("getReadiness", "server"),
}
"""Maps each path and method to the id and the tag of the operation. Code generators name client functions after the
operation ids.
"""
_EXAMPLES = {"/api/v1/pulls": examples.PULLS, "/api/v1/pulls/{id}": examples.PULL, "/api/v1/events": examples.EVENT}


def schemas(models: Sequence[Any], *, ref_template: str) -> tuple[Sequence[Json], dict[str, Json]]:
    """Return a reference to the JSON Schema of each model, and a dictionary of all schemas by name.

    The descriptions in the schemas are the models' docstrings, but with the JSON names of the fields.
    """
    refs, components = msgspec.json.schema_components(models, ref_template=ref_template)
    for schema in components.values():
        if text := schema.get("description"):
            unindented = re.sub(r"\n +", "\n", text)
            schema["description"] = re.sub(r"``(.+?)``", lambda code: f"`{_in_json(code[1])}`", unindented).strip()
    return refs, components


def _in_json(name: str) -> str:
    """Return a field's name as it appears in JSON. Text that is not a field name is returned unchanged."""
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name) if re.fullmatch("[a-z_]+", name) else name


@cache
def document() -> bytes:
    """Return the document as JSON."""
    refs, components = schemas(_MODELS, ref_template="#/components/schemas/{name}")
    model = dict(zip(_MODELS, refs, strict=True))
    components["AgentReport"]["properties"]["nodeName"] = {"type": "string", "maxLength": 253, "pattern": _NODE_NAME}
    components["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Pulltrace",
                "version": __version__,
                "description": "The image pulls of all nodes of a Kubernetes cluster. Reading needs no authentication.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/", "description": "The server that served this document"}],
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
            "paths": _named(_paths(model)),
            "components": {
                "schemas": components,
                "securitySchemes": {"agent": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _named(paths: Json) -> Json:
    """Add an id, a tag and a 431 response to each operation, and examples to some responses."""
    for (path, method), (operation, tag) in _OPERATIONS.items():
        paths[path][method] |= {"operationId": operation, "tags": [tag]}
        paths[path][method]["responses"]["431"] = _error("The request target and headers are too large")
    for path, example in _EXAMPLES.items():
        content = next(iter(paths[path]["get"]["responses"]["200"]["content"].values()))
        content["example"] = msgspec.to_builtins(example)
    return paths


def _paths(model: dict[Any, Json]) -> Json:
    filters = [_filter(name) for name in FILTERS]
    layers = _parameter(
        "layers",
        "`false` for no layers, or the ids of the pulls to list with layers, separated by commas; by default, all",
    )
    chosen = [*filters, layers]
    running = _parameter(
        "running", "If present, return only running pulls, in the order of the page and without `next`"
    )
    id_ = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {
        "/api/v1/pulls": _get(
            "Current and recent pulls, newest first", _paged(model[PullList]), [*chosen, *_PAGE, running]
        ),
        "/api/v1/pulls/{id}": _get("One pull with its layers", model[PullStatus], [id_], missing=True, filtered=False),
        "/api/v1/pods": _get("Pods that wait for an image", model[PodList], filters),
        "/api/v1/images": _get("Each image across all nodes", model[ImageList], filters),
        "/api/v1/nodes": _get("Nodes and registries", model[NodeList], [], filtered=False),
        "/api/v1/throughput": _get("Bytes per second from each registry", model[ThroughputList], [], filtered=False),
        "/api/v1/events": {"get": _stream(model, chosen)},
        "/api/v1/report": {"post": _report(model)},
        "/api/v1/openapi.json": _get("This document", {"type": "object"}, [], filtered=False),
        "/healthz": {"get": {"summary": "The event loop is responding", "responses": {"200": _text("ok")}}},
        "/readyz": {
            "get": {
                "summary": "Readiness",
                "responses": {"200": _text("ok"), "503": _text("The server is not ready, for the given reason")},
            }
        },
    }
    for name, wait in (("pulls", False), ("pods", True), ("images", True), ("nodes", False)):
        _add_table(paths[f"/api/v1/{name}"]["get"], wait=wait)
    return paths


def _paged(schema: Json) -> Json:
    following = {"type": "string", "description": "The cursor of the next page; absent on the last page"}
    return {"allOf": [schema, {"type": "object", "properties": {"next": following}}]}


def _add_table(operation: Json, *, wait: bool) -> None:
    """Document the query parameters and responses that ``tables`` adds to list operations."""
    operation["parameters"].append(
        _parameter("format", "`json` or `text` (a table); the default depends on the Accept header")
    )
    responses, table = operation["responses"], {"text/plain": {"schema": {"type": "string"}}}
    responses["200"]["content"] |= table
    responses.setdefault("400", _error("An unknown parameter or an invalid value"))
    if wait:
        description = "Respond once everything that matches is ready, but wait no longer than this duration (60s, 10m)"
        operation["parameters"].append(_parameter("wait", description))
        for status, reason in (
            ("404", "Nothing matches"),
            ("503", "Too many requests are waiting"),
            ("504", "Not ready yet"),
        ):
            responses[status] = _error(reason)
            responses[status]["content"] |= table


def _parameter(name: str, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


def _filter(name: str) -> Json:
    item: Json = {"enum": list(PullPhase)} if name == "status" else {"type": "string"}
    return {
        "name": name,
        "in": "query",
        "description": "One or more values to match, separated by commas or given as repeated parameters",
        "schema": {"type": "array", "items": item, "maxItems": 100},
        "explode": False,
    }


def _get(summary: str, schema: Json, parameters: list[Json], *, missing: bool = False, filtered: bool = True) -> Json:
    responses = {"200": _json("OK", schema), "304": {"description": "Not modified"}}
    responses |= {"400": _error("Unknown parameter or invalid value")} if filtered else {}
    responses |= {} if missing else {"503": _error("Too many lists are being sent; see Retry-After")}
    responses |= {"404": _error("The pull does not exist or was already removed")} if missing else {}
    return {"get": {"summary": summary, "parameters": [*parameters, _ETAG], "responses": responses}}


def _stream(model: dict[Any, Json], parameters: list[Json]) -> Json:
    resume = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    line = {"anyOf": [model[PullEvent], model[PullRemovedEvent]]}
    return {
        "summary": "A stream of server-sent events: all pulls, then each change; the schema describes one data line",
        "parameters": [*parameters, resume],
        "responses": {
            "200": {
                "description": "A stream that never ends, compressed if the client accepts gzip",
                "content": {"text/event-stream": {"schema": line}},
            },
            "400": _error("Unknown parameter, invalid value, or another request follows on the same connection"),
            "503": _error("Too many streams, in total or from this address; see Retry-After"),
        },
    }


def _report(model: dict[Any, Json]) -> Json:
    return {
        "summary": "The report of one node's agent",
        "security": [{"agent": []}, {}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": model[AgentReport]}}},
        "responses": {
            "200": _json("Accepted", model[ReportResponse]),
            "400": _error("The body is not a valid report, or the node name is invalid"),
            "401": _error("The token is missing or wrong"),
            "403": _error("The token belongs to another account or node"),
            "408": _error("The body took more than 10 s to arrive"),
            "413": _error("More than 1 MiB after decompression"),
            "415": _error("Unsupported encoding: only gzip and identity are accepted"),
            "429": _error("The node's previous report was too recent, or is still arriving; see Retry-After"),
            "503": _error(
                "There are too many nodes or large reports, or the token cannot be verified now; see Retry-After"
            ),
        },
    }


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error(description: str) -> Json:
    return _json(description, {"$ref": "#/components/schemas/Error"})


def _text(description: str) -> Json:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
