"""A thread that can be given up: for reads that block."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """The call before has not returned yet; the message says for how long."""


class Worker:
    """Runs blocking calls, one at a time, on a daemon thread of its own.

    A call that is given up (its awaiting task was cancelled) goes on in the thread, and until it
    returns further calls raise `BusyError`. A daemon thread does not hold up the end of the
    process, as the threads of `asyncio.to_thread` do.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since: float | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` on the thread and return what it returns.

        Raises:
            BusyError: An earlier call was given up and still runs.
        """
        if self._since is not None:
            waited = time.monotonic() - self._since
            raise BusyError(f"a read has been blocked for {waited:.0f} s; it cannot be ended")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(deliver: Callable[[], None]) -> None:
            self._since = None
            if not future.done():
                deliver()

        def job() -> None:
            try:
                deliver = functools.partial(future.set_result, call())
            except (StopIteration, SystemExit) as error:  # no future can hold it; ends no thread
                deliver = functools.partial(future.set_exception, RuntimeError(repr(error)))
            except Exception as error:  # noqa: BLE001 - handed to whoever awaits
                deliver = functools.partial(future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, deliver)

        self._since = time.monotonic()
        self._jobs.put(job)
        return await future

    def stop(self) -> None:
        """Let the thread end once it is free."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
