"""Asks a Redfish service for its resources, logged in by one session.

Rules are those of DMTF DSP0266 (the Redfish specification), clause 13.3 for sessions.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from collector.read.http import AnswerError, StatusError
from collector.secret import Secret
from plugins.power.redfish.clock import Clock
from plugins.power.redfish.transport import Document, Transport, parse

Auth = Literal["session", "basic", "none"]

ROOT = "/redfish/v1/"  # DSP0266 6.3: the one path that a client may know
LOCKOUT = 300.0  # seconds between two logins after a refused one: BMCs lock accounts after some
BUSY = 60.0  # seconds between two logins where the service could not, or had no session left
LOGOUT = 0.8  # seconds; the poller gives one in all
_UNAUTHORIZED = 401
_REFUSED = (400, _UNAUTHORIZED, 403)
_NO_SESSIONS = (404, 405, 501)


class LoginError(Exception):
    """The service refuses the user or the password, or opens no session."""


class Answer(NamedTuple):
    """What came back.

    Attributes:
        document: The JSON object.
        at: Seconds since the epoch by our clock, half-way from request to answer.
    """

    document: Document
    at: float


@dataclass(slots=True)
class _Login:
    """What is sent to be known, the session to end, and whether it was ever accepted."""

    headers: dict[str, str]
    session: str = ""
    worked: bool = False


class Client:
    """One service.

    Args:
        transport: To it.
        user: Empty for none.
        password: Read anew at each login.
        auth: `session` falls back to basic where the service has no sessions.
        seen: Is told of each document and its path; for recording.
    """

    def __init__(
        self,
        transport: Transport,
        user: str,
        password: Secret | None,
        auth: Auth,
        seen: Callable[[str, Document], None] | None = None,
    ) -> None:
        self.url = transport.url
        self.clock = Clock()
        self._transport = transport
        self._user = user
        self._password = password
        self._auth: Auth = auth if user else "none"
        self._seen = seen
        self._login = _Login({})
        self._lock = asyncio.Lock()
        self._sessions = ""
        self._secret = ""  # was refused
        self._refused: tuple[float, LoginError] | None = None

    async def close(self) -> None:
        """End the session at the service, which has few, and close the connections."""
        try:
            async with asyncio.timeout(LOGOUT), self._lock:  # once a login that goes on is over
                await self._log_out()
        except TimeoutError:
            pass
        finally:
            await self._transport.close()

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
        login = self._login
        if self._auth != "none" and not login.headers:
            login = await asyncio.shield(self._log_in(login))  # a session must not get lost
        try:
            answer = await self._get(path)
        except StatusError as error:
            if error.status == _UNAUTHORIZED and self._auth == "none":
                raise LoginError(f"{error}: the config needs a user and a password") from error
            if error.status != _UNAUTHORIZED:
                raise
            if not login.worked:
                if self._login is login:
                    await self._log_out()
                raise self._refuse(str(error), LOCKOUT) from error
            # Sessions end when the BMC restarts or has too many. Where it refuses again, it does
            # so for this resource alone, or refuses the next one, too.
            login = await asyncio.shield(self._log_in(login))
            answer = await self._get(path)
        login.worked = True
        return answer

    async def _get(self, path: str) -> Answer:
        sent = time.time()
        body, headers = await self._transport.send("GET", path, self._login.headers)
        received = time.time()
        self.clock.update(headers.get("Date", ""), sent, received)
        document = await parse(body)
        if document is None:
            raise AnswerError(f"{self.url}{path}: the answer is no JSON object")
        if self._seen:
            self._seen(path, document)
        return Answer(document, (sent + received) / 2)

    async def _log_in(self, stale: _Login) -> _Login:
        """Replace a login: open a session, or take the password for basic authentication."""
        async with self._lock:
            if self._login is not stale:
                return self._login  # another request was quicker
            secret = await asyncio.to_thread(self._password.reveal) if self._password else ""
            if self._refused and time.monotonic() < self._refused[0] and secret == self._secret:
                raise self._refused[1]
            await self._log_out()
            self._secret = secret
            self._login = await self._open_session(secret) or _Login(_basic(self._user, secret))
            return self._login

    async def _open_session(self, secret: str) -> _Login | None:
        """Open a session; None where the service has no sessions."""
        if self._auth == "basic" or not self._sessions:
            return None
        try:
            login = {"UserName": self._user, "Password": secret}
            body, headers = await self._transport.send("POST", self._sessions, {}, login)
        except StatusError as error:
            if error.status in _NO_SESSIONS:
                self._auth = "basic"
                return None
            seconds = LOCKOUT if error.status in _REFUSED else BUSY
            raise self._refuse(str(error), seconds) from error
        token = headers.get("X-Auth-Token", "")
        where = headers.get("Location") or str((await parse(body) or {}).get("@odata.id", ""))
        return _Login({"X-Auth-Token": token}, urlsplit(where).path) if token else None

    async def _log_out(self) -> None:
        login, self._login = self._login, _Login({})
        if login.session:
            with contextlib.suppress(OSError, AnswerError):  # else it ends by itself
                async with asyncio.timeout(LOGOUT):
                    await self._transport.send("DELETE", login.session, login.headers)

    def _refuse(self, why: str, seconds: float) -> LoginError:
        """Note that no login is to be tried for some time."""
        error = LoginError(f"{self.url} refuses user {self._user}: {why}")
        self._refused = time.monotonic() + seconds, error
        return error


def _basic(user: str, secret: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{secret}".encode()).decode()  # RFC 7617
    return {"Authorization": f"Basic {pair}"}
