from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from collector.worker import BusyError, Worker


def test_it_gives_what_the_call_gives_on_one_thread_of_its_own() -> None:
    worker = Worker("reader")

    async def run() -> None:
        found = {await worker.run(threading.current_thread) for _ in range(3)}
        assert len(found) == 1
        thread = found.pop()
        assert (thread.name, thread.daemon) == ("reader", True)
        assert thread is not threading.current_thread()
        worker.stop()
        await asyncio.to_thread(thread.join)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (OSError("gone"), OSError),
        (StopIteration(3), RuntimeError),
        (SystemExit(1), RuntimeError),
    ],
)
def test_what_the_call_raises_is_raised_and_the_thread_goes_on(
    error: BaseException, seen: type[Exception]
) -> None:
    worker = Worker("reader")

    def fail() -> None:
        raise error

    async def run() -> None:
        with pytest.raises(seen):
            await worker.run(fail)
        assert await worker.run(lambda: 7) == 7
        worker.stop()

    asyncio.run(run())


async def give_up(worker: Worker, call: Callable[[], object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await worker.run(call)


def test_a_call_that_was_given_up_makes_it_busy_until_it_returns() -> None:
    worker, release = Worker("reader"), threading.Event()

    async def run() -> None:
        await give_up(worker, release.wait)
        with pytest.raises(BusyError, match=r"blocked for \d+ s"):
            await worker.run(lambda: 7)
        release.set()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(BusyError):
                    assert await worker.run(lambda: 7) == 7
                    break
                await asyncio.sleep(0.001)
        worker.stop()

    asyncio.run(run())


def test_a_call_that_fails_after_it_was_given_up_is_forgotten() -> None:
    worker, release = Worker("reader"), threading.Event()

    def fail() -> None:
        release.wait()
        raise OSError("too late")

    async def run() -> None:
        await give_up(worker, fail)
        release.set()
        async with asyncio.timeout(30):
            while worker._since is not None:
                await asyncio.sleep(0.001)
        assert await worker.run(lambda: 7) == 7
        worker.stop()

    asyncio.run(run())


def test_a_call_may_outlive_the_loop() -> None:
    worker, release, done = Worker("reader"), threading.Event(), threading.Event()

    def late() -> None:
        release.wait()
        done.set()

    asyncio.run(give_up(worker, late))
    release.set()
    assert done.wait(30)
    worker.stop()
    assert worker._thread is not None
    worker._thread.join(30)
    assert not worker._thread.is_alive()


def test_it_does_not_hold_up_the_end_of_the_process() -> None:
    script = """
import asyncio, threading
from collector.worker import Worker
async def main():
    try:
        async with asyncio.timeout(0.01):
            await Worker("reader").run(threading.Event().wait)
    except TimeoutError:
        print("given up")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "given up\n"), done.stderr
