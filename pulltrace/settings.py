"""Read the ``PULLTRACE_*`` variables into immutable settings. All mistakes are reported together, each with the name of
the variable concerned.

Each field's metadata contains the variable's name, its parser, and its default as a user would write it. The variables
are listed only in the settings classes. Tests compare the docs and the chart with this list. An empty value counts as
unset.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pulltrace.wire import NODE_NAME

PREFIX = "PULLTRACE_"

Settings = TypeVar("Settings", bound="_Both")


class SettingsError(Exception):
    """The configuration is invalid. ``mistakes`` contains one sentence per mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Address(NamedTuple):
    """A listen address. An empty host means every interface, and port 0 means any free port."""

    host: str
    port: int


# Go's duration units (https://pkg.go.dev/time#ParseDuration) in seconds, as accepted by Pulltrace v0.1.0.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Convert ``500ms``, ``1s`` or ``1h30m`` to seconds. Raises ``ValueError``."""
    if not re.fullmatch(f"(?:{_DURATION_PART.pattern})+", text, re.ASCII):
        raise ValueError("is not a duration like 500ms, 1s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def _duration(at_least: str) -> Callable[[str], float]:
    minimum = parse_duration(at_least)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if seconds < minimum:
            raise ValueError(f"must be at least {at_least}")
        return seconds

    return parse


_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:/\[\]]*)):([0-9]{1,5})")


def _address(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > 65535:
        raise ValueError("is not an address like :8080, 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2] or "", int(match[3]))


def _level(text: str) -> int:
    levels = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
    try:
        return levels[text.lower()]
    except KeyError:
        raise ValueError("is not one of debug, info, warn, error") from None


def _token(text: str) -> str:
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("must be printable ASCII without spaces")
    return token


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # a namespace name (RFC 1123)


def _namespaces(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if not re.fullmatch(_LABEL, name):
            raise ValueError(f"contains {name!r}, which is not a valid namespace name")
    return names


def _node_name(text: str) -> str:
    if not NODE_NAME.fullmatch(text):
        raise ValueError("is not a node name (a DNS-1123 subdomain)")
    return text


def _server_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not a URL like http://pulltrace-server:8080")
    if "@" in parts.netloc:
        raise ValueError("contains a user name or a password, which the agent would not send; use a token instead")
    _ = parts.port  # raises ValueError if the port is invalid
    return text.rstrip("/")


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or f"{parts.scheme}://{parts.netloc}" != text:
        raise ValueError("is not an origin like https://backstage.example.org")
    return text


def _socket(text: str) -> str:
    path = text.removeprefix("unix://")
    if not path.startswith("/"):
        raise ValueError("is not an absolute path")
    return path


def _containerd_namespace(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", text) or len(text) > 76:
        raise ValueError("is not a containerd namespace like k8s.io or moby")
    return text


def _account(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not re.fullmatch(_LABEL, namespace) or not NODE_NAME.fullmatch(name):  # the name is also a DNS-1123 subdomain
        raise ValueError("is not a service account like pulltrace/pulltrace-agent")
    return text


def _file(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not an absolute path")
    return text


def _var(
    name: str,
    parse: Callable[[str], Any],
    default: str | None = None,
    *,
    required: bool = False,
    without: str = "",
    along: str = "",
) -> Any:
    """Declare a variable. ``without`` is the name of a variable that conflicts with this one, and ``along`` is the name
    of a variable that this one requires.
    """
    return field(
        metadata={
            "name": PREFIX + name,
            "parse": parse,
            "default": default,
            "required": required,
            "without": without and PREFIX + without,
            "along": along and PREFIX + along,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Both:
    log_level: int = _var("LOG_LEVEL", _level, "info")
    agent_token: str | None = _var("AGENT_TOKEN", _token)

    def __repr__(self) -> str:
        """Hide the values, because they include the token, and settings may appear in logs and tracebacks."""
        return f"{type(self).__name__}(…)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ServerSettings(_Both):
    """The settings of ``pulltrace server``. Durations are in seconds."""

    http_addr: Address = _var("HTTP_ADDR", _address, ":8080")
    metrics_addr: Address = _var("METRICS_ADDR", _address, ":9090")
    watch_namespaces: tuple[str, ...] | None = _var("WATCH_NAMESPACES", _namespaces)
    history_ttl: float = _var("HISTORY_TTL", _duration("1s"), "30m")
    stall_timeout: float = _var("STALL_TIMEOUT", _duration("1s"), "30s")
    cors_origin: str | None = _var("CORS_ORIGIN", _origin)
    agent_service_account: str | None = _var("AGENT_SERVICE_ACCOUNT", _account, without="AGENT_TOKEN")
    tls_cert_file: str | None = _var("TLS_CERT_FILE", _file, along="TLS_KEY_FILE")
    tls_key_file: str | None = _var("TLS_KEY_FILE", _file, along="TLS_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AgentSettings(_Both):
    """The settings of ``pulltrace agent``. Durations are in seconds."""

    node_name: str = _var("NODE_NAME", _node_name, required=True)
    server_url: str | None = _var("SERVER_URL", _server_url)
    containerd_socket: str | None = _var("CONTAINERD_SOCKET", _socket)
    containerd_namespace: str = _var("CONTAINERD_NAMESPACE", _containerd_namespace, "k8s.io")
    soci_root: str | None = _var("SOCI_ROOT", _file)
    report_interval: float = _var("REPORT_INTERVAL", _duration("500ms"), "1s")
    heartbeat_interval: float = _var("HEARTBEAT_INTERVAL", _duration("500ms"), "10s")
    agent_token_file: str | None = _var("AGENT_TOKEN_FILE", _file, without="AGENT_TOKEN")
    server_ca_file: str | None = _var("SERVER_CA_FILE", _file)
    registry_hosts_dir: str | None = _var("REGISTRY_HOSTS_DIR", _file)


def load(kind: type[Settings], environ: Mapping[str, str]) -> Settings:
    """Read the settings of one process. Raises ``SettingsError``, which lists every mistake."""
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for item in fields(kind):
        name = item.metadata["name"]
        text = environ.get(name, "").strip() or item.metadata["default"]
        if text is None:
            values[item.name] = None
            if item.metadata["required"]:
                mistakes.append(f"{name} is required")
            continue
        try:
            values[item.name] = item.metadata["parse"](text)
        except ValueError as error:
            # Never print a token or a password, not even an invalid one.
            secret = item.metadata["parse"] is _token or "@" in text
            mistakes.append(f"{name}{'' if secret else f'={text!r}'} {error}")
        if _is_set(item.metadata["without"], environ):
            mistakes.append(f"{name} and {item.metadata['without']} cannot be used together")
        if item.metadata["along"] and not _is_set(item.metadata["along"], environ):
            mistakes.append(f"{name} also needs {item.metadata['along']}")
    if mistakes:
        raise SettingsError(mistakes)
    return kind(**values)


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(name, "").strip())


def variables() -> Iterator[Field[Any]]:
    """Yield each environment variable that the server or the agent reads, without duplicates. Each field's ``metadata``
    contains the variable's name and default.
    """
    known = {item.metadata["name"]: item for kind in (ServerSettings, AgentSettings) for item in fields(kind)}
    yield from known.values()


def warn_of_unknown(environ: Mapping[str, str], log: logging.Logger) -> None:
    """Warn about unknown variables. Unknown variables are probably misspelt, and would otherwise be silently ignored.

    No warning is given for variables that Kubernetes itself sets for services.
    """
    known = [item.metadata["name"] for item in variables()]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not re.search(r"_PORT(_|\Z)|_SERVICE_", name):
            import difflib  # noqa: PLC0415  # most processes have no unknown variable

            near = difflib.get_close_matches(name, known, n=1)
            log.warning("unknown variable %s%s", name, f"; did you mean {near[0]}?" if near else "")
