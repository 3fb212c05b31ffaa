"""Tests that the OpenAPI document is valid, contains exactly the server's routes, and describes the responses
correctly.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from starlette.routing import Route

from pulltrace.server.api.auth import AnonymousAuthenticator
from pulltrace.server.api.openapi import document
from pulltrace.server.api.routes import api_routes
from pulltrace.server.metrics import Metrics
from pulltrace.server.pulls.hub import Hub
from tests.server.build import settings

LONG = os.environ.get("EXAMPLES", "")
CONTRACT = Path(__file__).parents[2] / "contract"
SETTINGS = Path(__file__).with_name("schemathesis.toml")
DOCUMENT = json.loads(document())
EXAMPLES = {
    "/api/v1/pulls": "pulls.json",
    "/api/v1/pods": "pods.json",
    "/api/v1/images": "images.json",
    "/api/v1/nodes": "nodes.json",
}


def test_the_openapi_document_contains_exactly_the_routes_and_methods_of_the_server() -> None:
    routes = api_routes(Hub(settings(), Metrics()), AnonymousAuthenticator(), lambda: None)
    routes = [route for route in routes if isinstance(route, Route)]
    known = {(route.path, method.lower()) for route in routes for method in route.methods or ()}
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(path, method) for path, method in known if method != "head"}


def test_every_operation_has_a_unique_id_and_a_documented_tag() -> None:
    operations = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in DOCUMENT["tags"]}
    assert DOCUMENT["servers"] == [{"url": "/", "description": "The server that served this document"}]


def test_descriptions_in_the_openapi_document_use_the_json_names_of_fields() -> None:
    described = [
        schema["description"] for schema in DOCUMENT["components"]["schemas"].values() if "description" in schema
    ]
    assert any("`totalBytes`" in text for text in described)
    assert [text for text in described if re.search(r"``|`[a-z]+_\w+`|\n ", text)] == []


def test_every_example_matches_its_schema() -> None:
    found = [
        (path, content)
        for path, item in DOCUMENT["paths"].items()
        for content in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {}).values()
        if "example" in content
    ]
    assert {path for path, _ in found} >= {"/api/v1/pulls", "/api/v1/pulls/{id}", "/api/v1/events"}
    for _, content in found:
        schema = content["schema"] | {"components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(schema).validate(content["example"])


def test_the_api_page_shows_the_same_example_pull_as_the_document() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    shown = page.partition("### Example\n")[2].partition("```json\n")[2].partition("```")[0]
    path = DOCUMENT["paths"]["/api/v1/pulls/{id}"]["get"]
    assert json.loads(shown) == path["responses"]["200"]["content"]["application/json"]["example"]


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_golden_responses_match_the_openapi_document(path: str) -> None:
    schema = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    example = json.loads((CONTRACT / EXAMPLES[path]).read_text())
    jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(example)


async def test_the_openapi_document_is_served_with_an_etag_that_clients_can_revalidate(server) -> None:
    served = await server()
    answer = await served.get("/api/v1/openapi.json")
    assert (answer.status, await answer.json()) == (200, DOCUMENT)
    again = await served.get("/api/v1/openapi.json", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


async def test_the_api_behaves_as_documented_for_any_request(server) -> None:
    """Schemathesis generates valid and invalid requests from the document, except for the stream, which never ends."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    served = await server()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS)]
    command += ["run", f"{served.url}/api/v1/openapi.json"]
    # `make fuzz` also runs the coverage and stateful phases. The positive_data_acceptance check is off because JSON
    # Schema accepts 3.0 as an integer, whereas the server does not.
    phases, examples = ("coverage,fuzzing,stateful", LONG) if LONG else ("fuzzing", "20")
    command += ["--exclude-path", "/api/v1/events", "--phases", phases, "--max-examples", examples]
    command += ["--exclude-checks", "positive_data_acceptance", "--suppress-health-check", "all"]
    command += ["--seed", "7", "--no-color", "--generation-database", "none"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
