"""The type of the test cases in ``test_values``, and the paths and values that several of them share."""

from typing import Any, TypeAlias

Case: TypeAlias = tuple[str, Any, dict[str, Any], dict[str, Any]]
"""A test case consists of a value's path, the value to set, other values that it requires, and the expected contents of
the rendered objects, keyed by path.
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
