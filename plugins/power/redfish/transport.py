"""Sends one request to a Redfish service, with a limit on all that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from collector import __version__
from collector.read.http import AnswerError, StatusError, reason

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

Document = dict[str, Any]

MAX_BODY = 8 << 20  # bytes; a port report of an HGX baseboard has 0.3 MB
CONNECT = 10.0  # seconds to connect in; a BMC that is slow to answer is quick at that
_KEEP = 75.0  # seconds to keep a connection without use: a BMC's processor needs one for TLS
_CHUNK = 1 << 16
_ON_LOOP = 1 << 17  # bytes that are parsed on the loop; it takes about a millisecond
_REDIRECTS = (301, 302, 303, 307, 308)


class Transport:
    """Connections to one service.

    Args:
        url: `https://address`, without a path.
        tls: The context for https, made by `context`.
        seconds: That one request may take.
        requests: At once, at most.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, seconds: float, requests: int) -> None:
        self.url = url
        self._tls = tls
        self._seconds = seconds
        self._requests = requests
        self._session: ClientSession | None = None

    def open(self) -> None:
        """Prepare; nothing is sent yet. A loop must run."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._requests, keepalive_timeout=_KEEP, ssl=self._tls or True
            ),
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
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Document | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Send one request and follow redirects, but never to another host.

        Raises:
            StatusError: The status is no success.
            AnswerError: The answer is too large or breaks off.
            TimeoutError: It took too long.
            OSError: The service cannot be reached.
        """
        import aiohttp

        if self._session is None:
            raise RuntimeError("Transport.send before Transport.open")
        where = f"{self.url}{path}"
        try:
            for _ in range(4):
                async with self._session.request(
                    method, f"{self.url}{path}", json=body, headers=headers, allow_redirects=False
                ) as response:
                    if response.status in _REDIRECTS:
                        path = _same_host(self.url, response.headers.get("Location", ""), where)
                        continue
                    found = await self._read(response, where)
                    if not 200 <= response.status < 300:
                        why = f"{response.reason} {_message(found)}".strip()
                        raise StatusError(where, response.status, why)
                    return found, {**response.headers}
            raise AnswerError(f"{where}: is redirected without end")
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectionError(f"{where}: no connection in {CONNECT:g} s") from error
        except TimeoutError as error:
            raise TimeoutError(f"{where}: no whole answer in {self._seconds:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            text = (
                f"{where}: {error.certificate_error}: name its authority's certificate in ca_file"
            )
            raise ConnectionError(f"{text}, or do without the check by verify = false") from error
        except aiohttp.ClientConnectorError as error:
            why = reason(error)
            if "WRONG_VERSION_NUMBER" in why:  # OpenSSL's word for an answer that is no TLS
                why = "no TLS is spoken there: if it is plain HTTP, write http:// in target"
            raise ConnectionError(f"{where}: {why}") from error
        except aiohttp.ClientError as error:
            message = " ".join(str(error).split())[:200]
            raise AnswerError(f"{where}: {type(error).__name__} {message}") from error

    async def _read(self, response: ClientResponse, where: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > MAX_BODY:
                raise AnswerError(f"{where}: the answer is larger than {MAX_BODY >> 20} MiB")
        return bytes(body)


async def parse(body: bytes) -> Document | None:
    """Parse a JSON object, a large one on a thread; None if it is none."""
    return await asyncio.to_thread(_parse, body) if len(body) > _ON_LOOP else _parse(body)


def _parse(body: bytes) -> Document | None:
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(body)
        return parsed if isinstance(parsed, dict) else None
    return None


def context(*, verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Make the context for https; reads files.

    Raises:
        OSError: The file cannot be read or holds no certificate.
    """
    return _context(verify, ca_file, ca_file.stat().st_mtime_ns if ca_file else 0)


@lru_cache(maxsize=16)
def _context(verify: bool, ca_file: Path | None, _changed: int) -> ssl.SSLContext:
    """Make a context, one for all services: the system's certificates take 0.9 MB and 20 ms."""
    if verify:
        try:
            return ssl.create_default_context(cafile=ca_file)
        except ssl.SSLError as error:
            raise OSError(f"ca_file {ca_file}: {error.reason or error}") from error
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _message(body: bytes) -> str:
    """Name the message of an error (DSP0266, 8.6); its text may quote a password that was sent."""
    error = (_parse(body) or {}).get("error") if len(body) < _ON_LOOP else None
    told = error.get("@Message.ExtendedInfo") if isinstance(error, dict) else None
    first = told[0] if isinstance(told, list) and told else None
    found = str(first.get("MessageId", "")) if isinstance(first, dict) else ""
    return f"({found})" if re.fullmatch(r"[\w.]{1,100}", found) else ""


def _same_host(url: str, location: str, where: str) -> str:
    own, other = urlsplit(url), urlsplit(location)
    same = not other.netloc or (other.scheme, other.netloc) == (own.scheme, own.netloc)
    if not other.path.startswith("/") or not same:
        text = f"{where}: is redirected to {location[:200]!r}, which is not asked"
        raise AnswerError(f"{text}; if it is the same service, name it in target")
    return f"{other.path}?{other.query}" if other.query else other.path
