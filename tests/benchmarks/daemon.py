"""The whole daemon on one node: CPU and memory at about 2,000 series, 1 s.

The unmodified daemon reads each second 8 GPUs with 18 NVLinks each (stand-in library, real pynvml,
child process), the host and the kernel's log; as often as it does by default 8 HCAs and interfaces,
40 hwmon chips, 300 processes and two engines; and is scraped each second as Prometheus does.
Figures are of the daemon and its child together; beside them stands Debian's node_exporter, scraped
each second in the same time.

`python -m tests.benchmarks.daemon [SECONDS]`
"""

from __future__ import annotations

import gzip
import http.client
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.benchmarks.cpu import cpu_ns, program, python
from tests.fakes.node import Node
from tests.fakes.prometheus import free_port
from tests.fakes.tree import plant

CHIPS = 40


def hwmon(root: Path) -> None:
    """Plant chips with seven sensors each, as a server full of NVMe drives and fans has them."""
    for chip in range(CHIPS):
        device = f"sys/devices/pci0000:00/0000:00:{chip:02x}.0"
        base = f"{device}/hwmon/hwmon{chip}"
        files = {f"{base}/name": "chip\n", f"{device}/uevent": ""}
        for sensor in range(1, 6):
            files[f"{base}/temp{sensor}_input"] = f"{30000 + chip * 10 + sensor}\n"
        files[f"{base}/power1_input"] = "12500000\n"
        files[f"{base}/in0_input"] = "12100\n"
        plant(root, files)
        link = root / f"sys/class/hwmon/hwmon{chip}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / base)
        (root / base / "device").symlink_to(root / device)


class Scraper:
    """Fetches one page over a kept connection, compressed, as Prometheus does."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=10)

    def fetch(self) -> bytes:
        headers = {"Accept-Encoding": "gzip"}
        self._connection.request("GET", "/metrics", headers=headers)
        return self._connection.getresponse().read()


def main() -> None:
    """Run for 60 s, or as many as the command line says, and print the figures."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = Node(folder)
        hwmon(node.root)
        engines = []
        for number in range(2):
            engine = stack.enter_context(
                program(*python("tests.fakes.engine", f"--model=m{number}", "--output=400"))
            )
            assert engine.stdout is not None
            engines.append(engine.stdout.readline().split())
        for slot in range(8):
            node.scenario.process(slot, int(engines[slot // 4][0]), 40 << 30, 90.0)
        node.scenario.write()
        web = free_port()
        targets = ", ".join(f'"http://127.0.0.1:{int(port)}"' for _, port in engines)
        config = node.config(
            f"127.0.0.1:{web}",
            f"[plugins.hwmon]\nroot = '{node.root}'\n"
            f"[plugins.vllm]\ntargets = [{targets}]\n"
            "[plugins.otlp]\nlisten_address = '127.0.0.1:0'\n",
        )
        daemon = stack.enter_context(
            program(*python("collector", "run", f"--config.file={config}"), env=node.environment)
        )
        exporter = None
        if shutil.which("prometheus-node-exporter"):
            port = free_port()
            exporter = stack.enter_context(
                program(
                    "prometheus-node-exporter",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=error",
                    stderr=subprocess.DEVNULL,
                )
            )
        time.sleep(20)  # past the start
        scrapers = [Scraper(f"127.0.0.1:{web}")]
        pids = [[daemon.pid, *(c.pid for c in psutil.Process(daemon.pid).children())]]
        if exporter:
            scrapers.append(Scraper(f"127.0.0.1:{port}"))
            pids.append([exporter.pid])
        before = [[cpu_ns(pid) for pid in group] for group in pids]
        begun = time.monotonic()
        for _ in range(seconds):
            for scraper in scrapers:
                scraper.fetch()
            time.sleep(max(0.0, 1 - (time.monotonic() - begun) % 1))
        spent = time.monotonic() - begun
        for name, group, cpu, scraper in zip(
            ("w2t", "node_exporter"), pids, before, scrapers, strict=False
        ):
            used = [(cpu_ns(pid) - ago) / spent / 1e7 for pid, ago in zip(group, cpu, strict=True)]
            page = gzip.decompress(scraper.fetch())
            series = sum(1 for line in page.splitlines() if line[:1] not in (b"#", b""))
            memory = [psutil.Process(pid).memory_full_info() for pid in group]
            print(
                f"{name:14} {sum(used):6.2f} % of a core "
                f"({' + '.join(f'{part:.2f}' for part in used)}), "
                f"RSS {sum(m.rss for m in memory) / 1e6:.1f} MB "
                f"({' + '.join(f'{m.rss / 1e6:.1f}' for m in memory)}), "
                f"PSS {sum(m.pss for m in memory) / 1e6:.1f} MB, {series} series"
            )


if __name__ == "__main__":
    main()
