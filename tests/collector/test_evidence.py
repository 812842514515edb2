from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from collector import config
from collector import hangs as module
from collector.batch import Batch, Event, Link, SeriesKey, Severity
from collector.catalog import gpu, host
from collector.daemon import Daemon
from collector.entity import Kind
from collector.events import Events
from collector.evidence import Evidence
from collector.export import openmetrics
from collector.plugin import Plugin, load
from collector.poller import Source
from collector.read import stuck
from collector.settings import Evidence as Settings
from collector.snapshot import directory
from collector.store import Store
from collector.topology import Topology
from tests.fakes import distribution
from tests.fakes.nccl import Ras, rank_of, status_of
from tests.fakes.tree import plant

HOST = Kind.HOST("node1")
DEVICE = Kind.GPU("node1", "GPU-0")
HANG = Event(
    "collective.hang", Kind.COMMUNICATOR("node1", "0xa"), 1_760_000_000.25, Severity.ERROR, "still",
    (("ranks", "0"),),
)  # fmt: skip


class Blocking(Plugin):
    """A source of this host whose methods block."""

    metrics = (gpu.POWER,)
    text: str = "power 5\n"
    seconds: float = 0.0
    copies: int = 1

    def poll(self, batch: Batch) -> None:
        pass

    def record(self, folder: Path) -> None:
        time.sleep(self.seconds)
        for number in range(self.copies):
            plant(folder, {f"input/{number}": self.text})


class Awaiting(Blocking):
    """One whose methods are awaited."""

    async def record(self, folder: Path) -> None:  # type: ignore[override]
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(plant, folder, {"input/awaited": self.text})


class Failing(Blocking):
    """One that cannot."""

    def record(self, folder: Path) -> None:
        raise OSError("the driver is gone")


class Far(Blocking):
    """One across the network."""

    spread = 1.0


class Silent(Plugin):
    """One that records nothing."""

    metrics = (gpu.POWER,)

    def poll(self, batch: Batch) -> None:
        pass


class Case:
    """What a snapshot is taken of."""

    def __init__(self, folder: Path, *plugins: Plugin, root: Path | None = None, **fields: Any):
        self.store, self.topology, self.events = Store(), Topology(), Events()
        self.sources = {}
        for plugin in plugins:
            source = Source(type(plugin).__name__.lower(), plugin, HOST, self.store, self.topology)
            self.sources[source.id] = source
        self.folder = folder / "evidence"
        settings = Settings(directory=str(self.folder), **fields)
        self.evidence = Evidence(
            settings, HOST, self.store, self.topology, self.events, self.sources,
            root or folder / "root",
        )  # fmt: skip
        now = time.time()
        for second in range(120):
            batch = Batch(HOST, now - 120 + second, {gpu.POWER, gpu.ENERGY, host.UPTIME})
            batch.add(gpu.POWER, DEVICE, 500.0 if second < 60 else 100.0)
            batch.add(gpu.ENERGY, DEVICE, 10.0 * second)
            batch.add(gpu.POWER, Kind.GPU("node2", "GPU-9"), 1.0)
            self.store.write(batch, "test", 30.0)
        self.topology.observe("test", [Link(Kind.PROCESS("node1", "41"), DEVICE, 1.0)], now)

    def take(self, *events: Event) -> list[Path]:
        """Consider events one after the other, each when the snapshot before is done."""

        async def run() -> None:
            for event in events or (HANG,):
                self.evidence.consider(event)
                await self.evidence.finished()
            await self.evidence.close()

        asyncio.run(run())
        return sorted(self.folder.iterdir()) if self.folder.exists() else []

    def notes(self) -> str:
        (folder,) = self.take()
        return (folder / "notes.txt").read_text()


def test_a_snapshot_has_what_is_known_and_what_sources_read(tmp_path: Path) -> None:
    case = Case(tmp_path, Blocking(target="a/b"), Awaiting(), Far(), Silent())
    case.events.take([HANG], "hangs")
    (folder,) = case.take()
    assert folder.name.endswith("Z-collective.hang")
    assert (folder.stat().st_mode & 0o777) == 0o700
    event = json.loads((folder / "event.json").read_text())
    assert event["entity"] == "communicator:node1/0xa"
    assert event["time"] == "2025-10-09T08:53:20.250+00:00"
    assert event["attributes"] == {"ranks": "0"}
    links = json.loads((folder / "topology.json").read_text())
    assert [link["child"] for link in links] == ["process:node1/41"]
    assert [one["name"] for one in json.loads((folder / "events.json").read_text())] == [HANG.name]
    assert (folder / "sources/blocking_a_b/input/0").read_text() == "power 5\n"
    assert (folder / "sources/awaiting/input/awaited").exists()
    assert not (folder / "sources/far").exists()
    assert not (folder / "sources/silent").exists()


def test_the_history_is_openmetrics_with_times(tmp_path: Path) -> None:
    (folder,) = Case(tmp_path).take()
    families = {
        family.name: family
        for family in text_string_to_metric_families((folder / "series.om").read_text())
    }
    assert set(families) == {"w2t_gpu_power_watts", "w2t_gpu_energy_joules"}
    power = [(float(s.timestamp), s.value) for s in families["w2t_gpu_power_watts"].samples]
    assert (power[0][1], power[-1][1]) == (500.0, 100.0)
    # The fall lies between two samples that are a second apart.
    falls = [b[0] - a[0] for a, b in pairwise(power) if b[1] < a[1]]
    assert falls == [1.0]
    assert len(power) < 12
    assert len(families["w2t_gpu_energy_joules"].samples) == 120
    assert all(s.labels["hw_id"] == "GPU-0" for one in families.values() for s in one.samples)


def test_sources_that_fail_or_do_not_answer_are_noted_and_hold_up_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path, Failing(), Blocking(seconds=3), Awaiting(seconds=60), timeout=0.2)
    notes = case.notes()
    assert "failing: OSError: the driver is gone" in notes
    assert "blocking: no answer within 0.2 s" in notes
    assert "awaiting: no answer within 0.2 s" in notes


def test_a_driver_is_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = '''
import os
from collector.catalog import gpu
from collector.plugin import Plugin

class Source(Plugin):
    """Says in which process it is."""
    metrics = (gpu.POWER,)
    driver_bound = True
    bad: bool = False
    def poll(self, batch): pass
    def record(self, folder):
        if self.bad: raise OSError("nvmlInit: unknown error")
        folder.mkdir(parents=True)
        (folder / "pid").write_text(str(os.getpid()))
'''
    with distribution.installed(tmp_path / "site", driver=code):
        kind: Any = load("driver")
        case = Case(tmp_path)
        for name, plugin in (("good", kind(target="good")), ("bad", kind(target="bad", bad=True))):
            case.sources[name] = Source("driver", plugin, HOST, case.store, case.topology)
        (folder,) = case.take()
    assert (folder / "sources/driver_good/pid").read_text() != str(os.getpid())
    assert (
        "driver:bad: OSError: OSError: nvmlInit: unknown error"
        in (folder / "notes.txt").read_text()
    )


def test_sources_that_save_too_much_are_left_out(tmp_path: Path) -> None:
    case = Case(tmp_path, Blocking(text="x" * 1000, copies=30), max_bytes=20_000)
    (folder,) = case.take()
    assert not (folder / "sources/blocking").exists()
    assert "blocking: left out, because of evidence.max_bytes" in (folder / "notes.txt").read_text()


def test_series_that_are_too_many_are_cut_between_two(tmp_path: Path) -> None:
    case = Case(tmp_path, max_bytes=4000)
    (folder,) = case.take()
    text = (folder / "series.om").read_text()
    assert text.endswith("# EOF\n")
    assert len(list(text_string_to_metric_families(text))) <= 1
    assert "not all series" in (folder / "notes.txt").read_text()


def test_only_some_events_and_not_one_after_the_other(tmp_path: Path) -> None:
    other = HANG._replace(name="collective.recovered")
    assert Case(tmp_path).take(other) == []
    assert len(Case(tmp_path / "1").take(HANG, HANG)) == 1
    assert len(Case(tmp_path / "2").take(HANG, HANG._replace(name="gpu.lost"))) == 2
    assert Case(tmp_path / "3", enabled=False).take(HANG) == []


def test_events_while_a_snapshot_is_taken_get_none(tmp_path: Path) -> None:
    case = Case(tmp_path)

    async def run() -> None:
        case.evidence.consider(HANG)
        case.evidence.consider(HANG._replace(name="gpu.lost"))
        await case.evidence.finished()

    asyncio.run(run())
    assert len(list(case.folder.iterdir())) == 1


def test_the_newest_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    case = Case(tmp_path, keep=2)
    for name in ("20200101T000000Z-gpu.lost", "20210101T000000Z-gpu.lost", "mine"):
        (case.folder / name).mkdir(parents=True)
    names = [path.name for path in case.take()]
    assert names[0] == "20210101T000000Z-gpu.lost"
    assert names[-1] == "mine"
    assert len(names) == 3


def test_a_place_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(tmp_path)
    case.folder.write_text("no folder")
    asyncio.run(_consider(case))
    assert "evidence of collective.hang could not be saved" in caplog.text


async def _consider(case: Case) -> None:
    case.evidence.consider(HANG)
    await case.evidence.finished()


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ("/x", {"STATE_DIRECTORY": "/s"}, "/x"),
        ("", {"STATE_DIRECTORY": "/s:/t"}, "/s/evidence"),
        ("", {"XDG_STATE_HOME": "/xdg"}, "/xdg/w2t/evidence"),
        ("", {"HOME": "/home/me"}, "/home/me/.local/state/w2t/evidence"),
    ],
)
def test_where_it_goes(
    settings: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(directory(Settings(directory=settings))) == expected


def test_where_the_threads_of_processes_on_gpus_wait(tmp_path: Path) -> None:
    case = Case(tmp_path)
    root = plant(
        tmp_path / "root",
        {
            "proc/41/status": "Name:\tpython\n",
            "proc/41/wchan": "futex_wait_queue",
            "proc/41/task/41/comm": "python\n",
            "proc/41/task/41/stat": "41 (py (x) thon) S 1",
            "proc/41/task/41/wchan": "futex_wait_queue",
            "proc/41/task/52/comm": "cuda-EvtHandlr\n",
            "proc/41/task/52/stat": "52 (cuda-EvtHandlr) D 1",
            "proc/41/task/52/wchan": "os_acquire_rwlock_write",
        },
    )
    (folder,) = case.take()
    place = folder / "processes/41"
    assert (place / "status").read_text() == "Name:\tpython\n"
    assert (place / "threads.tsv").read_text().splitlines()[1:] == [
        "41\tpython\tS\tfutex_wait_queue",
        "52\tcuda-EvtHandlr\tD\tos_acquire_rwlock_write",
    ]
    assert f"{root}/proc/41/stack: No such file" in (folder / "notes.txt").read_text()


def test_this_process_can_be_looked_at(tmp_path: Path) -> None:
    stuck.save(Path("/"), os.getpid(), tmp_path)
    lines = (tmp_path / "threads.tsv").read_text().splitlines()
    assert any(line.startswith(f"{os.getpid()}\t") for line in lines)


def test_a_process_that_is_gone_is_noted(tmp_path: Path) -> None:
    assert stuck.save(tmp_path, 7, tmp_path / "7")


def test_gaps_stay_gaps_and_infinity_is_written() -> None:
    page = openmetrics.Text()
    key = SeriesKey(gpu.POWER, DEVICE, ())
    times = np.array([0.0, 1.0, 2.0, 3.0, 100.0])
    values = np.array([[np.nan], [1.5], [np.nan], [np.inf], [np.inf]])
    text = b"".join(page.write(([key], times, values))).decode()
    samples = [line.split()[-2:] for line in text.splitlines() if not line.startswith("#")]
    assert samples == [["1.5", "1.0"], ["+Inf", "3.0"], ["+Inf", "100.0"]]


GPU = '''
import pathlib
from collector.catalog import gpu
from collector.entity import Kind
from collector.plugin import Plugin

class Source(Plugin):
    """A GPU whose figures a file says, and its process."""

    metrics = (gpu.UTILIZATION, gpu.MEMORY_UTILIZATION)
    interval: float = 0.1
    path: str
    pid: str

    def poll(self, batch):
        entity = Kind.GPU("node1", "GPU-0")
        memory = float(pathlib.Path(self.path).read_text())
        batch.add(gpu.UTILIZATION, entity, 1.0)
        batch.add(gpu.MEMORY_UTILIZATION, entity, memory)
        batch.link(Kind.PROCESS("node1", self.pid), entity)
'''


def test_a_hang_is_found_saved_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unmodified daemon, NCCL's protocol, and a GPU that spins."""
    monkeypatch.setattr(module, "INTERVAL", 0.1)
    memory = tmp_path / "memory"
    memory.write_text("0.5")

    def status(count: int) -> bytes:
        ranks = [
            rank_of(0, "127.0.0.1", os.getpid(), {"AllReduce": count}),
            rank_of(1, "192.0.2.9", 4, {"AllReduce": count - 1}),
        ]
        return json.dumps(status_of("0xa", ranks)).encode()

    async def run() -> None:
        with (
            distribution.installed(tmp_path / "site", device=GPU),
            Ras(*(status(n) for n in range(10, 14))) as ras,
        ):
            text = f"""
                [daemon]
                host_name = "node1"
                detect = false
                [web]
                listen_address = ["127.0.0.1:0"]
                [hangs]
                after = 0.4
                [evidence]
                directory = "{tmp_path}/evidence"
                [plugins.nccl_ras]
                target = "{ras.target}"
                interval = 0.1
                [plugins.device]
                path = "{memory}"
                pid = "{os.getpid()}"
                """
            path = tmp_path / "w2t.toml"
            await asyncio.to_thread(path.write_text, text)
            async with serve(path) as daemon:
                await until(lambda: daemon.hangs._progress.ranks)
                await asyncio.sleep(1.0)
                assert not daemon.events.after(0), "it computes"
                await asyncio.to_thread(memory.write_text, "0.0")
                await until(lambda: daemon.events.after(0, "collective.hang"))
                (kept,) = daemon.events.after(0, "collective.hang")
                assert "ranks of other hosts lag behind" in kept.event.text
                await daemon.evidence.finished()
                ras.answers = [status(20), status(21)]
                await until(lambda: daemon.events.after(0, "collective.recovered"))

    asyncio.run(run())
    (folder,) = (tmp_path / "evidence").iterdir()
    assert json.loads((folder / "event.json").read_text())["name"] == "collective.hang"
    (answer,) = folder.glob("sources/nccl_ras*/input/ras.json")
    assert json.loads(answer.read_text())["communicators"][0]["hash"] == "0xa"
    text = (folder / "series.om").read_text()
    assert "w2t_rank_collectives_launched_total" in text
    assert "w2t_gpu_memory_utilization_ratio" in text
    assert (folder / f"processes/{os.getpid()}/threads.tsv").exists()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serve(path: Path) -> AsyncIterator[Daemon]:
    daemon = await asyncio.to_thread(lambda: Daemon(lambda: config.load(path)))
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await task
