"""Tests that error messages from real clusters are classified, and that values are parsed from the kubelet's
messages.
"""

import tomllib
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from pulltrace.server.kubernetes.errors import Retry, about, back_off, classify, next_retry, pulled_in
from pulltrace.wire import ErrorReason

MESSAGES = tomllib.loads(Path(__file__).with_name("messages.toml").read_text())["message"]


@pytest.mark.parametrize("message", [pytest.param(item, id=item["source"][19:]) for item in MESSAGES])
def test_real_error_messages_are_classified(message):
    assert classify(message["text"]) is ErrorReason(message["reason"])
    # During the back-off, newer kubelets repeat the message with this prefix.
    repeated = f'Back-off pulling image "x": ErrImagePull: {message["text"]}'
    assert classify(repeated) is ErrorReason(message["reason"])


def test_there_are_at_least_sixty_example_messages_and_they_cover_every_reason():
    assert len(MESSAGES) >= 60
    assert {item["reason"] for item in MESSAGES} == set(ErrorReason)


@pytest.mark.parametrize(
    "image",
    [
        "registry.io/timeout/unauthorized:429",
        "denied.example.com/x509:not-found",
        "host/eof@sha256:" + "429" * 21 + "4",
    ],
)
def test_the_name_of_an_image_does_not_affect_the_failure_reason(image):
    message = f'failed to pull and unpack image "{image}": failed to do request: Head "https://{image}": something new'
    assert classify(message) is ErrorReason.UNKNOWN


@pytest.mark.parametrize("name", ["acme/app:429", "acme/app:401", "acme/timeout:1", "acme/certificate:1", "acme/eof:2"])
def test_an_unquoted_image_name_in_a_runtime_message_does_not_affect_the_failure_reason(name):
    image = f"docker.io/{name}"
    containerd = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
    assert classify(containerd) is ErrorReason.NOT_FOUND
    assert classify(f'Back-off pulling image "x": ErrImagePull: {containerd}') is ErrorReason.NOT_FOUND
    assert classify(f"manifest for {name} not found: manifest unknown: manifest unknown") is ErrorReason.NOT_FOUND


def test_a_5xx_status_from_a_proxy_is_a_server_error():
    message = "unexpected status from HEAD request to https://registry.example.com/v2/app/manifests/1: 522 <none>"
    assert classify(message) is ErrorReason.SERVER_ERROR


def test_the_waiting_reason_is_used_if_the_message_is_inconclusive():
    assert classify("", "InvalidImageName") is ErrorReason.INVALID_REFERENCE
    assert classify("", "ErrImageNeverPull") is ErrorReason.NOT_FOUND
    assert classify("", "RegistryUnavailable") is ErrorReason.SERVER_ERROR
    assert classify("", "ErrImagePull") is ErrorReason.UNKNOWN


@pytest.mark.parametrize(
    ("message", "image", "rest"),
    [
        ('Pulling image "nginx"', "nginx", ""),
        ('pulling image "nginx"', "nginx", ""),
        ('Failed to pull image "nginx": no: yes', "nginx", "no: yes"),
        ('Back-off pulling image "nginx"', "nginx", ""),
        ('Back-off pulling image "nginx": ErrImagePull: no: yes', "nginx", "no: yes"),
        ('(combined from similar events): Failed to pull image "nginx": no', "nginx", "no"),
        ('(combined from similar events): Successfully pulled image "nginx" in 7ms.', "nginx", "in 7ms."),
        ('Container image "nginx" already present on machine', "nginx", "already present on machine"),
        ('Failed to apply default image tag "A": couldn\'t parse', "A", "couldn't parse"),
        ("Error: ErrImagePull", "", ""),
        ("Back-off restarting failed container", "", ""),
        ("", "", ""),
    ],
)
def test_the_image_name_is_extracted_from_a_kubelet_message(message, image, rest):
    assert about(message) == (image, rest)


def test_the_back_off_doubles_from_ten_seconds_to_five_minutes():
    assert [back_off(attempt) for attempt in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert back_off(10**9) == 300


NODES_OWN = [
    "failed to extract layer sha256:abc: symlink ../x /y: permission denied: unknown",
    "failed to unpack image on snapshotter overlayfs: failed to extract layer sha256:a: mount callback failed on /tmp: "
    "exit status 1: unpigz: abort: not found",
    "failed to prepare extraction snapshot: parent snapshot sha256:a does not exist: not found",
    'failed to commit snapshot extract-1: snapshot "sha256:a": already exists',
    "failed to create lease: access denied by policy",
    'failed to acquire lease: lease "123": not found',
    "failed to apply layer: unauthorized: operation not permitted",
    "failed to register layer: Error processing tar file(exit status 1): operation not permitted",
    "failed to mount /var/lib/containerd/tmpmounts/x: mount source overlay: 404 not found",
    "open /var/lib/containerd/io.containerd.content.v1.content/ingest/x/data: read-only file system",
    "failed to commit: unexpected commit digest sha256:a, expected sha256:b: failed precondition: forbidden",
    "write /var/lib/containerd/ingest/x: input/output error: 503 service unavailable",
]


@pytest.mark.parametrize("message", NODES_OWN)
def test_an_error_on_the_node_is_not_blamed_on_the_registry(message):
    for text in (message, f'failed to pull and unpack image "docker.io/a/b:1": {message}'):
        assert classify(text) is ErrorReason.UNKNOWN


def test_a_full_disk_and_a_cancellation_are_also_recognised_while_a_layer_is_being_unpacked():
    assert classify("failed to extract layer sha256:a: write /x: no space left on device") is ErrorReason.DISK_FULL
    assert classify("failed to extract layer sha256:a: context canceled") is ErrorReason.CANCELED


@pytest.mark.parametrize("code", [500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530])
@pytest.mark.parametrize(
    "message",
    [
        "unexpected status code https://r.example.com/v2/a/manifests/1: {} <none>",
        "unexpected status code {}",
        "unexpected status from HEAD request to https://r.example.com/v2/a/manifests/1: {} <none>",
        "failed to copy: httpReadSeeker: failed open: unexpected status code https://r.example.com/v2/a/blobs/x: {} ",
        "httpReadSeeker: failed open: unexpected status from GET request to https://r.example.com/v2/a: {} ",
        "failed to authorize: failed to fetch oauth token: unexpected status: {} <none>",
        "failed to fetch anonymous token: unexpected status from POST request to https://a.example.com/t: {} <none>",
        "received unexpected HTTP status: {} <none>",
        "error parsing HTTP {} response body: invalid character '<' looking for beginning of value",
        "unexpected response code {}: error code: {}",
        "unexpected http code: {}, URL: https://r.example.com",
        "non-200 response: HTTP/1.1 {}",
    ],
)
def test_a_5xx_status_is_a_server_error_regardless_of_the_wording(code, message):
    assert classify(message.format(code, code)) is ErrorReason.SERVER_ERROR


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("http: server gave HTTP response to HTTPS client", ErrorReason.TLS),
        ("unexpected status: 400 Bad Request: Client sent an HTTP request to an HTTPS server.", ErrorReason.TLS),
        ("400 The plain HTTP request was sent to HTTPS port", ErrorReason.TLS),
        ("You're speaking plain HTTP to an SSL-enabled server port", ErrorReason.TLS),
        ('net/http: HTTP/1.x transport connection broken: malformed HTTP response "\\x15\\x03\\x01"', ErrorReason.TLS),
        ("tls: first record does not look like a TLS handshake", ErrorReason.TLS),
        ("SSL routines:ssl3_get_record:wrong version number", ErrorReason.TLS),
        ("Head https://r.example.com/v2/: http: server closed idle connection", ErrorReason.NETWORK),
        ("http: server closed idle connection", ErrorReason.NETWORK),
        ("net/http: HTTP/1.x transport connection broken: unexpected EOF", ErrorReason.NETWORK),
    ],
)
def test_http_on_an_https_port_and_https_on_an_http_port_count_as_tls_errors(message, reason):
    assert classify(message) is reason


def test_go_string_escapes_in_names_are_unescaped():
    for name, quoted in (
        ("nginx\u200b:1", r"nginx\u200b:1"),
        ('ngi"nx', r"ngi\"nx"),
        ("a\\b\tc\n", r"a\\b\tc\n"),
        ("\x7f\x01", r"\x7f\x01"),
        ("\U000e0001x", r"\U000e0001x"),
        ("é", "é"),
    ):
        assert about(f'Failed to apply default image tag "{quoted}": no') == (name, "no")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("in 300ms (17.011s including waiting). Image size: 2805123 bytes.", (0.3, 2805123)),
        ("in 1m2.5s (1m2.5s including waiting). Image size: 5 bytes.", (62.5, 5)),
        ("in 950µs (1ms including waiting)", (0.00095, None)),
        ("in 3.25s", (3.25, None)),
        ("in 1h0m3s (1h0m3s including waiting)", (3603.0, None)),
        ("in no time", (None, None)),
        ("in 1.2.3s. Image size: 99999999999999999999 bytes", (None, None)),
        ("", (None, None)),
    ],
)
def test_the_duration_and_size_of_a_pull_are_read_from_the_kubelet_message(text, found):
    assert pulled_in(text) == (pytest.approx(found[0]) if found[0] else None, found[1])


@pytest.mark.parametrize(
    ("attempt", "synced_after", "estimate"),
    [
        pytest.param(1, 0, 12.5, id="first attempt"),
        pytest.param(1, 0.8, 13.3, id="first attempt, synced when the sandbox started"),
        pytest.param(2, 0, 25, id="the sync after the next one"),
        pytest.param(3, 0, 46.3, id="after several syncs"),
        pytest.param(3, 25, 50, id="the next sync is certainly too early"),
        pytest.param(3, 26, 48.5, id="the next sync is probably too early"),
        pytest.param(3, 28, 45.5, id="the next sync may be too early"),
        pytest.param(3, 31, 43.5, id="the next sync"),
    ],
)
def test_the_kubelet_is_expected_to_retry_at_the_first_sync_after_the_back_off(attempt, synced_after, estimate):
    retry = next_retry(1000.0 + synced_after, attempt, failed_at=1000.0)
    assert retry == Retry(pytest.approx(1000.0 + estimate), earliest_at=1000.0 + 10 * 2 ** (attempt - 1))


@pytest.mark.parametrize("attempt", range(1, 7))
def test_the_expected_time_of_a_retry_is_right_on_average_and_changes_little(attempt):
    random = Random(attempt)
    errors = defaultdict(list)
    changes = []
    for _ in range(2000):
        syncs = [0.0]
        while syncs[-1] < back_off(attempt):
            syncs.append(syncs[-1] + random.uniform(10, 15))
        retried_at = syncs.pop()
        expected = [next_retry(at, attempt, failed_at=0.0).expected_at for at in syncs]
        for number, at in enumerate(expected):
            errors[number].append(at - retried_at)
        changes.append(max((abs(after - before) for before, after in pairwise(expected)), default=0.0))
    assert all(abs(fmean(found)) < 2 for found in errors.values() if len(found) > 500)
    assert max(changes) < 10
    assert sorted(changes)[1800] < 4, "nine of ten"
