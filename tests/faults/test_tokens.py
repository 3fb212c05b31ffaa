"""Tests in which an agent's token, issued by a real API server, expires during a pull."""

import base64
import json
import subprocess
import time

import pytest

from tests.faults.lab import Fault, Lab
from tests.server.kubernetes.accounts import ACCOUNT, AGENT, Accounts

pytestmark = pytest.mark.cluster
LIFE = 12.0
"""The token's lifetime in seconds. A TokenRequest cannot request a lifetime of less than 600 s."""


def shortened(token: str, key: str, life: float) -> str:
    """Return a token that has the same claims, expires in ``life`` seconds, and is signed with the API server's own key
    (ES256).
    """
    head, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    signed = f"{head}.{_url(json.dumps(claims | {'exp': int(time.time() + life)}).encode())}"
    command = ["openssl", "dgst", "-sha256", "-sign", key]
    der = subprocess.run(command, input=signed.encode(), capture_output=True, check=True, timeout=60).stdout
    return f"{signed}.{_url(_raw(der))}"


def _raw(der: bytes) -> bytes:
    """Return the two numbers of an ECDSA signature, 32 bytes each (RFC 7518, 3.4), from openssl's DER output."""
    middle = 4 + der[3]
    numbers = der[4:middle], der[middle + 2 :]
    return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in numbers)


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_an_expired_token_is_replaced_by_the_newly_mounted_token(cluster, tmp_path):
    accounts = Accounts(cluster)
    await accounts.prepare(AGENT)
    await accounts.agent_on("worker-1")
    mounted = tmp_path / "token"
    mounted.write_text(await accounts.token("worker-1"))
    lab = Lab(tmp_path)

    def mount(token: str) -> None:
        (tmp_path / "next").write_text(token)
        (tmp_path / "next").rename(mounted)

    try:
        server = {"AGENT_SERVICE_ACCOUNT": ACCOUNT, "environment": {"KUBECONFIG": str(cluster.kubeconfig)}}
        await lab.start(server=server, agent={"AGENT_TOKEN_FILE": str(mounted)})
        running = lab.held("app", 8)
        await lab.until(lambda: lab.row(running, "downloading"))
        short = shortened(await accounts.token("worker-1"), str(cluster.folder / "apiserver.key"), LIFE)
        mount(short)
        async with Fault(
            lab, "an agent's token expires", "the old token receives 401, and the new token is used"
        ) as seen:

            async def refused() -> bool:
                return "this token has expired" in lab.agent.output

            await lab.until(refused)
            assert running.state is None, "the pull is still running"
            fresh = await accounts.token("worker-1")
            mount(fresh)
            seen.over()
            lab.release(running)
        for token in (short, fresh):
            assert token not in lab.agent.output + lab.server.output
    finally:
        await lab.close()
