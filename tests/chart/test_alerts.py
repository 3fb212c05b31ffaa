"""Check the rendered PrometheusRule with Prometheus' own tools."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, render, values
from tests.patience import PATIENCE

pytestmark = pytest.mark.chart

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here (Debian's prometheus)")
CASES = Path(__file__).parent / "alerts.yaml"


def rules() -> list[dict[str, Any]]:
    rendered = render(values({"metrics.prometheusRule.enabled": True}))
    groups: list[dict[str, Any]] = rendered.at("PrometheusRule/pulltrace#spec.groups")
    return groups


def promtool(folder: Path, *words: object) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *map(str, words)], cwd=folder, check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_fires_only_in_the_cases_that_expect_it(tmp_path: Path) -> None:
    # promtool would also compare the annotations, but this test does not check them.
    bare = [{**rule, "annotations": {}} for rule in rules()[0]["rules"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "pulltrace", "rules": bare}]}))
    shutil.copy2(CASES, tmp_path / "cases.yaml")
    promtool(tmp_path, "test", "rules", "cases.yaml")


@needs_promtool
def test_prometheus_accepts_the_rules_with_their_annotations(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules()}))
    promtool(tmp_path, "check", "rules", "rules.yaml")
    promtool(CHART, "check", "rules", "files/alerts.yaml")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, quiet = set(), set()
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if "exp_alerts" in case else quiet).add(case["alertname"])
    assert fires == quiet == {rule["alert"] for rule in rules()[0]["rules"]}


def test_every_alert_has_a_summary_a_description_and_a_runbook() -> None:
    for rule in rules()[0]["rules"]:
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")
        assert rule["labels"]["severity"] in {"warning", "info"}


def test_every_alert_can_be_disabled_and_an_unknown_name_is_rejected() -> None:
    metrics = json.loads((CHART / "values.schema.json").read_text())["properties"]["metrics"]["properties"]
    listed = metrics["prometheusRule"]["properties"]["disabled"]["items"]["enum"]
    assert sorted(listed) == sorted(rule["alert"] for rule in rules()[0]["rules"])
