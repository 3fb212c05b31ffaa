"""Derive the cause of a failed pull from the messages of kubelets and runtimes, and estimate when the next attempt is
due.

Sans-I/O. The messages are free-form text from about a dozen programs. The rules in this module are tried in order. URLs
and image names are removed from the text first, so an image called ``timeout`` or a tag ``429`` does not affect the
result. The tests check each rule with messages from public reports, which are in
``tests/server/kubernetes/messages.toml``.
"""

import re
from dataclasses import dataclass

from pulltrace.wire import MAX_ERROR, ErrorReason

# The kubelet's back-off for images: imageBackOffPeriod and MaxImageBackOff. The kubelet keeps a separate back-off for
# each pod and image. The back-off doubles with every failure, and is reset after twice the maximum back-off without a
# failure.
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet.go#L226 (10 s) and #L180 (300 s);
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/client-go/util/flowcontrol/backoff.go
FIRST_BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0
SHORTEST_SYNC, SYNC, LONGEST_SYNC = 10.0, 12.5, 15.0
"""The minimum, the mean and the maximum time, in seconds, between syncs of a pod that has not started."""
SYNC_LEFT = 6.3
"""The mean time, in seconds, from any moment to the next sync: the mean of the squared interval, divided by twice the
mean interval.
"""

# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/images/types.go and
# https://github.com/kubernetes/cri-api/blob/v0.37.2/pkg/errors/errors.go
WAITING_REASONS = {
    "ErrImagePull": ErrorReason.UNKNOWN,
    "ImagePullBackOff": ErrorReason.UNKNOWN,
    "InvalidImageName": ErrorReason.INVALID_REFERENCE,
    "ErrImageNeverPull": ErrorReason.NOT_FOUND,
    "ImageInspectError": ErrorReason.UNKNOWN,
    "RegistryUnavailable": ErrorReason.SERVER_ERROR,
    "SignatureValidationFailed": ErrorReason.UNKNOWN,
}
"""Maps the waiting reason of a container that has no image to an error reason. The mapped reason is used only if the
message does not give a more precise one.
"""

WITHOUT_PULL = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
"""The waiting reasons of containers for which the kubelet does not even try to pull the image. The kubelet may report
the same reason repeatedly.
"""

WITHOUT_RETRY = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Waiting reasons after which the kubelet does not retry unless someone changes the pod or the node."""

_LONGEST_TEXT = 16384
"""Maximum length of the text to search. Real messages are shorter, but a tenant of the cluster could write a message of
several megabytes.
"""

_HTTP_5XX = (
    r"\b5[0-9][0-9] (?:<none>|internal|bad gateway|service|gateway|server|web server|connection timed|origin|"
    r"a timeout|ssl handshake|invalid ssl|\(5[0-9][0-9] ?\))"
    # Go has no status texts for Cloudflare's 52x codes, so these codes are recognised only by the words before them.
    r"|(?:status|response|https?(?:/[12](?:\.[01])?)?|code)(?: ?code)?"
    r"(?: from (?:[a-z]+ request to|[a-z]+))?[\s:=(]+5[0-9][0-9]\b"
)
_UNPACKING = (
    r"failed to (?:extract|apply|unpack|register|mount|commit|prepare|stat|create|get|acquire|list|delete|add)"
    r"(?: (?:the|a|an|to|new|extraction|temporary|image))*"
    r" (?:layers?|diff|snapshots?|snapshotter|rootfs|mounts?|lease|content|blob|image|target|tmp ?mount|temp dir)\b"
    r"|failed to (?:commit|mount|open writer|open content|ensure|initialize|convert whiteout|remove|chown|chmod|mkdir)"
    r"|(?:error|failed) (?:processing tar|creating (?:new )?(?:overlay|layer|snapshot)|mounting|unpacking|extracting)"
    r"|parent snapshot|content digest|content sha256|stream processor|failed size validation|media type|unpigz|gzip:"
    r"|archive/tar|invalid tar header|unexpected commit|mount callback|snapshot \S+ (?:does not|already)"
    r"|\blease\b.*(?:not found|does not exist|already exists|expired)"
)
# Errors returned by system calls on the node. Some of these errors can also be returned by network calls.
_SYSTEM = (
    r"operation not permitted|read-only file system|input/output error|structure needs cleaning"
    r"|too many (?:open files|links|levels)|cannot allocate memory|file exists|no such file or directory"
    r"|file name too long|not a directory|device or resource busy|stale (?:nfs )?file handle|permission denied"
    r"|invalid cross-device link|invalid argument|bad message"
)
_NODE = rf"{_UNPACKING}|\A(?!.*(?:dial |lookup |do request|denied: |containerd\.sock)).*(?:{_SYSTEM})"
_CANCELED = r"context cancell?ed|code = cancell?ed|error reading from server: eof|containerd\.sock"

_RULES = tuple(
    (reason, re.compile(pattern, re.DOTALL))
    for reason, pattern in (
        (ErrorReason.DISK_FULL, r"no space left on device|disk quota exceeded|not enough space"),
        # Errors that occur on the node may also contain "not found" or "denied", but they are not caused by the
        # registry.
        (ErrorReason.CANCELED, rf"(?:{_NODE}).*(?:{_CANCELED})"),
        (ErrorReason.UNKNOWN, _NODE),
        (
            ErrorReason.INVALID_REFERENCE,
            r"invalid reference format|couldn't parse image|invalidimagename|invalid image name"
            r"|must be lowercase|unsupported digest algorithm|invalid checksum digest",
        ),
        (
            ErrorReason.RATE_LIMITED,
            r"toomanyrequests|too many requests|\b429\b|rate ?limit|rate exceeded|throttl|quota exceeded"
            r"|pull qps exceeded",  # the kubelet's own rate limit, registryPullQPS
        ),
        (
            ErrorReason.TLS,  # a TLS message may also contain the proxy's status, "400 Bad Request"
            r"server gave http response to https client|http request (?:was )?sent to (?:an )?https|https? server port"
            r"|sent an http request to an https|plain http to an ssl|malformed http response|wrong version number"
            r"|first record does not look like a tls|\bssl routines|ssl3_|unexpected tls|tlsv1",
        ),
        (
            ErrorReason.SERVER_ERROR,
            rf"{_HTTP_5XX}|internal server error|bad gateway|service unavailable|gateway time-?out",
        ),
        (ErrorReason.TIMEOUT, r"timeout|timed out|deadline ?exceeded"),
        (ErrorReason.TLS, r"x509:|\btls: |certificate"),
        (
            ErrorReason.UNAUTHORIZED,
            r"\b401\b|\b403\b|unauthorized|forbidden|\bdenied(?::| on resource|,)|no basic auth credentials"
            r"|authorization failed|authentication (?:is )?required|insufficient_scope"
            r"|access (?:to the resource is )?denied",
        ),
        # The runtime was stopped during the pull, and the failure has no other cause.
        (ErrorReason.CANCELED, _CANCELED),
        (
            ErrorReason.NETWORK,
            r"no such host|connection refused|connection reset|no route to host|network is unreachable|broken pipe"
            r"|server misbehaving|\beof\b|dial tcp|proxyconnect|use of closed network connection|stream error|http2: "
            r"|temporary failure in name resolution|connection error|closed idle connection|connection broken"
            r"|malformed http|host is down|server closed",
        ),
        (
            ErrorReason.NOT_FOUND,
            r"not ?found|manifest[ _]unknown|name[ _]unknown|does not exist|no match for platform|\b404\b"
            r"|no matching manifest|no image found|is not present with pull policy of never",
        ),
        (ErrorReason.SERVER_ERROR, r"registry is unavailable|registryunavailable"),
    )
)
_URL = re.compile(r"\bhttps?://[^\s\"\\]+")
_QUOTED = re.compile(r"\\*\"([^\"\s\\]*)\\*\"")  # quoted, without spaces
_DOCKERS_NAME = re.compile(r"(?<=manifest for )\S+|(?<=access denied for )[^\s,]+")  # Docker does not quote these names

COMBINED = "(combined from similar events): "
"""client-go adds this prefix to the newest event if more than ten events differ only in their text (events_cache.go).
"""

# The kubelet's events and waiting containers' messages that name an image (image_manager.go). The rest of the text may
# give a cause.
_ABOUT_IMAGE = re.compile(
    r"(?:Failed to pull image|Back-off pulling image|Failed to inspect image|Failed to apply default image tag"
    r"|Container image|[Pp]ulling image|Successfully pulled image) \"(?P<image>(?:[^\"\\]|\\.)*)\"(?:: )?(?P<rest>.*)",
    re.DOTALL,
)

# `Successfully pulled image "x" in 300ms (17.1s including waiting). Image size: 2805 bytes.`
_PULLED = re.compile(r"in (?P<took>[0-9][0-9a-zµμ.]*)(?:.*Image size: (?P<size>[0-9]{1,18}) bytes)?", re.DOTALL)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([0-7]{3})|(.))", re.DOTALL)
_SHORT_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True, order=True)
class Retry:
    """The kubelet's next attempt after a failure. Times are in Unix seconds."""

    expected_at: float
    earliest_at: float


def classify(message: str, waiting_reason: str = "") -> ErrorReason:
    """Return the reason for a pull's failure. The reason comes from the message or, if the message contains no known
    reason, from the container's waiting reason.
    """
    text = _without_names(message[:_LONGEST_TEXT]).lower()
    for reason, pattern in _RULES:
        if pattern.search(text):
            return reason
    return WAITING_REASONS.get(waiting_reason, ErrorReason.UNKNOWN)


def _without_names(message: str) -> str:
    """Remove URLs and quoted names. If containerd repeats an image's name without quotes, remove the unquoted name
    too.
    """
    text = _DOCKERS_NAME.sub(" ", _URL.sub(" ", message))
    images = {name for name in _QUOTED.findall(text) if "/" in name}
    text = _QUOTED.sub(" ", text)
    for image in sorted(images, key=len, reverse=True)[:20]:
        text = text.replace(image, " ")
    return text


def about(message: str) -> tuple[str, str]:
    """Return the image named in a kubelet message, as written in the pod, and the rest of the message (usually the
    cause).

    Since version 1.32, kubelets repeat the cause during back-off: ``Back-off pulling image "x": ErrImagePull: …``. Both
    results are empty if the message is not about an image.
    """
    match = _ABOUT_IMAGE.match(message.removeprefix(COMBINED))
    if not match:
        return "", ""
    rest = match["rest"]
    for name in WAITING_REASONS:
        rest = rest.removeprefix(f"{name}: ")
    return go_unquote(match["image"]), rest.strip()


def cause_of(message: str) -> str:
    """Return the cause given in a waiting message, or the whole message if it does not give a cause. The result is
    shortened.
    """
    return shorten(about(message)[1] or message)


def shorten(message: str) -> str:
    """Shorten a message to the maximum length shown to users."""
    return message if len(message) <= MAX_ERROR else f"{message[: MAX_ERROR - 1]}…"


def go_unquote(text: str) -> str:
    """Undo the escaping of Go's ``%q``, which kubelets and containerd use to quote names."""
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    two, four, eight, octal, other = match.groups()
    if other:
        return _SHORT_ESCAPES.get(other, other)
    code = int(octal, 8) if octal else int(two or four or eight, 16)
    return chr(code) if code < 0x80 or (not two and not octal and code <= 0x10FFFF) else "\ufffd"


def pulled_in(text: str) -> tuple[float | None, int | None]:
    """Parse the end of the kubelet's message about a successful pull. Return how long the pull took, in seconds, and
    the image's size.
    """
    match = _PULLED.match(text)
    if not match:
        return None, None
    parts = _DURATION.findall(match["took"])
    complete = "".join(number + unit for number, unit in parts) == match["took"].rstrip(".")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts and complete else None
    return seconds, int(match["size"]) if match["size"] else None


def back_off(attempt: int) -> float:
    """Return the minimum time, in seconds, that the kubelet waits before it retries. ``attempt`` is the number of
    failed attempts to pull an image for one pod.
    """
    return min(FIRST_BACK_OFF * 2.0 ** min(attempt - 1, 10), LONGEST_BACK_OFF)


def next_retry(synced_at: float, attempt: int, failed_at: float) -> Retry:
    """Estimate the time of the kubelet's next retry. The kubelet retries when it first syncs the pod after the
    back-off. ``synced_at`` is the time of the last known sync.
    """
    earliest_at = failed_at + back_off(attempt)
    left = earliest_at - synced_at
    if left > 2 * SHORTEST_SYNC:
        return Retry(earliest_at + SYNC_LEFT, earliest_at)
    # If the next sync is too early, the kubelet retries at the one after it.
    too_early = min(max((left - SHORTEST_SYNC) / (LONGEST_SYNC - SHORTEST_SYNC), 0.0), 1.0)  # a probability
    return Retry(synced_at + SYNC * (1.0 + too_early), earliest_at)


def retry_at_next_sync(synced_at: float) -> Retry:
    """Estimate the time of the kubelet's next retry after a failure for which the kubelet does not back off."""
    return Retry(synced_at + SYNC, synced_at + SHORTEST_SYNC)
