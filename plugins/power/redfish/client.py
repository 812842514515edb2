"""Asks a Redfish service: one session, one answer at a time, a limit on all that comes back.

Rules are those of DMTF DSP0266 (the Redfish specification), clause 13.3 for sessions.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from collector import __version__
from collector.read.http import AnswerError, reason
from collector.secret import Secret
from plugins.power.redfish.clock import Clock

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

Auth = Literal["session", "basic", "none"]
Document = dict[str, Any]

ROOT = "/redfish/v1/"  # DSP0266 6.3: the one path that a client may know
MAX_BODY = 8 << 20  # bytes; a port report of an HGX baseboard has 0.3 MB
CONNECT = 10.0  # seconds to connect in; a BMC that is slow to answer is quick at that
LOCKOUT = 300.0  # seconds between two logins after a refused one: BMCs lock accounts after some
_CHUNK = 1 << 16
_ON_LOOP = 1 << 17  # bytes that are parsed on the loop; it takes about a millisecond
_REDIRECTS = (301, 302, 303, 307, 308)


class StatusError(AnswerError):
    """The service answered with a status that is no success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class LoginError(Exception):
    """The service refuses the user or the password."""


class Answer(NamedTuple):
    """What came back.

    Attributes:
        document: The JSON object.
        at: Seconds since the epoch by our clock, half-way from request to answer.
    """

    document: Document
    at: float


class Client:
    """One service.

    Args:
        url: `https://address`, without a path.
        user: Empty for none.
        password: Read anew at each login.
        auth: `session` falls back to basic where the service has no sessions.
        tls: The context for https, made by `context`.
        seconds: That one request may take.
        requests: At once, at most.
        seen: Is told of each document and its path; for recording.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Secret | None,
        auth: Auth,
        tls: ssl.SSLContext | None,
        seconds: float,
        requests: int,
        seen: Callable[[str, Document], None] | None = None,
    ) -> None:
        self.url = url
        self.clock = Clock()
        self.count = 0
        self._user = user
        self._password = password
        self._auth: Auth = auth if user else "none"
        self._tls = tls
        self._seconds = seconds
        self._requests = requests
        self._seen = seen
        self._session: ClientSession | None = None
        self._token = ""
        self._logout = ""
        self._basic: dict[str, str] = {}
        self._sessions = ""
        self._login_lock = asyncio.Lock()
        self._refused: tuple[float, LoginError] | None = None

    def open(self) -> None:
        """Prepare; nothing is sent yet. A loop must run."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._requests, ssl=self._tls or True),
            timeout=aiohttp.ClientTimeout(total=self._seconds, sock_connect=CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "OData-Version": "4.0",
                "User-Agent": f"w2t/{__version__}",
            },
        )

    async def close(self) -> None:
        """End the session at the service, which has few, and close the connections."""
        if self._session is None:
            return
        try:
            if self._logout and self._token:
                async with asyncio.timeout(0.5):  # the poller gives one second in all
                    await self._send("DELETE", self._logout)
        except (OSError, AnswerError):
            pass  # it ends by itself
        finally:
            await self._session.close()
            self._session, self._token, self._logout = None, "", ""

    async def root(self) -> Document:
        """Read the service root, which needs no login.

        Raises:
            As `get` does.
        """
        found = await self._get(ROOT)
        links = found.document.get("Links")
        sessions = links.get("Sessions") if isinstance(links, dict) else None
        self._sessions = str(sessions.get("@odata.id", "")) if isinstance(sessions, dict) else ""
        return found.document

    async def get(self, path: str) -> Answer:
        """Read one resource, logged in.

        Raises:
            StatusError: The status is not 200.
            AnswerError: The answer is too large or no JSON object.
            LoginError: User or password are refused.
            TimeoutError: It took too long.
            OSError: The service cannot be reached.
        """
        if self._auth == "session" and not self._token:
            await self._login("")
        token = self._token
        try:
            return await self._get(path)
        except StatusError as error:
            if error.status != 401 or self._auth != "session":
                raise
        await self._login(token)  # sessions end when the BMC restarts or has too many
        return await self._get(path)

    async def _get(self, path: str) -> Answer:
        self.count += 1
        sent = time.time()
        body, headers = await self._send("GET", path)
        received = time.time()
        self.clock.update(headers.get("Date", ""), sent, received)
        document = await asyncio.to_thread(_parse, body) if len(body) > _ON_LOOP else _parse(body)
        if document is None:
            raise AnswerError(f"{self.url}{path}: the answer is no JSON object")
        if self._seen:
            self._seen(path, document)
        return Answer(document, (sent + received) / 2)

    async def _login(self, stale: str) -> None:
        """Open a session in place of the one with the token `stale`."""
        async with self._login_lock:
            if self._token != stale:
                return  # another request was quicker
            if self._refused and time.monotonic() - self._refused[0] < LOCKOUT:
                raise self._refused[1]
            self._token = ""
            secret = await asyncio.to_thread(self._password.reveal) if self._password else ""
            login = {"UserName": self._user, "Password": secret}
            try:
                if not self._sessions:
                    raise StatusError("there is no session service", 404)
                body, headers = await self._send("POST", self._sessions, login)
            except StatusError as error:
                if error.status in (400, 401, 403):
                    refused = LoginError(f"{self.url} refuses user {self._user}: {error}")
                    self._refused = (time.monotonic(), refused)
                    raise refused from error
                if error.status not in (404, 405, 501):
                    raise
                self._use_basic(secret)
                return
            self._refused = None
            self._token = headers.get("X-Auth-Token", "")
            if not self._token:
                self._use_basic(secret)
            answer = _parse(body) or {}
            self._logout = urlsplit(
                headers.get("Location") or str(answer.get("@odata.id", ""))
            ).path

    def _use_basic(self, secret: str) -> None:
        self._auth = "basic"
        pair = base64.b64encode(f"{self._user}:{secret}".encode()).decode()  # RFC 7617
        self._basic = {"Authorization": f"Basic {pair}"}

    async def _send(
        self, method: str, path: str, body: Document | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Send one request and follow redirects, but never to another host."""
        import aiohttp

        if self._session is None:
            raise RuntimeError("Client used before Client.open")
        if self._auth == "basic" and not self._basic:
            secret = await asyncio.to_thread(self._password.reveal) if self._password else ""
            self._use_basic(secret)
        headers = {"X-Auth-Token": self._token} if self._token else self._basic
        where = f"{self.url}{path}"
        try:
            for _ in range(4):
                async with self._session.request(
                    method, f"{self.url}{path}", json=body, headers=headers, allow_redirects=False
                ) as response:
                    if response.status in _REDIRECTS:
                        path = _same_host(self.url, response.headers.get("Location", ""), where)
                        continue
                    if not 200 <= response.status < 300:
                        text = f"{where}: answered {response.status} {response.reason}"
                        if response.status == 401 and not self._user:
                            text += ": the config needs a user and a password"
                        raise StatusError(text, response.status)
                    return await self._read(response, where), {**response.headers}
            raise AnswerError(f"{where}: is redirected without end")
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectionError(f"{where}: no connection in {CONNECT:g} s") from error
        except TimeoutError as error:
            raise TimeoutError(f"{where}: no whole answer in {self._seconds:g} s") from error
        except aiohttp.ClientError as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise ConnectionError(f"{where}: {reason(error)}") from error
            message = " ".join(str(error).split())
            raise ConnectionError(f"{where}: {type(error).__name__} {message}") from error

    async def _read(self, response: ClientResponse, where: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > MAX_BODY:
                raise AnswerError(f"{where}: the answer is larger than {MAX_BODY >> 20} MiB")
        return bytes(body)


def context(*, verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Make the context for https; reads files.

    Raises:
        OSError: The file cannot be read or holds no certificate.
    """
    made = ssl.create_default_context(cafile=ca_file)
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _parse(body: bytes) -> Document | None:
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(body)
        return parsed if isinstance(parsed, dict) else None
    return None


def _same_host(url: str, location: str, where: str) -> str:
    own, other = urlsplit(url), urlsplit(location)
    same = not other.netloc or (other.scheme, other.netloc) == (own.scheme, own.netloc)
    if not other.path.startswith("/") or not same:
        raise AnswerError(f"{where}: is redirected to {location[:200]!r}, which is not asked")
    return f"{other.path}?{other.query}" if other.query else other.path
