"""A child process for a driver-bound plugin, which is given up when the driver hangs.

A process that is blocked in a driver may be beyond signals; it can only be left behind. As long as
it is there, no other is started, for that one would hang on the same lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from datetime import UTC, datetime

import orjson

from collector.batch import Batch
from collector.childmain import PROGRESS
from collector.entity import Entity
from collector.plugin import load
from collector.wire import LINE, Receiver, WireError

log = logging.getLogger(__name__)

START_LIMIT = 60.0  # seconds; a driver without persistence mode takes seconds per GPU to wake
_DELAY_MAX = 60.0  # seconds between two starts of a child that ends again and again


class ChildError(Exception):
    """The child could not poll; the message says why."""


class Child:
    """Polls a plugin in a child process.

    Counters of the plugin are its driver's raw ones; they go on over restarts of child and driver.

    Args:
        name: The plugin's name, as `collector.plugin.load` takes it.
        config: Its fields, as JSON has them.
        host: The host this daemon runs on.
        start_limit: Seconds that the plugin's `open` may take, over several polls.

    Attributes:
        end: How the last child ended; empty while one is at work.
    """

    def __init__(
        self,
        name: str,
        config: dict[str, object],
        host: Entity,
        start_limit: float = START_LIMIT,
    ) -> None:
        self._name = name
        self._order = {"plugin": name, "config": config, "host": host.key}
        self._start_limit = start_limit
        self._receiver = Receiver(load(name).metrics)
        self._process: Process | None = None
        self._ready = False
        self._started = 0.0
        self._ended_in_a_row = 0
        self.end = ""
        self._left: Process | None = None
        self._hung_since = 0.0
        self._note = -1

    async def poll(self, batch: Batch) -> None:
        """Have the child poll once and add what it found; start it if need be.

        If this is cancelled, by a timeout for one, the child counts as hung and is killed; one that
        still starts is left its `start_limit`.

        Raises:
            ChildError: The plugin's `open` or `poll` raised, or the child ended or is hung.
        """
        if self._left is not None:
            await _gone(self._left, 0.5)
            if self._left.returncode is None:
                raise ChildError(self._hang(self._left))
            self._left = None
        process = self._process or await self._start()
        try:
            if not self._ready:
                await self._receive(process, batch)
                self._ready = True
            await self._ask(process, batch)
        except asyncio.CancelledError:
            if self._ready or time.monotonic() - self._started > self._start_limit:
                self._give_up(process, batch.at)
            raise
        except (OSError, EOFError, WireError, ChildError) as error:
            raise await self._ended(process, error) from error
        self._ended_in_a_row = 0

    async def close(self, grace: float = 1.0) -> None:
        """End the child; one that does not end within `grace` seconds is killed and left behind."""
        process, self._process = self._process or self._left, None
        if process is not None and process.returncode is None:
            await _leave(process, grace / 2)
            await _gone(process, grace / 2)
        if self._note >= 0:
            os.close(self._note)
            self._note = -1

    async def _start(self) -> Process:
        wait = self._started + self._delay() - time.monotonic()
        if wait > 0:
            raise ChildError(f"{self.end} (starts again in {wait:.0f} s)")
        self.end = ""
        self._receiver.restart()
        if self._note < 0:
            self._note = os.memfd_create("w2t-child")
        os.truncate(self._note, 0)  # what the child before was doing
        os.truncate(self._note, PROGRESS)
        self._ready = False
        self._started = time.monotonic()
        self._process = process = await self._spawn()
        if process.stdin is not None:
            order = self._order | {"level": log.getEffectiveLevel()}
            process.stdin.write(orjson.dumps(order) + b"\n")
        return process

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "collector.childmain", str(os.getpid()), str(self._note)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[self._note],
            limit=LINE,
        )

    def _delay(self) -> float:
        ended = self._ended_in_a_row
        return min(2.0 ** (ended - 1), _DELAY_MAX) if ended > 1 else 0.0

    async def _ask(self, process: Process, batch: Batch) -> None:
        assert process.stdin is not None
        process.stdin.write(b"%r\n" % batch.at)
        await process.stdin.drain()
        while not await self._receive(process, batch):
            pass

    async def _receive(self, process: Process, batch: Batch) -> bool:
        """Take one line; say whether it completes a poll."""
        assert process.stdout is not None
        try:
            line = await process.stdout.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise WireError(f"the child's answer has a line of more than {LINE} bytes") from error
        if line == b"{}\n":
            return False
        complete, error_text = self._receiver.receive(line, batch)
        if error_text:
            raise ChildError(error_text)
        return complete

    async def _ended(self, process: Process, error: Exception) -> ChildError:
        """See the child off, and say how it ended."""
        self._let_go(process, time.time())
        await _leave(process, 1.0)
        self.end = str(error)
        if isinstance(error, OSError | EOFError):
            self.end = f"child process {process.pid} {_how(process.returncode)}"
        return ChildError(self.end)

    def _give_up(self, process: Process, at: float) -> None:
        self._let_go(process, at)
        _kill(process)
        self.end = f"child process {process.pid} {self._where()}: killed"

    def _let_go(self, process: Process, at: float) -> None:
        self._process = None
        self._left = process
        self._hung_since = at
        self._ended_in_a_row += 1

    def _hang(self, process: Process) -> str:
        return (
            f"driver unresponsive: process {process.pid} {self._where()}; "
            "it cannot be killed; abandoned"
        )

    def _where(self) -> str:
        since = datetime.fromtimestamp(self._hung_since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        note = os.pread(self._note, PROGRESS, 0) if self._note >= 0 else b""
        what = note.rstrip(b"\0").decode("utf-8", "replace") or "its start"
        return f"hung since {since} in {what}"


async def _leave(process: Process, seconds: float) -> None:
    """Tell a process to end, and kill it if it has not within that time."""
    try:
        if process.stdin is not None:
            process.stdin.close()
        await _gone(process, seconds)
    finally:
        _kill(process)


async def _gone(process: Process, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
        # asyncio leaves the pipes to the loop's next turns, which there may not be.
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "closed its output"
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"
