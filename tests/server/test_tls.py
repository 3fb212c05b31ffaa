"""Tests for HTTPS on the API port, with a real server, a real agent, and certificates created by openssl."""

import asyncio
import json
import shutil
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from kubernetes_asyncio.client import Configuration

from pulltrace.agent.http_client import Poster
from pulltrace.server.kubernetes.api import PODS
from pulltrace.server.kubernetes.client import HttpApi
from pulltrace.server.limits import Limits
from pulltrace.server.tls import Certificate, CertificateError
from tests.e2e.programs import Program
from tests.patience import PATIENCE
from tests.real.certificates import Authority
from tests.real.process import free_port

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates")

RELEASE_TEST = Path(__file__).parents[2] / "charts" / "pulltrace" / "files" / "release_test.py"
REPORT = {"nodeName": "n1", "pulls": None}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture
def files(tmp_path, authority):
    """Create the server's certificate and key, and return their paths."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.issue(cert, key, "first")
    return cert, key


@pytest.fixture
async def served(server, files, monkeypatch):
    """An HTTPS server that frequently checks whether its certificate has been renewed."""
    monkeypatch.setattr("pulltrace.server.tls.LOOK_EVERY", 0.05)
    cert, key = files
    return await server(TLS_CERT_FILE=str(cert), TLS_KEY_FILE=str(key))


def trusting(authority):
    return ssl.create_default_context(cafile=authority.ca)


async def presented(served, authority):
    """Return the common name of the certificate that the server presents on a new connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trusting(authority))
    subject = writer.get_extra_info("peercert")["subject"]
    writer.close()
    return subject[0][0][1]


async def test_reports_and_lists_are_sent_over_https(served, authority):
    url, trust = f"https://127.0.0.1:{served.port}", trusting(authority)
    async with served.client.post(f"{url}/api/v1/report", json=REPORT, ssl=trust) as answer:
        assert answer.status == 200
    async with served.client.get(f"{url}/api/v1/nodes", ssl=trust) as answer:
        assert [node["name"] for node in (await answer.json())["nodes"]] == ["n1"]


@pytest.fixture
def strict(monkeypatch):
    """Make every Python version create TLS contexts the way Python 3.13 does."""
    make = ssl.create_default_context

    def create(*args, **kwargs):
        context = make(*args, **kwargs)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)


@pytest.fixture
def plain(tmp_path, files):
    """Issue the server's certificate from a CA without the extensions that Python 3.13 requires, and return the CA."""
    authority = Authority(tmp_path / "plain", plain=True)
    authority.issue(*files, "plain")
    return authority


async def test_an_agent_trusts_a_ca_without_extensions(strict, plain, served):
    with pytest.raises(ssl.SSLCertVerificationError):
        await presented(served, plain)
    url = f"https://127.0.0.1:{served.port}/api/v1/report"
    async with Poster(url, {"Content-Type": "application/json"}, str(plain.ca)) as poster:
        assert (await poster.post(json.dumps(REPORT).encode(), {})).status == 200


async def test_the_server_trusts_a_cluster_whose_ca_has_no_extensions(strict, plain, files):
    async def pods(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    app = web.Application()
    app.router.add_get("/api/v1/pods", pods)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    api = HttpApi(Configuration(host=f"https://127.0.0.1:{port}", ssl_ca_cert=str(plain.ca)))
    try:
        assert [page.objects async for page in api.pages(PODS, None)] == [[]]
    finally:
        await api.close()
        await runner.cleanup()


async def test_a_watch_ends_at_once_even_if_the_api_server_does_not_close_its_tls_connection(authority, files):
    served = []

    async def watch(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer.transport)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.transport.pause_reading()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    async with await asyncio.start_server(watch, "127.0.0.1", ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        api = HttpApi(Configuration(host=f"https://127.0.0.1:{port}", ssl_ca_cert=str(authority.ca)))
        async with api._get(PODS, None, [("watch", "true")], 60) as response:
            client = response.connection.transport.get_extra_info("socket")
        await api.close()
        await asyncio.sleep(0)
        closed = client.fileno() == -1
        served[0].abort()
        await asyncio.sleep(0)
    assert closed


async def test_the_command_that_helm_test_runs_verifies_the_certificate_of_the_server(served, authority):
    url = f"https://127.0.0.1:{served.port}"
    async with served.client.post(f"{url}/api/v1/report", json=REPORT, ssl=trusting(authority)) as answer:
        assert answer.status == 200
    command = [sys.executable, str(RELEASE_TEST), url, "agents", str(authority.ca)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"ready; nodes reporting: 1\n")


async def test_new_connections_use_a_renewed_certificate_and_existing_streams_continue(served, authority, files):
    url, trust = f"https://127.0.0.1:{served.port}", trusting(authority)
    async with served.client.get(f"{url}/api/v1/events", ssl=trust) as stream:
        assert await stream.content.readline() == b": connected\n"
        assert await presented(served, authority) == "first"
        authority.issue(*files, "second")
        async with asyncio.timeout(PATIENCE):
            while await presented(served, authority) != "second":
                pass
        report = REPORT | {"pulls": [{"id": "a", "status": "downloading", "imageRef": "docker.io/library/nginx"}]}
        async with served.client.post(f"{url}/api/v1/report", json=report, ssl=trust) as answer:
            assert answer.status == 200
        async with asyncio.timeout(PATIENCE):
            async for line in stream.content:
                if b"pull.started" in line:
                    break


async def test_an_unusable_new_certificate_is_logged_and_the_old_one_remains_in_use(served, authority, files, caplog):
    files[0].write_text("half a certif")
    async with asyncio.timeout(PATIENCE):
        while "tls.not_renewed" not in [record.message for record in caplog.records]:
            assert await presented(served, authority) == "first"
    assert await presented(served, authority) == "first"
    authority.issue(*files, "second")
    async with asyncio.timeout(PATIENCE):
        while await presented(served, authority) != "second":
            pass


@pytest.mark.parametrize("trouble", ["missing", "another's key", "no certificate"])
def test_an_unusable_certificate_is_an_error_when_the_server_starts(files, authority, tmp_path, trouble):
    cert, key = files
    if trouble == "missing":
        cert.unlink()
    elif trouble == "another's key":
        authority.issue(tmp_path / "other.crt", key, "other")
    else:
        cert.write_text("nothing of the kind")
    with pytest.raises(CertificateError, match="are not a certificate with its key"):
        Certificate(str(cert), str(key))


async def test_an_agent_with_the_wrong_ca_logs_the_error_on_a_single_line_and_sends_nothing(
    served, authority, tmp_path
):
    settings = {
        "NODE_NAME": "n1",
        "SERVER_URL": f"https://127.0.0.1:{served.port}",
        "CONTAINERD_SOCKET": str(tmp_path / "none.sock"),
    }
    wrong = Program("agent", **settings, SERVER_CA_FILE=str(Authority(tmp_path / "wrong").ca))
    async with wrong:
        await wrong.says("report not accepted")
    (line,) = [line for line in wrong.output.splitlines() if "report not accepted" in line]
    assert "does PULLTRACE_SERVER_CA_FILE name the server's CA?" in line
    gone = Program("agent", **settings, SERVER_CA_FILE=str(tmp_path / "gone.crt"))
    async with gone:
        await gone.says("report not accepted")
    assert "gone.crt" in gone.output
    right = Program("agent", **settings, SERVER_CA_FILE=str(authority.ca))
    async with right, aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        nodes = []
        while not nodes:
            url = f"https://127.0.0.1:{served.port}/api/v1/nodes"
            async with session.get(url, ssl=trusting(authority)) as answer:
                nodes = (await answer.json())["nodes"]
    assert nodes[0]["name"] == "n1"


async def test_tls_handshakes_count_towards_the_connection_limit_and_time_out(server, files, authority):
    cert, key = files
    limits = Limits(head_timeout=1.0, connections=2, connections_per_address=1)
    served = await server(TLS_CERT_FILE=str(cert), TLS_KEY_FILE=str(key), limits=limits)
    silent, first = await asyncio.open_connection("127.0.0.1", served.port)
    refused, second = await asyncio.open_connection("127.0.0.1", served.port)
    async with asyncio.timeout(PATIENCE):
        assert await refused.read() == b""
        await served.until_measured('pulltrace_http_refused_total{reason="too_many_connections"} 1.0')
        assert await silent.read() == b""
        await served.until_measured('pulltrace_http_refused_total{reason="tls_handshake"} 1.0')
    first.transport.abort()
    second.transport.abort()
    assert await presented(served, authority) == "first"
