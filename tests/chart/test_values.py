"""Test the effect of each chart value on the rendered objects."""

import re
from typing import Any

import pytest

from tests.chart import cluster_cases, workload_cases
from tests.chart.places import RULE, RULES
from tests.chart.rendering import CHART, render, values

pytestmark = pytest.mark.chart

CASES = cluster_cases.CASES + workload_cases.CASES
CHANGED_BY_TEXT = {"metrics.prometheusRule.slowRegistryBytesPerSecond"}


@pytest.mark.parametrize(("path", "value", "also", "expected"), [pytest.param(*case, id=case[0]) for case in CASES])
def test_each_chart_value_has_its_documented_effect(
    path: str, value: Any, also: dict[str, Any], expected: dict[str, Any]
) -> None:
    rendered = render(values(also, {path: value}))
    assert {place: rendered.at(place) for place in expected} == expected


def test_the_alert_for_a_slow_registry_contains_the_configured_limit() -> None:
    rules = render(values(RULE, {"metrics.prometheusRule.slowRegistryBytesPerSecond": 250000})).at(RULES)
    slow = next(rule for rule in rules if rule["alert"] == "PulltraceRegistrySlow")
    assert "< 250000" in slow["expr"]


def test_every_chart_value_has_a_test_case() -> None:
    documented = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    assert documented == {case[0] for case in CASES} | CHANGED_BY_TEXT
