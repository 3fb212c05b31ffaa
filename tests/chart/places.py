"""Paths to rendered objects, and sample values, for the test cases of ``test_values``."""

from typing import Any, TypeAlias

Case: TypeAlias = tuple[str, Any, dict[str, Any], dict[str, Any]]
"""A test case: the path of a value, the value itself, other values that it requires, and the expected contents of the
rendered objects.
"""

AGENT = "DaemonSet/pulltrace-agent"
SERVER = "Deployment/pulltrace-server"
TEST = "Pod/pulltrace-test"
AGENT_POD = f"{AGENT}#spec.template.spec"
SERVER_POD = f"{SERVER}#spec.template.spec"
AGENT_BOX = f"{AGENT_POD}.containers.[pulltrace-agent]"
SERVER_BOX = f"{SERVER_POD}.containers.[pulltrace-server]"
SERVICE = "Service/pulltrace-server"
SECRET = "Secret/pulltrace-agent-token"
GATEWAY = [{"name": "public"}]
RULES = "PrometheusRule/pulltrace#spec.groups.0.rules"
LOGIN = [{"name": "login", "port": 4180, "targetPort": 4180}]
RULE = {"metrics.prometheusRule.enabled": True}
ROUTE = {"httpRoute.enabled": True, "httpRoute.parentRefs": GATEWAY}
