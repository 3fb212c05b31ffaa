"""Why an image did not come, from what the kubelet and the container runtime say; and when it is tried again.

PURE. The messages are free text of a dozen programs. The rules below are tried in order against the text without its
URLs and image names, so that an image called ``timeout`` or a tag ``429`` decide nothing; each is held to messages
people really got in ``tests/server/kubernetes/messages.toml``.
"""

import re

from pulltrace.wire import ErrorReason

# The kubelet's image back-off: imageBackOffPeriod and MaxImageBackOff, doubled at every failure of one pod and image
# and forgotten after twice the maximum without one.
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet.go#L226 (10 s) and #L180 (300 s);
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/client-go/util/flowcontrol/backoff.go
FIRST_BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0

# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/images/types.go and
# https://github.com/kubernetes/cri-api/blob/v0.37.2/pkg/errors/errors.go
# (the reason here is for when the message tells none).
WAITING_REASONS = {
    "ErrImagePull": ErrorReason.UNKNOWN,
    "ImagePullBackOff": ErrorReason.UNKNOWN,
    "InvalidImageName": ErrorReason.INVALID_REFERENCE,
    "ErrImageNeverPull": ErrorReason.NOT_FOUND,
    "ImageInspectError": ErrorReason.UNKNOWN,
    "RegistryUnavailable": ErrorReason.SERVER_ERROR,
    "SignatureValidationFailed": ErrorReason.UNKNOWN,
}
"""What a container's waiting reason is when its image could not be had."""

WITHOUT_RETRY = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Reasons for which the kubelet looks again but pulls nothing until somebody changes the pod or the node."""

_RULES = tuple(
    (reason, re.compile(pattern))
    for reason, pattern in (
        (ErrorReason.DISK_FULL, r"no space left on device|disk quota exceeded|not enough space"),
        # What the node itself lost or cannot unpack also says "not found".
        (ErrorReason.UNKNOWN, r"parent snapshot|content digest|stream processor|failed size validation|media type"),
        (
            ErrorReason.INVALID_REFERENCE,
            r"invalid reference format|couldn't parse image|invalidimagename|invalid image name"
            r"|must be lowercase|unsupported digest algorithm|invalid checksum digest",
        ),
        (
            ErrorReason.RATE_LIMITED,
            r"toomanyrequests|too many requests|\b429\b|rate ?limit|rate exceeded|throttl|quota exceeded"
            r"|pull qps exceeded",  # the kubelet's own limit, registryPullQPS
        ),
        (
            ErrorReason.SERVER_ERROR,
            r"\b50[0-9] (internal|bad gateway|service|gateway|server)|status(?: code)?:? 5[0-9][0-9]\b"
            r"|status from (?:get|head) request to +5[0-9][0-9]\b"  # Cloudflare's 52x have no words of their own
            r"|internal server error|bad gateway|service unavailable|gateway time-?out",
        ),
        (ErrorReason.TIMEOUT, r"timeout|timed out|deadline ?exceeded"),
        (ErrorReason.TLS, r"x509:|\btls: |certificate|server gave http response to https client"),
        (
            ErrorReason.UNAUTHORIZED,
            r"\b401\b|\b403\b|unauthorized|forbidden|\bdenied(?::| on resource|,)|no basic auth credentials"
            r"|authorization failed|authentication (?:is )?required|insufficient_scope"
            r"|access (?:to the resource is )?denied",
        ),
        # The runtime went away in the middle of the pull: nobody else is to blame.
        (ErrorReason.CANCELED, r"context cancell?ed|code = cancell?ed|error reading from server: eof|containerd\.sock"),
        (
            ErrorReason.NETWORK,
            r"no such host|connection refused|connection reset|no route to host|network is unreachable|broken pipe"
            r"|server misbehaving|\beof\b|dial tcp|proxyconnect|use of closed network connection|stream error|http2: "
            r"|temporary failure in name resolution|connection error",
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
_QUOTED = re.compile(r"\\*\"([^\"\s\\]*)\\*\"")  # what is quoted and has no spaces
_DOCKERS_NAME = re.compile(r"(?<=manifest for )\S+|(?<=access denied for )[^\s,]+")  # Docker quotes no names

COMBINED = "(combined from similar events): "
"""Stands before the newest of more than ten events that differ in their words only (client-go, events_cache.go)."""

# kubelet, image_manager.go: the events and waiting messages that carry a cause, and the image they are about.
_ABOUT_IMAGE = re.compile(
    r"(?:Failed to pull image|Back-off pulling image|Failed to inspect image|Failed to apply default image tag"
    r"|Container image|[Pp]ulling image|Successfully pulled image) \"(?P<image>(?:[^\"\\]|\\.)*)\"(?:: )?(?P<rest>.*)",
    re.DOTALL,
)


def classify(message: str, waiting_reason: str = "") -> ErrorReason:
    """The closed-list reason of a failure, from its message and, where that tells nothing, the container's reason."""
    text = _without_names(message).lower()
    for reason, pattern in _RULES:
        if pattern.search(text):
            return reason
    return WAITING_REASONS.get(waiting_reason, ErrorReason.UNKNOWN)


def _without_names(message: str) -> str:
    """The message without URLs, quoted names, and image names that it repeats without quotes, as containerd does."""
    text = _DOCKERS_NAME.sub(" ", _URL.sub(" ", message))
    images = {name for name in _QUOTED.findall(text) if "/" in name}
    text = _QUOTED.sub(" ", text)
    for image in sorted(images, key=len, reverse=True):
        text = text.replace(image, " ")
    return text


def about(message: str) -> tuple[str, str]:
    """A kubelet's message → the image it is about, as written in the pod, and the cause, or what else it says.

    Newer kubelets (1.32 on) repeat the cause while they back off: ``Back-off pulling image "x": ErrImagePull: …``.
    Both are empty when the message is about something else.
    """
    match = _ABOUT_IMAGE.match(message.removeprefix(COMBINED))
    if not match:
        return "", ""
    rest = match["rest"]
    for name in WAITING_REASONS:
        rest = rest.removeprefix(f"{name}: ")
    return match["image"], rest.strip()


def back_off(attempt: int) -> float:
    """Seconds the kubelet waits at least after this many failures of one pod and image."""
    return min(FIRST_BACK_OFF * 2.0 ** min(attempt - 1, 10), LONGEST_BACK_OFF)
