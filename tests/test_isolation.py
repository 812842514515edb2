"""Sources that hang, lie and flood, and the pace of all others: the unmodified daemon."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

import aiohttp

from tests.fakes import nvml
from tests.fakes.otlp import HttpReceiver, Point, points
from tests.fakes.pages import Pages, Reply
from tests.fakes.processes import process
from tests.fakes.prometheus import free_port
from tests.fakes.snmp import Agent
from tests.fakes.vllm import page
from tests.plugins.power.pdus import RPDU2, apc

SECONDS = 12
# A metric of each source that goes on. All are polled each second.
GOOD = ("w2t.host.uptime", "w2t.numa.memory.free", "w2t.engine.requests.running")
CONFIG = """
[daemon]
detect = false
[web]
listen_address = ["127.0.0.1:{web}"]
[exporters.otlp]
endpoint = "{endpoint}"
interval = 0.5
[plugins]
host = {{}}
numa.interval = 1
"""


class Running:
    """A daemon that pushes what it reads to a receiver here."""

    def __init__(self, folder: Path, receiver: HttpReceiver) -> None:
        self._log = folder / "log"
        self._receiver = receiver
        self._since = 0.0

    def points(self) -> list[Point]:
        return points(self._receiver.requests)

    async def until(self, metric: str) -> None:
        async with asyncio.timeout(30):
            while not any(point[0] == metric for point in self.points()):
                await asyncio.sleep(0.1)

    async def watch(self) -> None:
        """Let it run for a while, whose samples are looked at afterwards."""
        self._since = time.time()
        await asyncio.sleep(SECONDS)

    def check_pace(self, engine: str) -> None:
        """Nothing that is well came late, the engine of that URL too: no sample was ever stale."""
        port = engine.rpartition(":")[2]
        found = [p for p in self.points() if dict(p[1]).get("server.port", port) == port]
        for metric in GOOD:
            times = sorted({p[4] / 1e9 for p in found if p[0] == metric})
            gaps = [b - a for a, b in pairwise(at for at in times if at >= self._since)]
            assert len(gaps) >= SECONDS - 4, metric
            assert 0.9 < median(gaps) < 1.1, metric
            assert max(gaps) < 3, metric

    def up(self) -> dict[str, float]:
        """What each source last said of itself, by its id."""
        last = [p for p in self.points() if p[0] == "w2t.source.up"]
        return {":".join(filter(None, dict(p[1]).values())): p[2] for p in last}

    def said(self, source: str) -> list[str]:
        lines = self._log.read_text().splitlines()
        return [line for line in lines if f"source {source}: " in line]


@contextlib.asynccontextmanager
async def running(
    folder: Path, text: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run the daemon, and stop it by SIGTERM in the end: it must be gone within 5 s."""
    receiver = HttpReceiver()
    async with receiver.serve() as endpoint:
        config = folder / "w2t.toml"
        config.write_text(CONFIG.format(web=free_port(), endpoint=endpoint) + text)
        command = ("-m", "collector", "run", f"--config.file={config}")
        with (
            (folder / "log").open("wb") as log,
            process(*command, stderr=log, environment=environment) as daemon,
        ):
            yield Running(folder, receiver)
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.wait, 5) == 0


def test_a_driver_that_hangs_for_good_delays_nobody(tmp_path: Path) -> None:
    library = nvml.build(tmp_path / "nvml")
    scenario = nvml.Scenario(tmp_path / "scenario.conf")
    scenario.gpu(0)
    scenario.draw(0, 300.0)
    scenario.write()

    async def run() -> None:
        async with Pages(page(100)) as pages:
            text = (
                f"vllm = {{ target = '{pages.url}', interval = 1 }}\n"
                "nvml = { interval = 1, timeout = 2 }\n"
            )
            environment = nvml.environment(library, scenario.path)
            async with running(tmp_path, text, environment) as daemon:
                await daemon.until("w2t.gpu.power")
                scenario.set("hang", "nvmlDeviceGetFieldValues")
                scenario.write()
                await daemon.watch()
                daemon.check_pace(pages.url)
                up = daemon.up()
            assert up == {"host": 1.0, "numa": 1.0, f"vllm:{pages.url}": 1.0, "nvml": 0.0}
            (line,) = daemon.said("nvml")
            assert "no answer within 2 s: child process" in line
            assert "in nvmlDeviceGetFieldValues" in line

    asyncio.run(run())


def test_bad_input_of_all_kinds_delays_nobody(tmp_path: Path) -> None:
    """PDUs that are away, slow, half there and lying; pages cut, endless, and wrong; OTLP garbage."""
    slow, half, lying = Agent(apc()), Agent(apc()), Agent(apc())
    slow.delay = 30
    half.broken = {f"{RPDU2}.9.4.3.1.7.2"}
    lying.set(f"{RPDU2}.9.4.3.1.7.1", 65_535_000)
    good = page(100)
    replies = {
        "cut": Reply(good[:-30], stop_after=len(good) - 60),
        "endless": Reply(b"vllm:x 1\n" * 100_000, repeat=230),  # 200 MB
        "wrong": Reply(good + b'vllm:prompt_tokens_total{engine="0",model_name="m"} NaN\n'),
    }
    otlp = free_port()

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            urls = {
                name: (await stack.enter_async_context(Pages(reply))).url
                for name, reply in {"good": Reply(good), **replies}.items()
            }
            away = f"127.0.0.1:{free_port()}"
            bad = [away] + [stack.enter_context(agent).target for agent in (slow, half, lying)]
            text = (
                f"otlp.listen_address = '127.0.0.1:{otlp}'\n"
                f"vllm = {{ targets = {list(urls.values())}, interval = 1 }}\n"
                f"pdu_snmp = {{ targets = {bad}, interval = 1, timeout = 1, community = 'public' }}\n"
            )
            daemon = await stack.enter_async_context(running(tmp_path, text))
            await daemon.until("w2t.engine.requests.running")
            session = await stack.enter_async_context(aiohttp.ClientSession())
            post = session.post(
                f"http://127.0.0.1:{otlp}/v1/traces",
                data=b"garbage",
                headers={"Content-Type": "application/x-protobuf"},
            )
            async with post as answer:
                assert answer.status == 400
            await daemon.watch()
            daemon.check_pace(urls["good"])
            up = daemon.up()
            down = {f"vllm:{urls[name]}" for name in replies} | {f"pdu_snmp:{one}" for one in bad}
            assert {source for source, value in up.items() if value == 0} == down
            assert {source for source, value in up.items() if value == 1} == {
                "host", "numa", "otlp", f"vllm:{urls['good']}"
            }  # fmt: skip
            for source in down:
                assert len(daemon.said(source)) == 1, daemon.said(source)

    asyncio.run(run())
