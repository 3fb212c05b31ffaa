"""Tests that every kind of client receives the same events from the compressed stream as from the uncompressed one, and
that a truncated stream can still be decompressed.
"""

import asyncio
import shutil
import zlib
from contextlib import suppress
from itertools import islice, takewhile

import msgspec
import pytest

from pulltrace.server.api.query import Query
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.limits import Limits
from pulltrace.server.pulls.batch import PIECE
from pulltrace.wire import PullPhase
from tests.patience import PATIENCE
from tests.real.process import Process, free_port
from tests.server.build import MIB, SimulatedHub, layer, pull, report

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
NGINX_CONF = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{}}
http {{
  access_log off; gzip on; gzip_types *; proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{target}; proxy_http_version 1.1; proxy_buffering on;
      proxy_ignore_headers X-Accel-Buffering;
    }}
  }}
}}
"""


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(data)


def busy_world() -> SimulatedHub:
    """Return a server to which fifty nodes have reported running pulls."""
    sim = SimulatedHub()
    _report(sim, 1)
    return sim


def _report(sim: SimulatedHub, size: int, at: float = 0.0) -> None:
    for number in range(50):
        layers = (layer(f"{number}-{index}", size) for index in range(5))
        sim.report(pull(f"l{number}", *layers), node=f"node-{number}", at=at)


def sent(stream) -> list[bytes]:
    """Return the chunks that the stream yields before it waits for the next frame."""
    return list(takewhile(bool, stream))


QUERIES = {
    "all layers": Query(),
    "no layers": Query(all_layers=False),
    "filtered": Query(all_layers=False, node=frozenset({"node-7"})),
}


@pytest.mark.parametrize("kind", [*QUERIES, "one open row"])
def test_every_client_receives_the_same_events_with_and_without_gzip(kind) -> None:
    sim = busy_world()
    opened = Query(all_layers=False, layers_of=frozenset({next(sim.hub.feed.pulls()).id}))
    query = QUERIES.get(kind, opened)
    plain = Subscription(sim.hub, query, None).follow()
    compressed = Subscription(sim.hub, query, None, gzip=True).follow()
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    for step in range(2, 5):
        received = sent(compressed)
        # Each piece can be decompressed as soon as it arrives, and ends with a complete event.
        pieces = [inflater.decompress(piece) for piece in received]
        assert all(piece.endswith(b"\n\n") for piece in pieces)
        assert b"".join(pieces) == b"".join(sent(plain))
        assert max(map(len, pieces)) < 2 * PIECE or step > 2, (
            "the first state is split into small pieces; only frames are not"
        )
        _report(sim, step, at=float(step))
    sim.hub.closing = True
    assert inflater.decompress(b"".join(compressed)) == b"".join(plain)


def test_clients_share_the_compressed_initial_state_and_frames_unless_they_request_different_data() -> None:
    sim = busy_world()
    query = Query(all_layers=False)
    early, late = (Subscription(sim.hub, query, None, gzip=True).follow() for _ in range(2))
    first, *state = sent(early)
    assert all(one is other for one, other in zip(state, sent(late)[1:], strict=True))
    assert len(first) < len(b"".join(state)) < 50 * 500
    _report(sim, 2, at=1.0)
    opened = Query(all_layers=False, layers_of=frozenset({next(sim.hub.feed.pulls()).id}))
    newest = Subscription(sim.hub, opened, None, gzip=True).follow()
    seen = sent(newest)
    for stream in (early, late):
        sent(stream)
    sim.report(pull("l7", layer("a", 3)), node="node-7", at=2.0)
    (one,), (other,), (own,) = map(sent, (early, late, newest))
    assert one is other is own
    assert seen[1] is not state[0]


def test_a_slow_client_receives_the_rest_of_the_old_state_and_then_the_changes() -> None:
    sim = busy_world()
    query = Query(all_layers=False)
    slow = Subscription(sim.hub, query, None, gzip=True).follow()
    begun = list(islice(slow, 2))
    _report(sim, 2, at=1.0)
    assert sent(Subscription(sim.hub, query, None, gzip=True).follow())
    text = inflate(b"".join(begun + sent(slow)))
    assert text.count(b'"imageRef"') == 50 + 50, "the old state, then every change since"


def test_a_truncated_stream_decompresses_to_a_prefix_of_the_complete_one() -> None:
    sim = busy_world()
    whole = b"".join(sent(Subscription(sim.hub, Query(), None, gzip=True).follow()))
    text = inflate(whole)
    for length in range(0, len(whole), 97):
        assert text.startswith(inflate(whole[:length]))


async def read(reader, until: bytes) -> bytes:
    """Read until this text has arrived, and return all data read."""
    seen = b""
    async with asyncio.timeout(PATIENCE):
        while until not in seen:
            data = await reader.read(1 << 16)
            assert data, f"the stream ended before {until!r}"
            seen += data
    return seen


@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "through a buffering nginx"])
async def test_curl_receives_each_event_as_soon_as_it_happens(server, tmp_path, proxy) -> None:
    if proxy and not NGINX:
        pytest.skip("no nginx here; `make parts` installs it")
    served = await server(limits=Limits(report_interval=0.0, tick=0.02))
    port, nginx = served.port, None
    if proxy:
        port = free_port()
        (tmp_path / "conf").write_text(NGINX_CONF.format(folder=tmp_path, port=port, target=served.port))
        nginx = Process([NGINX, "-p", tmp_path, "-e", tmp_path / "error", "-c", tmp_path / "conf"], tmp_path / "log")
    url = f"http://127.0.0.1:{port}/api/v1/events"
    command = ["curl", "-sSN", "--retry-connrefused", "--retry", "20", "--retry-delay", "1"]
    curls = [
        await asyncio.create_subprocess_exec(*command, *options, url, stdout=asyncio.subprocess.PIPE)
        for options in (["--compressed"], ["-H", "Accept-Encoding: gzip"], ["-H", "Accept-Encoding: gzip;q=0"])
    ]
    try:
        decoded, raw, plain = (curl.stdout for curl in curls)
        for stream in (decoded, plain):
            await read(stream, b"event: hello")
        assert (await raw.readexactly(2)) == b"\x1f\x8b"
        for sequence, size in enumerate((1, 2, 3), 1):
            body = report(pull("l", layer("a", size)), sequence=sequence)
            assert (await served.post(msgspec.json.encode(body))).status == 200
            for stream in (decoded, plain):
                await read(stream, b'"downloadedBytes":%d' % size)
    finally:
        for curl in curls:
            with suppress(ProcessLookupError):
                curl.kill()
            await curl.wait()
        if nginx:
            await nginx.end(15)


async def test_the_headers_state_the_encoding_and_the_last_event_can_be_decompressed(server) -> None:
    served = await server(limits=Limits(report_interval=0.0, tick=0.02))
    url = f"{served.url}/api/v1/events"
    async with served.client.get(url, headers={"Accept-Encoding": "identity"}) as plain:
        assert (plain.headers.get("Content-Encoding"), plain.headers["Vary"]) == (None, "Accept-Encoding")
    async with served.client.get(url) as answer:
        assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == ("gzip", "Accept-Encoding")
        body = report(pull("l", layer("a", MIB), status=PullPhase.COMPLETED, ended_at=1e9, at=1e9))
        assert (await served.post(msgspec.json.encode(body))).status == 200
        await read(answer.content, b"pull.completed")
        await served.stop()
        assert (await answer.content.read()).endswith(b": the server stops\nretry: 1000\n\n")
