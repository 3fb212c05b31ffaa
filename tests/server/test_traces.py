"""Tests for traces, which are received either by a real OpenTelemetry Collector or by a small receiver in this
process.
"""

import asyncio
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import datetime

import pytest
from msgspec import structs

from pulltrace.server.run import export_traces
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.real.process import Process, free_port
from tests.real.versions import COLLECTOR
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web

messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
ERROR = 2  # STATUS_CODE_ERROR
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def received(monkeypatch):
    """The spans received so far, keyed by name. An environment variable contains the receiver's address, so the
    exporter sends its spans there.
    """
    spans = defaultdict(list)

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for group in messages.ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {item.key: item.value.string_value for item in group.resource.attributes}
                for span in (span for scope in group.scope_spans for span in scope.spans):
                    spans[span.name].append((span, resource))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield spans
        server.shutdown()


@pytest.fixture
def traces(received):
    exporter = export_traces(os.environ)
    yield exporter
    exporter.close()


def values(span):
    """Return the span's attributes."""
    found = {}
    for item in span.attributes:
        kind = item.value.WhichOneof("value")
        value = getattr(item.value, kind)
        found[item.key] = [part.string_value for part in value.values] if kind == "array_value" else value
    return found


def seconds(span):
    """Return the span's start and end times, in seconds since the start of the test."""
    return (span.start_time_unix_nano / 1e9 - NOW, span.end_time_unix_nano / 1e9 - NOW)


def run_pull(sim):
    """Run a pull that waits for 5 s, resolves its reference for 2 s, downloads for 1 s and unpacks for 1 s."""
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW + 1)), at=1)
    sim.report(pull(at=NOW + 6, status=PullPhase.RESOLVING, **UNSEEN), at=6)
    named = {"at": NOW + 6, "image_ref": "docker.io/library/nginx:1.27", "manifest_digest": "sha256:abc"}
    sim.report(pull("lease-1", layer("a", 50 * MIB), **named), at=8)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTING)
    sim.report(pull("lease-1", done, status=PullPhase.EXTRACTING, **named), at=9)
    sim.report(pull("lease-1", done, status=PullPhase.COMPLETED, ended_at=NOW + 10, **named), at=10)
    sim.apply(event(arrival.pulled("app", NOW + 10)), at=11)


def test_a_finished_pull_is_exported_as_a_span_with_its_phases_as_children(traces, received):
    sim = Joined(export=traces.add)
    run_pull(sim)
    traces.close()
    [(root, resource)] = received.pop("image pull")
    assert seconds(root) == (1, 10)
    assert {name: seconds(span) for name, [(span, _)] in received.items()} == {
        "queued": (1, 6),
        "resolving": (6, 8),
        "downloading": (8, 9),
        "unpacking": (9, 10),
    }
    assert all(span.parent_span_id == root.span_id for [(span, _)] in received.values())
    assert {span.trace_id for [(span, _)] in received.values()} == {root.trace_id}
    assert root.status.code == 0
    found = values(root)
    assert found["k8s.node.name"] == "node-1"
    assert (found["k8s.namespace.name"], found["k8s.pod.name"], found["k8s.container.name"]) == (
        "default",
        "web-1",
        "app",
    )
    assert (found["container.image.name"], found["container.image.tags"]) == ("docker.io/library/nginx", ["1.27"])
    assert found["oci.manifest.digest"] == "sha256:abc"
    assert (found["pulltrace.pull.id"], found["pulltrace.result"]) == (sim.one.id, "completed")
    assert (found["pulltrace.downloaded_bytes"], found["pulltrace.pods"]) == (100 * MIB, ["default/web-1"])
    assert resource["service.name"] == "pulltrace"


def test_the_same_pull_has_the_same_trace_and_span_ids_on_every_server(received, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pulls-of-tests")
    for _ in range(2):
        exporter = export_traces(os.environ)
        run_pull(Joined(export=exporter.add))
        exporter.close()
    for spans in received.values():
        (first, resource), (second, _) = spans
        assert (first.trace_id, first.span_id) == (second.trace_id, second.span_id)
        assert resource["service.name"] == "pulls-of-tests"


def test_the_span_of_a_failed_pull_contains_the_reason_and_its_retry_is_in_the_same_trace(traces, received):
    sim = Joined(export=traces.add)
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    sim.apply(event(arrival.failed("app", NOW + 2, NOT_FOUND)), at=2)
    sim.apply(event(arrival.pulling("app", NOW + 14)), at=14)
    sim.apply(event(arrival.pulled("app", NOW + 20)), at=20)
    sim.at(30)
    traces.close()
    (failed, _), (completed, _) = received["image pull"]
    assert failed.status.code == ERROR
    assert "not found" in failed.status.message
    assert values(failed)["error.type"] == ErrorReason.NOT_FOUND
    assert (values(completed)["pulltrace.attempt"], completed.status.code) == (2, 0)
    assert failed.trace_id == completed.trace_id
    assert failed.span_id != completed.span_id


def test_the_span_of_a_cancelled_pull_has_no_error_status(traces, received):
    sim = Joined(export=traces.add)
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    part = layer("a", 40 * MIB)
    sim.report(pull("lease-1", part, at=NOW), at=1)
    sim.report(pull("lease-1", part, at=NOW, status=PullPhase.FAILED, ended_at=NOW + 4), at=4)
    sim.at(12)
    traces.close()
    [(root, _)] = received["image pull"]
    assert (root.status.code, values(root)["pulltrace.result"]) == (0, "canceled")


def test_a_collector_that_never_responds_blocks_nothing_and_causes_one_warning(monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        exporter = export_traces(os.environ)
        sim = Joined(export=exporter.add)
        run_pull(sim)
        for _ in range(4000):  # more spans than the queue can hold
            exporter.add(sim.one, [])
        exporter.close()
        assert [record.message for record in caplog.records if "traces" in record.message] == ["traces.not_sent"]


def test_a_batch_with_an_impossibly_large_size_is_still_exported(traces, received):
    sim = Joined(export=traces.add)
    run_pull(sim)
    traces.add(structs.replace(sim.one, image_bytes=2**70), [])
    traces.close()
    (_, _), (span, _) = received["image pull"]
    assert values(span)["pulltrace.image_bytes"] == 2**63 - 1


@pytest.mark.parametrize("more", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_no_tracing_library_is_imported_if_tracing_is_off(more):
    code = """if True:
        import os, sys
        from pulltrace.server.run import export_traces
        assert export_traces(os.environ) is None
        print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))))
    """
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
    target = {ENDPOINT: "http://127.0.0.1:4318"} if more else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | target | more, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_the_server_runs_without_the_tracing_library_and_logs_a_warning(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "pulltrace.server.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert export_traces({ENDPOINT: "http://127.0.0.1:4318"}) is None
    [warning] = caplog.records
    assert warning.message == "traces.off"
    assert "extra otel" in warning.fields["error"]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_real_collector_accepts_the_spans_of_a_real_server(server, tmp_path, monkeypatch):
    if not COLLECTOR.path.exists():
        pytest.skip(f"no {COLLECTOR.name} here (make parts builds it): {COLLECTOR.costs}")
    port = free_port()
    (tmp_path / "config.yaml").write_text(f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{print: {{}}}}
service:
  pipelines: {{traces: {{receivers: [otlp], exporters: [print]}}}}
""")
    collector = Process([COLLECTOR.path, "--config", tmp_path / "config.yaml"], tmp_path / "collector.log")
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        while not listens(port):
            collector.check()
            await asyncio.sleep(0.05)
        served = await server()
        report = '{"nodeName":"n1","bootId":"b","sequence":%d,"pulls":[{"id":"l","status":"%s","imageRef":"a.io/b:1"}]}'
        for sequence, status in ((1, "downloading"), (2, "completed")):
            while (await served.post(report % (sequence, status))).status == 429:
                pass
        while not (lines := re.findall(r"^\{.*image pull.*\}$", collector.log.read_text(), re.MULTILINE)):
            collector.check()
            await asyncio.sleep(0.05)
        (group,) = json.loads(lines[0])["resourceSpans"]
        spans = {span["name"]: span for span in group["scopeSpans"][0]["spans"]}
        shown = (await (await served.get("/api/v1/pulls")).json())["pulls"][0]
        assert spans["downloading"]["parentSpanId"] == spans["image pull"]["spanId"]
        assert int(spans["image pull"]["endTimeUnixNano"]) // 10**6 == _milliseconds(shown["completedAt"])
        await served.stop()
    finally:
        await collector.kill()


def _milliseconds(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)
