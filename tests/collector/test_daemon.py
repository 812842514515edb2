from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from collector import config, plugin
from collector import daemon as module
from collector.batch import SeriesKey
from collector.catalog import attribution, gpu, selfmetrics
from collector.daemon import Daemon
from collector.entity import Kind
from collector.metric import Metric
from collector.poller import Source
from tests.fakes import distribution
from tests.fakes.processes import process

HOST = Kind.HOST("node1")
PROBE = """
from collector.catalog import gpu
from collector.entity import Kind
from collector.plugin import Plugin

class Source(Plugin):
    \"\"\"Gives what it is told to.\"\"\"

    metrics = (gpu.POWER, gpu.ENERGY)
    interval: float = 0.1
    watts: float = 1.0

    def poll(self, batch):
        entity = Kind.GPU("node1", self.target)
        batch.add(gpu.POWER, entity, self.watts)
        batch.link(entity, batch.host)
"""
BASE = """
[daemon]
host_name = "node1"
detect = false
[web]
listen_address = ["127.0.0.1:0"]
enable_lifecycle = true
[attribution]
interval = 0.1
"""


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path) -> Iterator[Path]:
    """The plugins `probe`, which works, and `stuck`, whose thread hangs for good."""
    stuck = distribution.HUNG.format(driver_bound=False)
    with distribution.installed(tmp_path / "site", probe=PROBE, stuck=stuck) as folder:
        yield folder


class Served:
    """A daemon that runs in this loop, and its config file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon = Daemon(lambda: config.load(path))

    def configure(self, text: str) -> None:
        self.path.write_text(BASE + text)

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        url = f"http://{self.daemon.listening[0]}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url) as answer,
        ):
            return answer.status, await answer.text()

    async def until(self, page: str, text: str) -> None:
        async with asyncio.timeout(30):
            while text not in (await self.get(page))[1]:
                await asyncio.sleep(0.02)

    def value(self, metric: Metric, *labels: str) -> float | None:
        entity = HOST if metric.kind is Kind.HOST else Kind.DAEMON()
        return self.daemon.store.latest(time.time(), metric, entity, *labels)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "w2t.toml"
    path.write_text(BASE)
    return path


@contextlib.asynccontextmanager
async def serve(path: Path, text: str = "") -> AsyncIterator[Served]:
    path.write_text(BASE + text)
    served = await asyncio.to_thread(Served, path)
    task = asyncio.create_task(served.daemon.run())
    async with asyncio.timeout(30):
        while not served.daemon.listening and not task.done():
            await asyncio.sleep(0.005)
    try:
        yield served
    finally:
        served.daemon.stop()
        await task


def test_it_serves_what_its_sources_find(path: Path) -> None:
    async def run() -> None:
        async with serve(path, '[plugins.probe]\ntargets = ["a", "b"]\nwatts = 7.5') as served:
            for name in "ab":
                await served.until(
                    "/metrics", f'w2t_gpu_power_watts{{host_name="node1",hw_id="{name}",'
                )
            await served.until("/metrics", 'w2t_source_up{plugin="probe",target="a"} 1')
            await served.until("/metrics", 'w2t_host_energy_joules_total{host_name="node1",')
            assert (await served.get("/-/healthy"))[0] == 200
            status, text = await served.get("/api/v1/topology")
            assert (status, "gpu:node1/a" in text) == (200, True)
            status, text = await served.get("/api/v1/sources")
            assert (status, text.count('"up": true')) == (200, 2)

    asyncio.run(run())


def test_all_that_the_first_page_links_is_there(path: Path) -> None:
    async def run() -> None:
        async with serve(path) as served:
            links = re.findall('href="([^"]+)"', (await served.get("/"))[1])
            assert len(links) == 6
            for link in links:
                assert (await served.get(link))[0] == 200, link

    asyncio.run(run())


def test_it_is_ready_once_every_source_was_tried(path: Path) -> None:
    text = '[[plugins.probe]]\ntarget = "soon"\n'
    late = '[[plugins.probe]]\ntarget = "late"\ninterval = 1e9\n'

    async def run() -> None:
        async with serve(path, text + late) as served:
            await served.until("/metrics", 'hw_id="soon"')
            assert await served.get("/-/ready") == (503, "waiting for probe:late\n")
            served.configure(text)
            assert await served.get("/-/reload", "POST") == (200, "reloaded\n")
            assert await served.get("/-/ready") == (200, "ready\n")

    asyncio.run(run())


def test_what_comes_to_the_host_later_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    there: list[config.Configured] = []
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "found", lambda names: list(there))

    async def run() -> None:
        async with serve(path, '[plugins.probe]\ntarget = "first"') as served:
            kind = plugin.load("probe")
            there.append(config.Configured("probe", kind.model_validate({"target": "first"})))
            there.append(config.Configured("probe", kind.model_validate({"target": "later"})))
            await served.until("/metrics", 'hw_id="later"')
            await asyncio.sleep(0.2)
            assert len(served.daemon.sources) == 2
            assert caplog.text.count("found on this host") == 1

    asyncio.run(run())


def test_it_says_how_it_does_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOUSEKEEPING", 0.05)

    async def run() -> None:
        async with serve(path, '[plugins.probe]\ntarget = "a"') as served:
            await served.until("/metrics", 'w2t_gpu_power_watts{host_name="node1",hw_id="a"')
            await served.until("/metrics", "w2t_build_info{")
            async with asyncio.timeout(10):  # the first look sees the store still empty
                while (served.value(selfmetrics.SERIES) or 0) <= 5:
                    await asyncio.sleep(0.02)
            for metric in (selfmetrics.MEMORY, selfmetrics.STORE_BYTES, selfmetrics.CPU_TIME):
                assert (served.value(metric) or 0) > 0
            assert served.value(selfmetrics.CONFIG_RELOAD_OK) == 1
            assert served.value(selfmetrics.LOOP_LAG) is not None

    asyncio.run(run())


class TestReload:
    def test_only_what_changed_is_restarted(self, path: Path) -> None:
        def three(b: str, third: str) -> str:
            return "".join(
                f'[[plugins.probe]]\ntarget = "{name}"\nwatts = {watts}\n'
                for name, watts in (("kept", "1"), ("changed", b), (third, "3"))
            )

        async def run() -> None:
            async with serve(path, three("2", "removed")) as served:
                daemon = served.daemon
                await served.until("/metrics", 'hw_id="removed"')
                before, tasks = dict(daemon.sources), dict(daemon._tasks)
                served.configure(three("5", "added"))
                os.kill(os.getpid(), signal.SIGHUP)
                await served.until("/metrics", 'hw_id="added"')
                assert set(daemon.sources) == {"probe:kept", "probe:changed", "probe:added"}
                assert daemon.sources["probe:kept"] is before["probe:kept"]
                assert not tasks["probe:kept"].done()
                assert tasks["probe:changed"].done()
                assert tasks["probe:removed"].done()
                children = daemon.topology.children(HOST, Kind.GPU)
                assert Kind.GPU("node1", "removed") not in [link.child for link in children]
                async with asyncio.timeout(30):
                    while daemon.store.value[self.row(daemon, "changed")] != 5:
                        await asyncio.sleep(0.01)

        asyncio.run(run())

    def test_an_end_in_the_middle_of_one(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def close(source: Source) -> None:
            await asyncio.sleep(0.2)

        async def run() -> None:
            async with serve(path, '[plugins.probe]\ntarget = "a"') as served:
                daemon = served.daemon
                monkeypatch.setattr(Source, "close", close)
                served.configure('[plugins.probe]\ntarget = "b"')
                reload = asyncio.create_task(daemon.reload())
                async with asyncio.timeout(30):
                    while daemon._tasks:
                        await asyncio.sleep(0)
            await reload
            assert not daemon.sources

        asyncio.run(run())

    @staticmethod
    def row(daemon: Daemon, name: str) -> int:
        return daemon.store.index[SeriesKey(gpu.POWER, Kind.GPU("node1", name), ())]

    def test_a_bad_config_changes_nothing_and_every_problem_is_told(
        self, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "HOUSEKEEPING", 0.05)

        async def run() -> None:
            async with serve(path, '[plugins.probe]\ntarget = "a"') as served:
                before = dict(served.daemon.sources)
                used = served.daemon.config
                served.configure('[plugins.probe]\ntarget = "a"\nwatt = 3\n[plugins.prob]\n')
                problems = [
                    f"{path}:12: plugins.probe.watt: unknown key; did you mean watts?",
                    f"{path}:13: plugins.prob: no such plugin; did you mean probe?",
                ]
                status, text = await served.get("/-/reload", "POST")
                assert (status, text.splitlines()) == (400, problems)
                assert served.daemon.sources == before
                assert served.daemon.config is used
                errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
                assert errors[:-1] == problems
                await served.until("/metrics", "w2t_config_last_reload_successful 0")
                served.configure('[plugins.probe]\ntarget = "a"')
                assert (await served.get("/-/reload", "POST"))[0] == 200
                await served.until("/metrics", "w2t_config_last_reload_successful 1")
                assert served.daemon.sources == before

        asyncio.run(run())

    def test_a_file_that_is_gone_is_a_bad_config(self, path: Path) -> None:
        async def run() -> None:
            async with serve(path) as served:
                path.unlink()
                status, text = await served.get("/-/reload", "POST")
                assert (status, "cannot be read" in text) == (400, True)

        asyncio.run(run())

    def test_it_is_off_by_default(self, path: Path) -> None:
        path.write_text(BASE.replace("enable_lifecycle = true", ""))

        async def run() -> None:
            served = await asyncio.to_thread(Served, path)
            task = asyncio.create_task(served.daemon.run())
            while not served.daemon.listening:
                await asyncio.sleep(0.005)
            assert (await served.get("/-/reload", "POST"))[0] == 403
            served.daemon.stop()
            await task

        asyncio.run(run())

    def test_two_at_once_both_succeed(self, path: Path) -> None:
        async def run() -> None:
            async with serve(path) as served:
                served.configure('[plugins.probe]\ntarget = "a"')
                found = await asyncio.gather(*(served.daemon.reload() for _ in range(3)))
                assert found == [[], [], []]
                assert set(served.daemon.sources) == {"probe:a"}

        asyncio.run(run())

    def test_what_needs_a_restart_is_told_and_left(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def run() -> None:
            async with serve(path) as served:
                path.write_text(BASE.replace("interval = 0.1", "interval = 30"))
                assert await served.daemon.reload() == []
                assert served.daemon.config.settings.attribution.interval == 0.1
                assert "[attribution] changed; it takes effect with a restart" in caplog.text
                assert "[web] changed" not in caplog.text

        asyncio.run(run())

    def test_placement_is_taken_up(self, path: Path) -> None:
        async def run() -> None:
            async with serve(path) as served:
                served.configure('[topology.hosts.node1]\noutlets = ["a/1"]')
                assert await served.daemon.reload() == []
                links = served.daemon.topology.parents(HOST, Kind.OUTLET)
                assert [link.parent for link in links] == [Kind.OUTLET("a", "1")]
                served.configure("")
                assert await served.daemon.reload() == []
                assert served.daemon.topology.parents(HOST, Kind.OUTLET) == []

        asyncio.run(run())


class TestSystemd:
    @pytest.fixture
    def manager(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
            sock.setblocking(False)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            monkeypatch.setenv("WATCHDOG_USEC", "100000")
            yield sock

    @staticmethod
    def said(manager: socket.socket) -> list[str]:
        """What came since the last look, without the times in it."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(manager.recv(4096).decode().partition("\n")[0])
        return found

    def test_the_watchdog_is_fed_while_the_loop_turns_and_not_while_it_is_blocked(
        self, path: Path, manager: socket.socket
    ) -> None:
        async def run() -> None:
            async with serve(path):
                said: list[str] = []
                async with asyncio.timeout(30):
                    while said.count("WATCHDOG=1") < 3:
                        await asyncio.sleep(0.02)
                        said += self.said(manager)
                assert said[0] == "READY=1"
                time.sleep(0.5)
                assert self.said(manager) == []

        asyncio.run(run())
        assert self.said(manager)[-1] == "STOPPING=1"

    def test_a_reload_is_told_from_begin_to_end(self, path: Path, manager: socket.socket) -> None:
        async def run() -> None:
            async with serve(path) as served:
                for text in ("", "nonsense = 1"):
                    self.said(manager)
                    served.configure(text)
                    await served.daemon.reload()
                    said = [state for state in self.said(manager) if state != "WATCHDOG=1"]
                    assert said == ["RELOADING=1", "READY=1"]

        asyncio.run(run())


def test_work_that_fails_is_told_once_and_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with serve(path) as served:
            step = served.daemon.attribution.step
            broken = 0

            def fail(now: float) -> object:
                nonlocal broken
                broken += 1
                if broken > 3:
                    return step(now)
                raise KeyError("broken")

            monkeypatch.setattr(served.daemon.attribution, "step", fail)
            async with asyncio.timeout(30):
                while broken < 6:
                    await asyncio.sleep(0.02)

    asyncio.run(run())
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert said == ["attribution failed; it goes on with the next step"]


def test_attribution_reads_what_sources_wrote(path: Path) -> None:
    async def run() -> None:
        async with serve(path, '[plugins.probe]\ntarget = "a"\nwatts = 100') as served:
            async with asyncio.timeout(30):
                while not served.value(attribution.HOST_ENERGY, "components"):
                    await asyncio.sleep(0.02)
            power = served.value(attribution.HOST_POWER, "components")
            assert power == pytest.approx(100)

    asyncio.run(run())


def ended(*arguments: str) -> tuple[int, str]:
    """Run a daemon that ends by itself; give its status and what it said."""
    command = [sys.executable, "-P", "-m", "collector", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


class TestProcess:
    """The program as it is started by a person or systemd."""

    @pytest.fixture(autouse=True)
    def _environment(self, stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", f"{stranger}:{Path(__file__).parents[2]}")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_ends_in_time_though_a_thread_hangs(
        self, path: Path, tmp_path: Path, number: signal.Signals
    ) -> None:
        path.write_text(BASE + '[plugins.stuck]\n[plugins.probe]\ntarget = "a"')
        log = tmp_path / "log"
        with (
            log.open("wb") as file,
            process("-m", "collector", "run", f"--config.file={path}", stderr=file) as daemon,
        ):
            deadline = time.monotonic() + 60
            while "source stuck: timeout" not in log.read_text():
                assert daemon.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            daemon.send_signal(number)
            assert daemon.wait(5) == 0
        assert re.search(r"serves on 127\.0\.0\.1:\d+$", log.read_text(), re.MULTILINE)
        assert "Traceback" not in log.read_text()

    @pytest.mark.parametrize(
        ("listen", "message"),
        [
            (
                "127.0.0.1:{taken}",
                r"cannot listen on 127\.0\.0\.1:{taken}: address already in use",
            ),
            ("nonsense", "cannot listen on 'nonsense': write host:port"),
        ],
    )
    def test_an_address_that_cannot_be_listened_on(
        self, path: Path, listen: str, message: str
    ) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            listen, message = listen.format(taken=taken), message.format(taken=taken)
            status, errors = ended(f"--config.file={path}", "--web.listen-address", listen)
        assert status == 1
        assert re.search(message, errors)
        assert "Traceback" not in errors

    def test_a_bad_config_does_not_start(self, path: Path) -> None:
        path.write_text("[web]\nlisten = 1\n[daemon]\nlog_level = 'loud'\n")
        status, errors = ended(f"--config.file={path}")
        assert status == 2
        assert [line.rpartition("/")[2].split(": ")[0] for line in errors.splitlines()] == [
            "w2t.toml:2",
            "w2t.toml:4",
        ]
