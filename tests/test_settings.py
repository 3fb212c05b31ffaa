"""Environment variables are parsed into settings; if any are invalid, a single error lists all mistakes."""

import logging

import pytest

from pulltrace.settings import (
    Address,
    AgentSettings,
    ServerSettings,
    SettingsError,
    load,
    parse_duration,
    variables,
    warn_of_unknown,
)

AGENT = {"PULLTRACE_NODE_NAME": "worker-1"}


def test_the_settings_have_the_documented_defaults() -> None:
    server = load(ServerSettings, {})
    assert (server.http_addr, server.metrics_addr) == (Address("", 8080), Address("", 9090))
    assert (server.history_ttl, server.stall_timeout, server.watch_namespaces) == (1800, 30, None)
    agent = load(AgentSettings, AGENT)
    assert (agent.report_interval, agent.heartbeat_interval) == (1, 10)
    assert agent.server_url is agent.agent_token is agent.containerd_socket is None


def test_an_empty_value_counts_as_unset() -> None:
    assert load(ServerSettings, {"PULLTRACE_HISTORY_TTL": " ", "PULLTRACE_LOG_LEVEL": ""}) is not None


def test_all_invalid_variables_are_reported_by_name_in_a_single_error() -> None:
    environ = {
        "PULLTRACE_NODE_NAME": "Not_A_Node",
        "PULLTRACE_SERVER_URL": "pulltrace:8080",
        "PULLTRACE_REPORT_INTERVAL": "-1s",
        "PULLTRACE_HEARTBEAT_INTERVAL": "100ms",
        "PULLTRACE_CONTAINERD_SOCKET": "containerd.sock",
        "PULLTRACE_LOG_LEVEL": "loud",
        "PULLTRACE_AGENT_TOKEN": "two words",
    }
    with pytest.raises(SettingsError) as caught:
        load(AgentSettings, environ)
    assert {mistake.partition("=")[0].split()[0] for mistake in caught.value.mistakes} == set(environ)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "environ", "mistake"),
    [
        (ServerSettings, {"AGENT_TOKEN": "a", "AGENT_SERVICE_ACCOUNT": "a/b"}, "cannot be used together"),
        (AgentSettings, {"AGENT_TOKEN": "a", "AGENT_TOKEN_FILE": "/a", "NODE_NAME": "n"}, "cannot be used together"),
        (ServerSettings, {"TLS_CERT_FILE": "/a"}, "PULLTRACE_TLS_CERT_FILE also needs PULLTRACE_TLS_KEY_FILE"),
        (ServerSettings, {"TLS_KEY_FILE": "/a"}, "PULLTRACE_TLS_KEY_FILE also needs PULLTRACE_TLS_CERT_FILE"),
        (ServerSettings, {"AGENT_SERVICE_ACCOUNT": "pulltrace-agent"}, "is not a service account"),
        (AgentSettings, {"SERVER_URL": "http://a:99999", "NODE_NAME": "n"}, "='http://a:99999' Port out of range"),
        (AgentSettings, {"SERVER_URL": "http://a:b", "NODE_NAME": "n"}, "='http://a:b' Port could not be cast"),
        (AgentSettings, {"SERVER_URL": "https://a:b@c", "NODE_NAME": "n"}, "contains a user name or a password"),
        (AgentSettings, {"SERVER_CA_FILE": "ca.crt", "NODE_NAME": "n"}, "='ca.crt' is not an absolute path"),
    ],
)
def test_conflicting_variables_are_reported(kind, environ: dict[str, str], mistake: str) -> None:
    with pytest.raises(SettingsError, match=mistake):
        load(kind, {f"PULLTRACE_{name}": text for name, text in environ.items()})


def test_the_agent_requires_a_node_name() -> None:
    with pytest.raises(SettingsError, match="PULLTRACE_NODE_NAME is required"):
        load(AgentSettings, {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1s", 1), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("2m0.5s", 120.5), ("1h1m1s", 3661)],
)
def test_durations_are_parsed_in_go_syntax(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1 s", "1d", "1s ", "\u0661s", "1e3s"])
def test_an_invalid_duration_is_an_error_and_is_not_replaced_by_the_default(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PULLTRACE_HTTP_ADDR", "[::1]:80", "http_addr", Address("::1", 80)),
        ("PULLTRACE_HTTP_ADDR", "127.0.0.1:0", "http_addr", Address("127.0.0.1", 0)),
        ("PULLTRACE_WATCH_NAMESPACES", " a, b ,a,", "watch_namespaces", ("a", "b")),
        ("PULLTRACE_LOG_LEVEL", "WARNING", "log_level", logging.WARNING),
        ("PULLTRACE_LOG_LEVEL", "Debug", "log_level", logging.DEBUG),
        ("PULLTRACE_AGENT_TOKEN", "secret\n", "agent_token", "secret"),
        ("PULLTRACE_CORS_ORIGIN", "https://a.example.org:8443", "cors_origin", "https://a.example.org:8443"),
    ],
)
def test_common_spellings_of_values_are_accepted(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(load(ServerSettings, {variable: text}), field) == value


def test_the_server_url_may_end_with_a_slash() -> None:
    agent = load(AgentSettings, AGENT | {"PULLTRACE_SERVER_URL": "https://pulltrace.example/sub/"})
    assert agent.server_url == "https://pulltrace.example/sub"


@pytest.mark.parametrize("text", ["tcp://10.0.0.1:8080", ":http", "8080", ":65536", ":-1"])
def test_an_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match="PULLTRACE_HTTP_ADDR"):
        load(ServerSettings, {"PULLTRACE_HTTP_ADDR": text})


def test_the_repr_of_the_settings_does_not_contain_the_token() -> None:
    assert "hunter2" not in repr(load(ServerSettings, {"PULLTRACE_AGENT_TOKEN": "hunter2"}))


def test_a_warning_about_a_misspelt_variable_suggests_the_closest_name(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "PULLTRACE_HISTORY_TLL": "1h",
        "PULLTRACE_SERVER_PORT": "tcp://10.0.0.1:8080",
        "PULLTRACE_SERVER_SERVICE_HOST": "10.0.0.1",
        "PULLTRACE_LOG_LEVEL": "info",
    }
    warn_of_unknown(environ, logging.getLogger("test"))
    assert caplog.messages == ["unknown variable PULLTRACE_HISTORY_TLL; did you mean PULLTRACE_HISTORY_TTL?"]


def test_no_variable_collides_with_the_variables_that_kubernetes_sets_for_services() -> None:
    assert not [item.metadata["name"] for item in variables() if item.metadata["name"].endswith("_PORT")]


@pytest.mark.parametrize(
    "text", ["*", "a.example.org", "https://a.example.org/", "https://a.example.org/x", "ftp://a.org"]
)
def test_an_invalid_origin_is_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match="PULLTRACE_CORS_ORIGIN"):
        load(ServerSettings, {"PULLTRACE_CORS_ORIGIN": text})
