from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PrivateAttr

from collector import plugin
from collector.batch import Batch, Call
from collector.catalog import gpu, host, selfmetrics
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.poller import BACKOFF_MAX, Source
from collector.store import Store
from collector.topology import Topology
from tests.fakes import distribution

HOST = Kind.HOST("node1")
GPU = Kind.GPU("node1", "g0")


class Fake(Plugin):
    """Polls by calling the functions in `script`, the last one again and again."""

    metrics = (host.LOAD, gpu.POWER, gpu.PROCESS_MEMORY)
    interval: float = 10.0
    timeout: float = 5.0
    _script: list[Callable[[Batch], Any]] = PrivateAttr(default_factory=list)
    _opened: int = PrivateAttr(default=0)
    _closed: int = PrivateAttr(default=0)

    def open(self) -> None:
        self._opened += 1

    def poll(self, batch: Batch) -> None:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        step(batch)

    def close(self) -> None:
        self._closed += 1


class Async(Fake):
    async def open(self) -> None:  # type: ignore[override]
        self._opened += 1

    async def poll(self, batch: Batch) -> None:  # type: ignore[override]
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        result = step(batch)
        if result is not None:
            await result

    async def close(self) -> None:  # type: ignore[override]
        self._closed += 1


def source(*script: Callable[[Batch], Any], kind: type[Fake] = Fake, **fields: Any) -> Source:
    made = kind(**fields)
    made._script = list(script)
    return Source("fake", made, HOST, Store(), Topology())


def good(batch: Batch) -> None:
    batch.add(gpu.POWER, GPU, 100.0)
    batch.link(GPU, HOST)


def fail(error: Exception) -> Callable[[Batch], None]:
    def step(batch: Batch) -> None:
        raise error

    return step


async def never(batch: Batch) -> None:
    batch.add(gpu.POWER, GPU, 1.0)
    await asyncio.Event().wait()


def said(one: Source, metric: Metric, *labels: str) -> float | None:
    return one._store.latest(time.time(), metric, one.entity, *labels)


def value(one: Source) -> float | None:
    return one._store.latest(time.time(), gpu.POWER, GPU)


def polls(one: Source, count: int) -> None:
    async def run() -> None:
        for _ in range(count):
            await one.poll()

    asyncio.run(run())


@pytest.mark.parametrize("kind", [Fake, Async])
class TestGood:
    def test_what_a_poll_finds_is_delivered(self, kind: type[Fake]) -> None:
        seen: list[Batch] = []
        one = source(good, kind=kind, target="here")
        one._deliver = lambda source, batch: seen.append(batch)
        polls(one, 2)
        assert value(one) == 100
        assert one._topology.children(HOST, Kind.GPU)[0].child == GPU
        assert (one.polls, one.error, len(seen)) == (2, None, 2)
        assert said(one, selfmetrics.SOURCE_UP) == 1
        assert said(one, selfmetrics.SOURCE_LAST_SUCCESS) == pytest.approx(seen[0].at)
        assert one.entity == Kind.SOURCE("fake", "here")

    def test_what_a_better_source_has_is_neither_written_nor_a_failure(
        self, kind: type[Fake]
    ) -> None:
        class Worse(kind):  # type: ignore[valid-type, misc]
            precedence: ClassVar[int] = -1

        better, worse = source(good, kind=kind), source(good, kind=Worse, target="other")
        worse.plugin._script = [lambda batch: batch.add(gpu.POWER, GPU, 50.0)]  # type: ignore[attr-defined]
        worse._store = better._store
        polls(worse, 1)
        assert value(better) == 50
        polls(better, 1)
        polls(worse, 1)
        assert value(better) == 100
        assert worse.error is None
        assert said(worse, selfmetrics.SOURCE_UP) == 1
        assert said(worse, selfmetrics.SOURCE_REFUSED) == 0

    def test_it_is_opened_once_and_closed_once(self, kind: type[Fake]) -> None:
        one = source(good, kind=kind)

        async def run() -> None:
            await one.poll()
            await one.poll()
            await one.close()
            await one.close()

        asyncio.run(run())
        assert isinstance(one.plugin, Fake)
        assert (one.plugin._opened, one.plugin._closed) == (1, 1)

    def test_what_was_never_opened_is_not_closed(self, kind: type[Fake]) -> None:
        one = source(good, kind=kind)
        asyncio.run(one.close())
        assert isinstance(one.plugin, Fake)
        assert one.plugin._closed == 0


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "reason", "message"),
        [
            (ConnectionRefusedError(111, "refused"), "unreachable", "refused"),
            (ValueError("odd page"), "error", "ValueError: odd page"),
            (KeyError("x"), "error", "KeyError: 'x'"),
            (TimeoutError("3 of 9 objects were not answered"), "timeout", "3 of 9 objects"),
            (TimeoutError(), "timeout", "no answer within 5 s"),
            (AssertionError(), "error", "AssertionError"),
        ],
    )
    def test_its_reason_is_told(
        self, error: Exception, reason: str, message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = source(fail(error))
        polls(one, 1)
        assert said(one, selfmetrics.SOURCE_UP) == 0
        assert said(one, selfmetrics.SOURCE_FAILURES, reason) == 1
        assert said(one, selfmetrics.SOURCE_LAST_SUCCESS) is None
        assert one.error is not None
        assert message in one.error
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert message in caplog.text

    def test_what_was_read_before_is_kept(self) -> None:
        def half(batch: Batch) -> None:
            good(batch)
            raise OSError("gone")

        one = source(half)
        polls(one, 1)
        assert value(one) == 100
        assert said(one, selfmetrics.SOURCE_UP) == 0

    def test_links_that_a_failed_poll_did_not_see_go_on(self) -> None:
        one = source(good, fail(OSError("gone")))
        polls(one, 2)
        assert one._topology.children(HOST, Kind.GPU)

    def test_links_that_a_poll_saw_before_it_failed_end_no_others(self) -> None:
        def both(batch: Batch) -> None:
            good(batch)
            batch.link(Kind.GPU("node1", "g1"), HOST)

        def half(batch: Batch) -> None:
            good(batch)
            raise OSError("gone")

        one = source(both, half)
        polls(one, 2)
        assert len(one._topology.children(HOST, Kind.GPU)) == 2

    def test_links_that_a_good_poll_did_not_see_end(self) -> None:
        one = source(good, lambda batch: None)
        polls(one, 2)
        assert one._topology.children(HOST, Kind.GPU) == []

    def test_it_is_logged_once_and_so_is_the_recovery(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        bad = fail(OSError("gone"))
        one = source(bad, bad, fail(ValueError("odd")), good, good, bad, good)
        polls(one, 7)
        assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
            ("WARNING", "source fake: unreachable: OSError: gone"),
            ("INFO", "source fake: up again (failed polls: 3)"),
            ("WARNING", "source fake: unreachable: OSError: gone"),
            ("INFO", "source fake: up again (failed polls: 1)"),
        ]
        assert said(one, selfmetrics.SOURCE_FAILURES, "unreachable") == 3
        assert said(one, selfmetrics.SOURCE_FAILURES, "error") == 1

    def test_a_part_that_failed_leaves_the_rest(self, caplog: pytest.LogCaptureFixture) -> None:
        def partial(batch: Batch) -> None:
            good(batch)
            for index in range(5):
                batch.failed(Kind.GPU("node1", f"g{index}"), OSError(f"lost {index}"))

        one = source(partial)
        polls(one, 1)
        assert value(one) == 100
        assert said(one, selfmetrics.SOURCE_UP) == 0
        assert said(one, selfmetrics.SOURCE_FAILURES, "partial") == 1
        assert "gpu:node1/g0: lost 0; gpu:node1/g1: lost 1" in caplog.text
        assert "(and 2 more)" in caplog.text
        assert "lost 3" not in caplog.text

    def test_an_open_that_fails_is_tried_again(self) -> None:
        class Shy(Fake):
            def open(self) -> None:
                super().open()
                if self._opened < 3:
                    raise OSError("not yet")

        one = source(good, kind=Shy)
        polls(one, 2)
        assert (value(one), said(one, selfmetrics.SOURCE_UP)) == (None, 0)
        polls(one, 2)
        assert (value(one), said(one, selfmetrics.SOURCE_UP)) == (100, 1)
        assert isinstance(one.plugin, Shy)
        assert one.plugin._opened == 3

    @pytest.mark.parametrize(
        "step",
        [
            lambda batch: batch.add(gpu.TEMPERATURE, GPU, 1.0),
            lambda batch: batch.add(gpu.POWER, GPU, "much"),
            lambda batch: batch.add(gpu.POWER, GPU, [1.0]),
            lambda batch: batch.add(gpu.POWER, GPU, 1.0, at="now"),
        ],
    )
    def test_what_cannot_be_a_sample_fails_this_source_alone(
        self, step: Callable[[Batch], None]
    ) -> None:
        one = source(step, good)
        polls(one, 1)
        assert said(one, selfmetrics.SOURCE_FAILURES, "error") == 1
        polls(one, 1)
        assert value(one) == 100

    def test_no_more_series_than_allowed(self) -> None:
        def many(batch: Batch) -> None:
            for pid in range(7):
                batch.add(gpu.PROCESS_MEMORY, GPU, 1.0, str(pid))

        one = source(many, max_series=5)
        polls(one, 1)
        assert one._store.owned("fake") == 5
        assert said(one, selfmetrics.SOURCE_REFUSED) == 2
        assert said(one, selfmetrics.SOURCE_UP) == 1


class TestHang:
    def test_a_poll_that_takes_too_long_keeps_what_was_read(self) -> None:
        one = source(never, kind=Async, timeout=0.05)
        polls(one, 1)
        assert value(one) == 1
        assert said(one, selfmetrics.SOURCE_FAILURES, "timeout") == 1

    def test_a_thread_that_hangs_writes_nothing_later_and_is_not_joined_by_another(self) -> None:
        go, done = threading.Event(), threading.Event()
        threads: list[str] = []

        def hang(batch: Batch) -> None:
            threads.append(threading.current_thread().name)
            batch.add(gpu.POWER, GPU, 1.0)
            go.wait()
            batch.add(gpu.POWER, GPU, 2.0)
            done.set()

        one = source(hang, good, timeout=0.05)

        async def run() -> None:
            first = await one.poll()
            await one.poll()
            assert value(one) == 1
            assert said(one, selfmetrics.SOURCE_FAILURES, "timeout") == 1
            assert said(one, selfmetrics.SOURCE_FAILURES, "hung") == 1
            assert "cannot be ended" in str(one.error)
            go.set()
            assert await asyncio.to_thread(done.wait, 30)
            assert first.values == [1.0]
            while one.error:  # the thread has said that it is free
                await one.poll()
            assert value(one) == 100

        asyncio.run(run())
        assert len(threads) == 1

    @pytest.mark.parametrize("name", ["poll", "close"])
    def test_a_source_that_hangs_can_be_closed(self, name: str) -> None:
        release = threading.Event()

        class Stuck(Fake):
            def close(self) -> None:
                release.wait()

        step = good if name == "close" else lambda batch: release.wait()
        one = source(step, kind=Stuck, timeout=0.05)

        async def run() -> None:
            await one.poll()
            async with asyncio.timeout(30):
                await one.close()

        asyncio.run(run())
        release.set()

    def test_cancelling_a_running_source_closes_it(self) -> None:
        polled = asyncio.Event()

        def step(batch: Batch) -> None:
            polled.set()

        one = source(step, kind=Async, interval=0.01)

        async def run() -> None:
            task = asyncio.create_task(one.run())
            await polled.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert isinstance(one.plugin, Async)
        assert one.plugin._closed == 1


class TestGrid:
    @given(
        st.floats(1.6e9, 1.8e9),
        st.sampled_from([0.1, 1.0, 10.0, 7.0, 300.0]),
        st.text(max_size=10),
        st.sampled_from([0.0, 0.5, 1.0]),
    )
    def test_polls_are_at_multiples_shifted_by_target(
        self, now: float, interval: float, target: str, spread: float
    ) -> None:
        class Spread(Fake):
            pass

        Spread.spread = spread
        one = source(good, kind=Spread, interval=interval, target=target)
        wait = one.delay(now)
        assert 0 < wait <= interval * (1 + 1e-6)
        first = (now + wait) / interval
        later = (now + 12345.6 + one.delay(now + 12345.6)) / interval
        assert (later - first) % 1 == pytest.approx(0, abs=1e-4) or (
            later - first
        ) % 1 == pytest.approx(1, abs=1e-4)
        if spread == 0:
            assert abs(first - round(first)) < 1e-4

    def test_targets_are_spread_over_the_interval(self) -> None:
        class Spread(Fake):
            spread: ClassVar[float] = 1.0

        delays = [
            source(good, kind=Spread, target=f"pdu{index}").delay(1.7e9) for index in range(400)
        ]
        for tenth in range(10):
            assert 15 < sum(tenth < delay <= tenth + 1 for delay in delays) < 80

    @pytest.mark.parametrize("jump", [3600.0, -3600.0, 1e9])
    def test_a_clock_that_jumps_stops_nothing(self, jump: float) -> None:
        one = source(good)
        one._at = 1.7e9
        assert 0 < one.delay(1.7e9 + jump + 1) <= 10

    def test_a_poll_that_came_a_little_early_is_not_repeated(self) -> None:
        one = source(good)
        one._at = 1.7e9 - 0.003  # the clock was slewed while the timer ran
        assert one.delay(1.7e9 - 0.001) == pytest.approx(10.001)

    def test_a_poll_that_took_long_does_not_skip_the_next_place(self) -> None:
        one = source(good)
        one._at = 1.7e9
        assert one.delay(1.7e9 + 9.9) == pytest.approx(0.1)
        assert one.delay(1.7e9 + 10.1) == pytest.approx(9.9)

    def test_failures_slow_it_down_to_a_limit_and_one_success_ends_that(self) -> None:
        one = source(fail(OSError("gone")))
        delays = []
        for _ in range(6):
            one._report("unreachable", "gone")
            delays.append(one.delay(1.7e9))
        assert delays == [10, 20, 40, BACKOFF_MAX, BACKOFF_MAX, BACKOFF_MAX]
        one._report("partial", "answers again")
        assert one.delay(1.7e9) == 10
        one._report(None, "")
        assert one.delay(1.7e9) == 10

    def test_a_source_that_is_polled_rarely_is_not_slowed_down(self) -> None:
        one = source(good, interval=300.0)
        for _ in range(9):
            one._report("unreachable", "gone")
        assert one.delay(1.7e9 + 1) <= 300


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugins `stuck` and `driver` of another distribution, which hang for good."""
    texts = {
        name: distribution.HUNG.format(driver_bound=name == "driver")
        for name in ("stuck", "driver")
    }
    with distribution.installed(tmp_path / "site", **texts) as folder:
        monkeypatch.setenv("PYTHONPATH", str(folder))
        yield


@pytest.mark.usefixtures("stranger")
def test_one_that_hangs_delays_no_other() -> None:
    store, topology, interval = Store(), Topology(), 0.5
    times: dict[str, list[float]] = {}

    def note(name: str) -> Callable[[Batch], None]:
        def step(batch: Batch) -> None:
            batch.add(gpu.POWER, Kind.GPU("node1", name), 1.0)

        return step

    def made(name: str, made_plugin: Plugin) -> Source:
        return Source(
            name, made_plugin, HOST, store, topology,
            lambda source, batch: times.setdefault(name, []).append(batch.at),
        )  # fmt: skip

    sources = [made(name, plugin.load(name)(timeout=0.6)) for name in ("stuck", "driver")]
    for name, kind in (("hung", Async), ("async", Async), ("thread", Fake)):
        fake = kind(interval=interval, timeout=0.6)
        fake._script = [never] if name == "hung" else [note(name)]
        sources.append(made(name, fake))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run()) for one in sources]
            async with asyncio.timeout(30):
                while min(len(times.get(one.name, [])) for one in sources) < 2:
                    await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()

    asyncio.run(run())
    for name in ("async", "thread"):
        assert max(b - a for a, b in pairwise(times[name])) < 2 * interval, name
        assert store.latest(time.time(), gpu.POWER, Kind.GPU("node1", name)) == 1
    up = {one.name: said(one, selfmetrics.SOURCE_UP) for one in sources}
    assert up == {"stuck": 0, "driver": 0, "hung": 0, "async": 1, "thread": 1}


def test_calls_are_handed_on() -> None:
    call = Call("agent", "model", 0.0, 1.0, 1, 0, 1)
    seen: list[Batch] = []
    one = source(lambda batch: batch.call(call))
    one._deliver = lambda source, batch: seen.append(batch)
    polls(one, 1)
    assert seen[0].calls == [call]


def test_its_state_is_told_again_after_a_while_and_at_once_when_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1.7e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    one = source(good, good, good, fail(OSError("gone")), good)

    def last() -> tuple[float, float]:
        row = one._store.index[(selfmetrics.SOURCE_UP, one.entity, ())]  # type: ignore[index]
        return float(one._store.time[row]) - 1.7e9, float(one._store.value[row])

    found = []
    for at in (0, 1, 6, 7, 8):
        now[0] = 1.7e9 + at
        polls(one, 1)
        found.append(last())
    assert found == [(0, 1), (0, 1), (6, 1), (7, 0), (8, 1)]
