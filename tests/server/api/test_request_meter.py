"""Tests for which requests the request meter accepts and which it rejects."""

import pytest

from pulltrace.server.api.request_meter import RefusedRequestError, RequestMeter
from pulltrace.server.limits import Limits

CHUNKED = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def read(*parts: bytes) -> RequestMeter:
    meter = RequestMeter(Limits())
    for part in parts:
        meter.feed(part)
    return meter


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        pytest.param(431, [b"GET /" + b"a" * 20_000], id="a long target"),
        pytest.param(431, [b"GET /" + b"a" * 9000, b"a" * 9000], id="a long target in parts"),
        pytest.param(431, [b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 200], id="many headers"),
        pytest.param(431, [b"GET / HTTP/1.1\r\na:" + b"b" * 17_000 + b"\r\n\r\n"], id="a long header"),
        pytest.param(431, [b"GET / HTTP/1.1\r\na:", b"b" * 9000, b"b" * 9000], id="a long header in parts"),
        pytest.param(431, [b"GET / HTTP/1.1\r\n" + b"a" * 17_000], id="a long header name"),
        pytest.param(431, [b"\r\n" * 9000], id="blank lines"),
        pytest.param(431, [GET + b"GET /" + b"a" * 200_000], id="behind another request"),
        pytest.param(413, [CHUNKED, b"1;" + b"e" * 17_000], id="a long chunk extension"),
        pytest.param(413, [CHUNKED, *[b"1;" + b"e" * 5000 + b"\r\na\r\n"] * 5], id="many chunk extensions"),
        pytest.param(431, [CHUNKED + b"0\r\n", b"a:b\r\n" * 200], id="many trailers"),
        pytest.param(413, [CHUNKED + b"0\r\n", b"a:" + b"b" * 17_000], id="a long trailer"),
        pytest.param(413, [CHUNKED, *[b"10000\r\n" + b"a" * 65_536 + b"\r\n"] * 40], id="a large body"),
        pytest.param(413, [b"GET / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n", *[b"a" * 65_536] * 40], id="GET body"),
        pytest.param(429, [GET * 40], id="many pipelined requests"),
        pytest.param(400, [b"\x16\x03\x01\x02\x00"], id="TLS"),
        pytest.param(400, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], id="HTTP/2"),
        pytest.param(400, [CHUNKED + b"-1\r\n"], id="a negative chunk"),
        pytest.param(400, [GET, b"GET / HTTP/1.0\r\n\r\n"], id="two versions"),
    ],
)
def test_oversized_or_malformed_requests_are_rejected(status: int, parts: list[bytes]) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        read(*parts)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("requests", "parts"),
    [
        pytest.param(1, [GET], id="one request"),
        pytest.param(1, [b"\r\n", GET[:10], GET[10:]], id="one request in parts"),
        pytest.param(2, [GET + GET], id="two requests at once"),
        pytest.param(1, [CHUNKED, b"1\r\na\r\n" * 30_000, b"0\r\n\r\n"], id="one-byte chunks"),
        pytest.param(1, [CHUNKED, *[b"10000\r\n" + b"a" * 65_536 + b"\r\n"] * 16, b"0\r\n\r\n"], id="a mebibyte"),
        pytest.param(1, [b"GET / HTTP/1.1\r\n" + b"name: " + b"v" * 8192 + b"\r\n\r\n"], id="a token of 8 KiB"),
        pytest.param(
            2,
            [b"POST / HTTP/1.1\r\ncontent-length: 20000\r\n\r\n" + b"a" * 20_000 + GET[:9], GET[9:]],
            id="after a body",
        ),
    ],
)
def test_ordinary_requests_are_accepted(requests: int, parts: list[bytes]) -> None:
    meter = read(*parts)
    assert (meter.begun, meter.open_bytes) == (requests, 0)
