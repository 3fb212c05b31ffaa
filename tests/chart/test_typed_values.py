"""Tests for values that the chart copies into Kubernetes objects, such as containers, volumes and network policy rules.

The tests compare the chart's schema for these values with the behaviour of a real API server. The schema must have the
same fields as the API, and must reject every mutation of a valid value that the API server rejects.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.chart.kubernetes_types import OMITTED, TYPES
from tests.chart.mutations import Path, changed, mutations
from tests.chart.rendering import CHART, HelmRenderError, HelmValuesError, render
from tests.chart.test_cluster import collection, make_namespaces, plurals
from tests.chart.typed_values import VALID
from tests.real.apiserver import APIError, APIServer

pytestmark = pytest.mark.chart

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def parts() -> Iterator[tuple[str, ...]]:
    """Yield the path of each value to mutate. If a value exists for both the agent and the server, only the agent's
    value is mutated.
    """
    yield from (("agent", name) for name in VALID["agent"] if name != "runtimeSocket")
    yield ("server", "topologySpreadConstraints")
    yield from (("networkPolicy", "extraServerRules"), ("rbac", "extraRules"))
    yield from (("networkPolicy", "egress", name) for name in ("extraServerRules", "extraAgentRules"))


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def schema_of(path: tuple[str, ...]) -> dict[str, Any]:
    found = SCHEMA
    for name in path:
        found = found["properties"][name]
    return found


def accepted() -> Iterator[tuple[tuple[str, ...], Path, Any]]:
    """Yield each mutation that the schema accepts: the path of the value, the path inside it, and the new content."""
    for part in parts():
        validator = jsonschema.Draft7Validator(schema_of(part) | {"definitions": SCHEMA["definitions"]})
        for path, new in mutations(at(VALID, part)):
            mutated = changed(at(VALID, part), path, new)
            if validator.is_valid(mutated):
                yield part, path, new


def test_all_fields_of_the_kubernetes_types_are_accepted() -> None:
    rendered = render(VALID)
    pod = rendered.at("DaemonSet/pulltrace-agent#spec.template.spec")
    assert pod["containers"][1:] == VALID["agent"]["extraContainers"]
    assert pod["initContainers"] == VALID["agent"]["initContainers"]


def definition(path: str) -> dict[str, Any]:
    """Return the schema at a path that begins with the name of a definition. ``*`` matches any list item."""
    name, *steps = path.split(".")
    found = SCHEMA["definitions"][name]
    for step in steps:
        found = found["items"] if step == "*" else found["properties"][step]
        while "$ref" in found:
            found = SCHEMA["definitions"][found["$ref"].rpartition("/")[2]]
    return found


@pytest.mark.cluster
async def test_the_schema_has_the_same_fields_as_the_api_of_a_real_server(cluster: APIServer) -> None:
    known: dict[str, Any] = {}
    for group in ("api/v1", "apis/networking.k8s.io/v1", "apis/rbac.authorization.k8s.io/v1"):
        known |= (await cluster.request("GET", f"/openapi/v3/{group}"))["components"]["schemas"]
    for path, kind in TYPES.items():
        assert definition(path)["properties"].keys() == known[kind]["properties"].keys() - OMITTED.get(kind, set()), (
            path
        )


def substituted(tree: Any, old: Any, new: Any) -> Any:
    """Return a copy of an object with one value replaced. If the value is a list, occurrences of it within longer lists
    are replaced as well.
    """
    if tree == old:
        return new
    if isinstance(tree, dict):
        return {name: substituted(inner, old, new) for name, inner in tree.items()}
    if not isinstance(tree, list):
        return tree
    if isinstance(old, list) and isinstance(new, list):
        for start in range(len(tree) - len(old) + 1):
            if tree[start : start + len(old)] == old:
                return tree[:start] + new + tree[start + len(old) :]
    return [substituted(inner, old, new) for inner in tree]


async def refusal(cluster: APIServer, plural: dict[tuple[str, str], str], document: dict[str, Any]) -> str:
    """Apply an object in a dry run, in the same way as Helm 4. Return the API server's reason for rejecting the object,
    or an empty string if it accepts the object.
    """
    query = "dryRun=All&fieldValidation=Strict&fieldManager=helm&force=true"
    path = collection(document, plural[document["apiVersion"], document["kind"]])
    try:
        await cluster.request(
            "PATCH",
            f"{path}/{document['metadata']['name']}?{query}",
            document,
            content_type="application/apply-patch+yaml",
        )
    except APIError as error:
        return str(error)
    return ""


@pytest.mark.cluster
@pytest.mark.timeout(1200)
async def test_a_real_api_server_accepts_every_mutation_that_the_chart_accepts(cluster: APIServer) -> None:
    """Rendering is slow, so each mutation is first tried on the API server, and only mutations that it rejects are
    rendered. Mutations of the agent's values are tried only in the agent's objects, and mutations of the server's
    values only in the server's objects, even if both values are equal.
    """
    await make_namespaces(cluster, "pulltrace")
    plural, usual = await plurals(cluster), render(VALID).objects
    for document in usual.values():
        assert await refusal(cluster, plural, document) == ""
    wrong = {}
    for part, path, new in accepted():
        old = at(VALID, part)
        mutated = changed(old, path, new)
        half = part[0] if part[0] in ("agent", "server") else ""
        documents = [(one, substituted(one, old, mutated)) for key, one in usual.items() if key.endswith(half)]
        tried = [other for one, other in documents if one != other]
        if tried and not [1 for document in tried if await refusal(cluster, plural, document)]:
            continue
        try:
            rendered = await asyncio.to_thread(render, changed(VALID, part, mutated))
        except (HelmValuesError, HelmRenderError):
            continue
        reasons = [await refusal(cluster, plural, one) for key, one in rendered.objects.items() if one != usual[key]]
        wrong |= {f"{'.'.join(map(str, (*part, *path)))}={new!r:.60}": reason for reason in reasons if reason}
    assert wrong == {}
