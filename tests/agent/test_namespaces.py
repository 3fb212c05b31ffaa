"""The agent reads a single containerd namespace, and warns if images change only in another namespace."""

import asyncio
import logging

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pulltrace.agent.containerd import Containerd
from pulltrace.agent.containerd_api.events_pb2 import Envelope, ImageChange
from pulltrace.agent.model import Write
from pulltrace.agent.records import MAX_WRITES


@pytest.fixture
def deliver(caplog):
    """Return a function that delivers events from the given namespaces to a client and returns the changed images and
    the warnings.
    """

    def deliver(reads, *namespaces):
        client = Containerd("/nowhere", reads)
        for namespace in namespaces:
            envelope = Envelope(namespace=namespace, topic="/images/create")
            envelope.event.value = ImageChange(name=f"registry.test/{namespace}:1").SerializeToString()
            client._take_event(envelope.SerializeToString())
        return set(client._changed), [record for record in caplog.records if record.levelno == logging.WARNING]

    return deliver


@pytest.mark.parametrize(
    ("namespace", "labels", "foreign"),
    [
        ("k8s.io", {"io.cri-containerd.image": "managed"}, False),
        ("k8s.io", {}, True),
        ("moby", {}, False),  # the CRI plugin does not use Docker's namespace
    ],
)
def test_a_write_to_the_k8s_io_namespace_is_attributed_to_another_client_if_it_lacks_the_label_of_the_cri_plugin(
    namespace, labels, foreign
):
    client = Containerd("/nowhere", namespace)
    envelope = Envelope(namespace=namespace, topic="/images/update", timestamp=Timestamp(seconds=100))
    envelope.event.value = ImageChange(name="registry.test/app:1", labels=labels).SerializeToString()
    for _ in range(MAX_WRITES + 1):
        client._take_event(envelope.SerializeToString())
    assert client._changed == {"registry.test/app:1": MAX_WRITES * [Write(100.0, foreign)]}


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
