"""Messages people really got, and what stands in a kubelet's words."""

import tomllib
from pathlib import Path

import pytest

from pulltrace.server.kubernetes.errors import about, back_off, classify
from pulltrace.wire import ErrorReason

MESSAGES = tomllib.loads(Path(__file__).with_name("messages.toml").read_text())["message"]


@pytest.mark.parametrize("message", [pytest.param(item, id=item["source"][19:]) for item in MESSAGES])
def test_a_message_people_really_got_is_classified(message):
    assert classify(message["text"]) is ErrorReason(message["reason"])
    # Newer kubelets repeat it while they back off, containerd's CRI quotes it once more.
    repeated = f'Back-off pulling image "x": ErrImagePull: {message["text"]}'
    assert classify(repeated) is ErrorReason(message["reason"])


def test_there_are_sixty_messages_of_every_reason():
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
def test_an_images_name_decides_nothing(image):
    message = f'failed to pull and unpack image "{image}": failed to do request: Head "https://{image}": something new'
    assert classify(message) is ErrorReason.UNKNOWN


@pytest.mark.parametrize("name", ["acme/app:429", "acme/app:401", "acme/timeout:1", "acme/certificate:1", "acme/eof:2"])
def test_a_name_that_a_runtime_repeats_without_quotes_decides_nothing(name):
    image = f"docker.io/{name}"
    containerd = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
    assert classify(containerd) is ErrorReason.NOT_FOUND
    assert classify(f'Back-off pulling image "x": ErrImagePull: {containerd}') is ErrorReason.NOT_FOUND
    assert classify(f"manifest for {name} not found: manifest unknown: manifest unknown") is ErrorReason.NOT_FOUND


def test_a_proxys_own_five_hundreds_are_the_servers_errors():
    message = "unexpected status from HEAD request to https://registry.example.com/v2/app/manifests/1: 522 <none>"
    assert classify(message) is ErrorReason.SERVER_ERROR


def test_the_containers_reason_decides_when_the_message_says_nothing():
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
def test_what_a_kubelets_message_is_about(message, image, rest):
    assert about(message) == (image, rest)


def test_the_back_off_doubles_from_ten_seconds_to_five_minutes():
    assert [back_off(attempt) for attempt in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert back_off(10**9) == 300
