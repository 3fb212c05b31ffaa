"""A real kube-apiserver with its etcd, on loopback. Instead of a kubelet, the tests write events and pod statuses.

RBAC, TokenReview and service account tokens work. The ServiceAccount admission plugin is off, because it rejects pods
in namespaces without a default service account. Without a controller manager, no namespace has such an account.
``tests.real.cluster`` runs the API server inside a namespace, together with a kubelet and a controller manager.

Example:

    async with APIServer() as cluster:
        cluster.kubeconfig                       # a file; the user is cluster-admin
        await cluster.request("GET", "/api/v1/pods")
        await cluster.kill(); await cluster.start()
        await cluster.compact()                  # earlier watches then get 410 Gone
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.patience import PATIENCE
from tests.real.namespace import NODE_ADDRESS, Namespace
from tests.real.process import Process, free_port
from tests.real.versions import APISERVER

SERVICE_ADDRESS = "10.96.0.1"
OPENSSL = f"""\
[e]
subjectAltName=IP:127.0.0.1,DNS:localhost,IP:{NODE_ADDRESS},IP:{SERVICE_ADDRESS},DNS:kubernetes.default.svc
basicConstraints=critical,CA:TRUE
[req]
distinguished_name=d
[d]
"""

ALONE = (
    "--bind-address=127.0.0.1",
    # The endpoints of the `kubernetes` service cannot have loopback addresses. Tests without a kubelet do not need the
    # service.
    "--endpoint-reconciler-type=none",
    "--disable-admission-plugins=ServiceAccount",
)
CLUSTER = (
    "--bind-address=0.0.0.0",
    f"--advertise-address={NODE_ADDRESS}",
    "--kubelet-preferred-address-types=InternalIP",
)


class APIError(Exception):
    """An error response from the API server, with its `code` and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class APIServer:
    """An API server as an async context manager. The server keeps its port, certificate and tokens across restarts.

    Without the watch cache, every watch reads from etcd. After a compaction, watches from earlier revisions therefore
    receive 410 immediately. With the watch cache, a watch receives 410 only after the API server has been restarted.
    Inside a namespace, the API server works as in a real cluster: pods can reach it, and it can reach the kubelet.
    """

    def __init__(self, *, watch_cache: bool = True, inside: Namespace | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pulltrace-"))
        self.port = free_port()
        self.url = f"https://{'127.0.0.1' if inside is None else NODE_ADDRESS}:{self.port}"
        self._inside = inside
        self.token = secrets.token_hex()
        self.kubeconfig = self.folder / "kubeconfig"
        self._watch_cache = watch_cache
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._peer_url = f"http://127.0.0.1:{free_port()}"
        self._etcd: Process | None = None
        self._apiserver: Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._trust: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        try:
            connector = None if self._inside is None else self._inside.connector()
            self._session = aiohttp.ClientSession(connector=connector)
            self._make_secrets()
            # Use a single TLS context, so that connections are reused.
            self._trust = ssl.create_default_context(cafile=self.certificate)
            self._start_etcd()
            await self.start()
            self._write_kubeconfig()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()
        if self._etcd is not None:
            await self._etcd.end(signal.SIGKILL)
        if self._session is not None:
            await self._session.close()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[None]:
        """Use a running server from a different event loop than the one that started it. When the ``async with`` block
        begins, the server is running and has no pods or events.
        """
        own = self._session
        async with aiohttp.ClientSession() as self._session:
            if self._apiserver is None:
                await self.start()
            for kind in ("pods", "events"):
                await self._delete(f"/registry/{kind}/")
            yield
        self._session = own

    @property
    def certificate(self) -> Path:
        """Return the CA certificate that clients use to verify the server."""
        return self.folder / "apiserver.crt"

    @property
    def key(self) -> Path:
        """Return the certificate's key, which also signs service account tokens."""
        return self.folder / "apiserver.key"

    def _make_secrets(self) -> None:
        (self.folder / "openssl.cnf").write_text(OPENSSL)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=pulltrace-test", "-config", "openssl.cnf", "-extensions", "e"]
        command += ["-keyout", "apiserver.key", "-out", "apiserver.crt"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=PATIENCE)
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')

    def _start_etcd(self) -> None:
        command = ["etcd", "--name=default", f"--data-dir={self.folder / 'etcd'}", "--logger=zap", "--unsafe-no-fsync"]
        command += [f"--listen-client-urls={self._etcd_url}", f"--advertise-client-urls={self._etcd_url}"]
        command += [f"--listen-peer-urls={self._peer_url}", f"--initial-advertise-peer-urls={self._peer_url}"]
        command += [f"--initial-cluster=default={self._peer_url}"]
        self._etcd = Process(command, self.folder / "etcd.log", inside=self._inside)

    async def start(self) -> None:
        """Start the API server and wait until /readyz is ok."""
        folder = self.folder
        command = [
            APISERVER.path,
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self.key}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.certificate}",
            f"--service-account-signing-key-file={self.key}",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--etcd-compaction-interval=0",
            f"--watch-cache={str(self._watch_cache).lower()}",
            "--profiling=false",
            *(ALONE if self._inside is None else CLUSTER),
        ]
        self._apiserver = Process(command, folder / "apiserver.log", inside=self._inside)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready()
        except TimeoutError:
            words = self._apiserver.last_words()
            raise RuntimeError(f"kube-apiserver was not ready within {PATIENCE:.0f} s\n{words}") from None

    async def _ready(self) -> None:
        while True:
            for process in (self._etcd, self._apiserver):
                if process is not None:
                    process.check()
            try:
                await self.request("GET", "/readyz")
            except (APIError, aiohttp.ClientError):
                await asyncio.sleep(0.1)
            else:
                return

    def _write_kubeconfig(self) -> None:
        self.kubeconfig.write_text(self.kubeconfig_for(self.token))

    def kubeconfig_for(self, token: str) -> str:
        """Return a kubeconfig for the user with the given token."""
        authority = base64.b64encode(self.certificate.read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )

    async def stop(self) -> None:
        """Stop the API server with SIGTERM; etcd keeps running."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill the API server, if it is running; etcd keeps running."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._apiserver = self._apiserver, None
        if process is not None:
            await process.end(how)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        content_type: str = "application/json",
    ) -> Any:
        """Send one request with the given token, or as the admin by default. Return the decoded JSON, or the text if
        the response is not JSON.

        Raises APIError for an error response, and aiohttp.ClientError if the server is unreachable.
        """
        assert self._session is not None
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method,
            self.url + path,
            data=data,
            headers=headers,
            ssl=self._trust or True,
            timeout=aiohttp.ClientTimeout(total=60),
        ) as answer:
            text = await answer.text()
            known = json.loads(text) if answer.content_type == "application/json" else text
            if answer.status >= 400:
                raise APIError(answer.status, known["message"] if isinstance(known, dict) else text)
            return known

    async def service_account_token(self, namespace: str, name: str, **spec: Any) -> str:
        """Create a token for an existing service account, as the kubelet does for a pod. ``spec`` contains the fields
        to set in the ``spec`` of the TokenRequest.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.request("POST", path, request)
        return str(answer["status"]["token"])

    async def until_may(
        self, account: str, verb: str, resource: str, *, group: str = "", namespace: str = "", may: bool = True
    ) -> None:
        """Wait until RBAC allows a service account (``namespace:name``) to perform an action. If ``may`` is false, wait
        until RBAC forbids the action.

        The authorizer learns about a new role or binding through a watch, so there is a delay after the object has been
        created.
        """
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        spec = {"user": f"system:serviceaccount:{account}", "resourceAttributes": attributes}
        async with asyncio.timeout(PATIENCE):
            while True:
                path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
                review = await self.request("POST", path, {"spec": spec})
                if review["status"]["allowed"] is may:
                    return
                await asyncio.sleep(0.05)

    async def _delete(self, prefix: str) -> None:
        """Delete everything below a prefix from etcd, which is faster than one request per object."""
        assert self._session is not None
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        keys = {name: base64.b64encode(key.encode()).decode() for name, key in (("key", prefix), ("range_end", after))}
        async with self._session.post(f"{self._etcd_url}/v3/kv/deleterange", json=keys) as answer:
            answer.raise_for_status()

    async def compact(self) -> int:
        """Compact etcd's history, and return the oldest remaining revision."""
        assert self._session is not None
        # etcd still accepts a watch from the compacted revision itself, so another write creates a newer revision,
        # which is then compacted.
        async with self._session.post(f"{self._etcd_url}/v3/kv/put", json={"key": "AA=="}) as answer:
            revision = int((await answer.json())["header"]["revision"])
        payload = {"revision": str(revision), "physical": True}
        async with self._session.post(f"{self._etcd_url}/v3/kv/compaction", json=payload) as answer:
            answer.raise_for_status()
        return revision
