"""The agent reads a single containerd namespace, and warns if images change only in another namespace."""

import asyncio
import logging

import pytest

from pulltrace.agent.containerd import Containerd
from pulltrace.agent.containerd_api.events_pb2 import Envelope, ImageChange


@pytest.fixture
def deliver(caplog):
    """Return a function that delivers events from the given namespaces to a client, and returns the changed images and
    the warnings.
    """

    def deliver(reads, *namespaces):
        client = Containerd("/nowhere", reads)
        for namespace in namespaces:
            envelope = Envelope(namespace=namespace, topic="/images/create")
            envelope.event.value = ImageChange(name=f"registry.test/{namespace}:1").SerializeToString()
            client._take_event(envelope.SerializeToString())
        return client._changed, [record for record in caplog.records if record.levelno == logging.WARNING]

    return deliver


def test_images_in_the_selected_namespace_are_read(deliver):
    assert deliver("moby", "moby", "default") == ({"registry.test/moby:1"}, [])


@pytest.mark.parametrize(("reads", "other"), [("k8s.io", "moby"), ("moby", "k8s.io")])
def test_one_warning_is_logged_if_images_change_only_in_another_namespace(deliver, reads, other):
    names, warnings = deliver(reads, other, other, "buildkit")
    assert not names
    assert [record.fields for record in warnings] == [{"namespace": other, "reading": reads}]


def test_no_warning_is_logged_if_images_also_change_in_the_selected_namespace(deliver):
    assert not deliver("k8s.io", "k8s.io", "moby")[1]


async def test_an_invalid_event_is_ignored():
    client = Containerd("/nowhere")
    client._take_event(b"\xff" * 8)
    await asyncio.sleep(0)
    assert not client._changed
