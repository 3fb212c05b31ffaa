"""The OpenAPI document: every route and no other, valid, and true of what the server says."""

import json
from pathlib import Path

import jsonschema
import pytest
from starlette.routing import Route

from pulltrace.server.admission import OpenGate
from pulltrace.server.hub import Hub
from pulltrace.server.metrics import Metrics
from pulltrace.server.openapi import document
from pulltrace.server.routes import api_routes
from tests.server.build import settings

CONTRACT = Path(__file__).parents[1] / "contract"
DOCUMENT = json.loads(document())
EXAMPLES = {
    "/api/v1/pulls": "pulls.json",
    "/api/v1/pods": "pods.json",
    "/api/v1/images": "images.json",
    "/api/v1/nodes": "nodes.json",
}


def test_every_route_stands_in_it_with_its_method_and_no_other() -> None:
    routes = api_routes(Hub(settings(), Metrics()), OpenGate(), lambda: None)
    routes = [route for route in routes if isinstance(route, Route)]
    known = {(route.path, method.lower()) for route in routes for method in route.methods or ()}
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(path, method) for path, method in known if method != "head"}


@pytest.mark.parametrize("path", EXAMPLES)
def test_golden_answers_fit(path: str) -> None:
    schema = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    example = json.loads((CONTRACT / EXAMPLES[path]).read_text())
    jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(example)


async def test_it_is_served_and_known_again(server) -> None:
    served = await server()
    answer = await served.get("/api/v1/openapi.json")
    assert (answer.status, await answer.json()) == (200, DOCUMENT)
    again = await served.get("/api/v1/openapi.json", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
