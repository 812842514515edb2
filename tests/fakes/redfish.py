"""A Redfish service made of a recorded tree, with the manners of real ones."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from plugins.power.redfish.document import values

Tree = dict[str, Any]
SESSIONS = "/redfish/v1/SessionService/Sessions"


def tree(folder: Path) -> Tree:
    """Read a recording: documents by path, in one of the two layouts there are.

    A folder for each resource with `index.json` in it, as DMTF's mockups are; or one file for each
    resource, named by its path with `_` in place of `/`, which is told by `@odata.id`.
    """
    found: Tree = {}
    for file in sorted(folder.rglob("*.json")):
        if file.name == "index.json":
            below = file.parent.relative_to(folder).as_posix().removeprefix("redfish/v1")
            path = "/redfish/v1/" + below.strip("./")
        elif file.name.startswith("_redfish_v1"):
            document = json.loads(file.read_text())
            path = str(document.get("@odata.id", ""))
        else:
            continue
        found[path.rstrip("/")] = json.loads(file.read_text())
    return found


def newest(documents: Tree) -> float | None:
    """The time of the newest value in the metric reports, in seconds since the epoch."""
    times = [
        at
        for path, document in documents.items()
        if isinstance(document, dict)
        for value in values(document, path)
        if "MetricValues" in document and (at := value.at) is not None
    ]
    return max(times, default=None)


class Service:
    """Serves a tree on a loopback port.

    Attributes:
        tree: Documents by path; bytes are sent as they are, an int is a status, of a
            ConnectionError comes half an answer.
        gets: Paths that were asked for, with their queries.
        user: Who may log in; None for whoever asks.
        tokens: Of the sessions that are open.
        sessions: There is a session service.
        clock: Seconds since the epoch that `Date` says; None for the real time.
        gate: Is awaited before each answer, with the path.
        login_status: That a login is answered with, where it is none that succeeds.
    """

    def __init__(
        self,
        documents: Tree,
        user: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tree = documents
        self.gets: list[str] = []
        self.user = user
        self.tokens: set[str] = set()
        self.logins = 0
        self.login_status = 0
        self.sessions = True
        self.clock = newest(documents)
        self.gate: Callable[[str], Awaitable[None]] | None = None
        self.most_at_once = 0
        self._at_once = 0
        self._tls = tls
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server(ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.port}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = await self._answer(request)
        finally:
            self._at_once -= 1
        if self.clock is not None:
            answer.headers["Date"] = formatdate(self.clock, usegmt=True)
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path == SESSIONS and request.method == "POST" and self.sessions:
            if self.gate is not None:
                await self.gate(path)
            return self._login(await request.json())
        token = request.headers.get("X-Auth-Token", "")
        if request.method == "DELETE":
            self.tokens.discard(path.rpartition("/")[2])
            return web.Response(status=204)
        if request.method != "GET":
            return web.Response(status=405)
        self.gets.append(request.path_qs)
        if self.gate is not None:
            await self.gate(request.path_qs)
        basic = request.headers.get("Authorization", "")
        known = token in self.tokens or (not self.sessions and basic.startswith("Basic "))
        if self.user is not None and not known and path != "/redfish/v1":
            return web.Response(status=401)
        found = self.tree.get(path)
        if isinstance(found, int):
            return web.Response(status=found)
        if isinstance(found, ConnectionError):
            assert request.transport is not None
            half = web.StreamResponse(headers={"Content-Length": "5000"})
            await half.prepare(request)
            await half.write(b'{"Id":')
            request.transport.close()
            return half
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="application/json")
        if found is None:
            return web.Response(status=404)
        if "$expand" in request.query and isinstance(found, dict):
            found = self._expanded(found)
        return web.json_response(found)

    def _expanded(self, document: dict[str, Any]) -> dict[str, Any]:
        members = document.get("Members")
        if not isinstance(members, list):
            return document
        full = []
        for one in members:
            path = str(one.get("@odata.id")).rstrip("/") if isinstance(one, dict) else ""
            found = self.tree.get(path)
            full.append(found if isinstance(found, dict) else one)
        return document | {"Members": full}

    def _login(self, body: dict[str, str]) -> web.Response:
        self.logins += 1
        if self.login_status:
            message = {"MessageId": "Base.1.8.SessionLimitExceeded", "Message": str(body)}
            error = {"error": {"@Message.ExtendedInfo": [message]}}
            return web.json_response(error, status=self.login_status)
        if self.user is not None and (body["UserName"], body["Password"]) != self.user:
            return web.Response(status=401)
        token = f"token-{self.logins}"
        self.tokens.add(token)
        headers = {"X-Auth-Token": token, "Location": f"{SESSIONS}/{token}"}
        return web.json_response({}, status=201, headers=headers)


def certificate(folder: Path) -> Path:
    """Write a certificate of 127.0.0.1 that signed itself, with its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bmc")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = Encoding.PEM
    private = key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "bmc.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file


class Gate:
    """Lets answers through one by one, as a test says."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.waiting = 0

    async def __call__(self, path: str) -> None:
        self.waiting += 1
        self.asked.set()
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
