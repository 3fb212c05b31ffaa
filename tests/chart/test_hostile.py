"""Invalid values: the chart rejects all of them, including every value that a real API server rejects."""

import asyncio
import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.hostile_cases import REJECTED, UNUSUAL, Case, given, identify
from tests.chart.rendering import CHART, HelmRenderError, HelmValuesError, Rendered, helm, render, values
from tests.chart.test_cluster import collection, make_foreign_kinds, make_namespaces, plurals
from tests.real.apiserver import APIError, APIServer

pytestmark = pytest.mark.chart


@pytest.mark.parametrize("case", REJECTED, ids=identify)
def test_the_chart_rejects_a_value_that_no_cluster_accepts(case: Case) -> None:
    with pytest.raises((HelmValuesError, HelmRenderError)) as rejected:
        render(given(case))
    assert "YAML" not in str(rejected.value)


@pytest.mark.parametrize("case", UNUSUAL, ids=identify)
def test_the_chart_accepts_an_unusual_but_valid_value(case: Case) -> None:
    render(given(case))


@pytest.fixture
def lenient(tmp_path: Path) -> Iterator[helm.Chart]:
    """Yield a copy of the chart without its schema and guards."""
    copied = tmp_path / "pulltrace"
    shutil.copytree(CHART, copied)
    (copied / "values.schema.json").unlink()
    guards = copied / "templates" / "_guards.tpl"
    guards.write_text('{{ define "pulltrace.guards" }}{{ end }}')
    with helm.Chart.load(copied) as chart:
        yield chart


def changed(chart: helm.Chart, case: Case, usual: Rendered) -> Iterator[dict[str, Any]]:
    """Render the chart for this case, and yield the objects that differ from those rendered with the default values."""
    rendered = Rendered(chart.render(given(case), name="pulltrace", namespace="pulltrace"))
    for key, document in (rendered.objects | rendered.hooks).items():
        if document not in (usual.objects.get(key), usual.hooks.get(key)):
            yield copy.deepcopy(document)


@pytest.mark.cluster
async def test_the_chart_rejects_every_value_that_a_real_api_server_rejects(
    cluster: APIServer, lenient: helm.Chart
) -> None:
    names = {"pulltrace", "shop", *(str(case[1]) for case in UNUSUAL if case[0].endswith("amespace")), "true"}
    await make_namespaces(cluster, *names)
    await make_foreign_kinds(cluster)
    known, usual = await plurals(cluster), render(values())

    async def refusal(case: Case) -> str:
        """Return why Helm or the API server rejects the test case, or an empty string if neither rejects it."""
        try:
            documents = await asyncio.to_thread(lambda: list(changed(lenient, case, usual)))
        except Exception as error:  # noqa: BLE001  # invalid YAML, or an object without a name
            return f"not rendered: {error}"
        for document in documents:
            plural = known.get((document.get("apiVersion"), document["kind"]))
            if plural is None:
                return f"no such kind: {document['kind']}"
            try:
                path = collection(document, plural)
                await cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", document)
            except APIError as error:
                return str(error)
        return ""

    reasons = {identify(case): await refusal(case) for case in [*UNUSUAL, *REJECTED]}
    assert {case: reason for case, reason in reasons.items() if reason and case in map(identify, UNUSUAL)} == {}
    rejected = [case for case in REJECTED if reasons[identify(case)]]
    print(f"{len(REJECTED)} hostile values, {len(rejected)} rejected by the API server")  # noqa: T201
    print("accepted:", *(identify(case) for case in REJECTED if case not in rejected), sep="\n  ")  # noqa: T201
    assert len(reasons) == len(REJECTED) + len(UNUSUAL)
    assert len(rejected) > 100, "the comparison needs an API server that validates"
