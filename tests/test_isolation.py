"""One source that hangs for good, and the pace of all others: the unmodified daemon."""

from __future__ import annotations

import asyncio
import signal
import time
from itertools import pairwise
from pathlib import Path

from tests.fakes import nvml
from tests.fakes.otlp import HttpReceiver, Point, points
from tests.fakes.pages import Pages
from tests.fakes.processes import process
from tests.fakes.prometheus import free_port
from tests.fakes.vllm import page

SECONDS = 12
# A metric of each source that goes on, and the source's interval.
PACE = {
    "w2t.host.uptime": 1.0,
    "w2t.numa.memory.free": 1.0,
    "w2t.engine.requests.running": 1.0,
}


def test_a_driver_that_hangs_for_good_delays_nobody(tmp_path: Path) -> None:
    library = nvml.build(tmp_path / "nvml")
    scenario = nvml.Scenario(tmp_path / "scenario.conf")
    scenario.gpu(0)
    scenario.draw(0, 300.0)
    scenario.write()

    async def run() -> tuple[float, list[Point], str]:
        receiver = HttpReceiver()
        async with receiver.serve() as endpoint, Pages(page(100)) as pages:
            web = free_port()
            config = tmp_path / "w2t.toml"
            config.write_text(f"""
[web]
listen_address = ["127.0.0.1:{web}"]
[exporters.otlp]
endpoint = "{endpoint}"
interval = 0.5
[plugins]
numa.interval = 1
otlp.enabled = false
vllm = {{ target = "{pages.url}", interval = 1 }}
nvml = {{ interval = 1, timeout = 2 }}
""")
            environment = nvml.environment(library, scenario.path)
            log = tmp_path / "log"
            with (
                log.open("wb") as file,
                process(
                    "-m",
                    "collector",
                    "run",
                    f"--config.file={config}",
                    stderr=file,
                    environment=environment,
                ) as daemon,
            ):
                while not any(p[0] == "w2t.gpu.power" for p in points(receiver.requests)):
                    await asyncio.sleep(0.1)
                scenario.set("hang", "nvmlDeviceGetFieldValues")
                hung_at = time.time()
                scenario.write()
                await asyncio.sleep(SECONDS)
                found = points(receiver.requests)
                daemon.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(daemon.wait, 5) == 0
            return hung_at, found, log.read_text()

    hung_at, found, log = asyncio.run(run())
    for metric, interval in PACE.items():
        times = sorted({p[4] / 1e9 for p in found if p[0] == metric})
        since = [at for at in times if at >= hung_at]
        assert len(since) >= SECONDS / interval - 2, metric
        assert max(b - a for a, b in pairwise(since)) < 2 * interval, metric
    up = {dict(p[1])["plugin"]: p[2] for p in found if p[0] == "w2t.source.up"}
    assert up == {"host": 1.0, "numa": 1.0, "vllm": 1.0, "nvml": 0.0}
    said = [line for line in log.splitlines() if "source nvml" in line]
    assert len(said) == 1
    assert "no answer within 2 s" in said[0]
