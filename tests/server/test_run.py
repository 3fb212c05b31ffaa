"""Tests for starting and stopping the ``pulltrace server`` process."""

import asyncio
import os
import re
import signal
import socket
import sys
import time

import aiohttp
import pytest

from pulltrace.server.run import ListenError

SOON = 25.0
"""Maximum duration of a shutdown, in seconds. This limit is shorter than a pod's grace period. On an idle machine, a
shutdown takes two seconds.
"""


async def start(*extra: str, **environ: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PULLTRACE", "KUBE"))}
    local = {"PULLTRACE_HTTP_ADDR": "127.0.0.1:0", "PULLTRACE_METRICS_ADDR": "127.0.0.1:0"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pulltrace", "server", *extra),
        env=clean | local | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ports(process: asyncio.subprocess.Process) -> tuple[int, int]:
    assert process.stdout
    async for line in process.stdout:
        if b"server.started" in line:
            found = re.search(rb'"port": (\d+), "metrics_port": (\d+)', line)
            assert found
            return int(found[1]), int(found[2])
    raise AssertionError("the server did not start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_server_shuts_down_promptly_and_sends_the_last_event_to_open_streams(number) -> None:
    process = await start()
    port, _ = await ports(process)
    async with aiohttp.ClientSession() as client:
        streams = [await client.get(f"http://127.0.0.1:{port}/api/v1/events") for _ in range(20)]
        began = time.monotonic()
        process.send_signal(number)
        texts = await asyncio.gather(*(stream.text() for stream in streams))
    assert await process.wait() == 0
    assert time.monotonic() - began < SOON
    assert all(text.endswith("retry: 1000\n\n") for text in texts)
    _, errors = await process.communicate()
    assert errors == b""


async def test_the_server_shuts_down_promptly_even_if_a_client_never_reads_its_stream() -> None:
    process = await start()
    port, _ = await ports(process)
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", port))
        await loop.sock_sendall(deaf, b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        layers = ",".join(f'{{"digest":"{number:064}"}}' for number in range(500))
        async with aiohttp.ClientSession() as client:
            for node in range(200):
                body = f'{{"nodeName":"n{node}","pulls":[{{"id":"l","layers":[{layers}]}}]}}'
                await (await client.post(f"http://127.0.0.1:{port}/api/v1/report", data=body)).read()
        began = time.monotonic()
        process.terminate()
        assert await process.wait() == 0
        assert time.monotonic() - began < SOON
    await process.communicate()


async def test_a_listen_address_that_is_already_in_use_is_reported_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start(PULLTRACE_HTTP_ADDR=f"127.0.0.1:{port}")
        out, err = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in out.decode()
    assert b"Traceback" not in out + err


async def test_every_configuration_mistake_is_reported_and_the_exit_status_is_2() -> None:
    process = await start(PULLTRACE_HTTP_ADDR="nonsense", PULLTRACE_HISTORY_TTL="-1s", PULLTRACE_LOG_LEVEL="loud")
    _, err = await process.communicate()
    assert process.returncode == 2
    for name in ("PULLTRACE_HTTP_ADDR", "PULLTRACE_HISTORY_TTL", "PULLTRACE_LOG_LEVEL"):
        assert name in err.decode()


async def test_each_lifecycle_event_of_a_pull_is_logged_as_one_line_and_polls_are_not_logged(server, caplog) -> None:
    caplog.set_level("INFO", "pulltrace")
    served = await server()
    base = '{"nodeName":"n1","bootId":"b","sequence":%d,"pulls":[{"id":"l","status":"%s","layers":[{"digest":"a"}]}]}'
    for sequence, status in ((1, "downloading"), (2, "completed")):
        while (await served.post(base % (sequence, status))).status == 429:
            pass
    await served.until_published('"pull.completed"')
    lines = [record.message for record in caplog.records]
    assert lines.count("pull.started") == 1
    assert lines.count("pull.completed") == 1
    fields = next(record.fields for record in caplog.records if record.message == "pull.completed")
    assert {"node", "image", "seconds", "bytes"} <= fields.keys()


async def test_a_server_in_the_same_process_raises_an_error_if_it_cannot_listen(server) -> None:
    served = await server()
    with pytest.raises(ListenError):
        await server(HTTP_ADDR=f"127.0.0.1:{served.port}")
