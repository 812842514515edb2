"""CPU per file of sysfs: kept descriptors and the plugins, beside Debian's node_exporter.

Both read one tree: 8 InfiniBand HCAs, 40 hwmon chips, 2 RAPL packages. CPU time, rounds interleaved,
medians. node_exporter's time contains its page, so ours is given with `Store.write` too. It reads
labels and limits with each scrape, so its cost is given by the file as well as by the round; how
many files it reads is counted by their access times.

    python -m tests.benchmarks.sysfs
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from collector.batch import Batch
from collector.entity import Kind
from collector.plugin import Plugin, load
from collector.read.files import Files
from collector.store import Store
from tests.fakes.node import HCA_COUNTERS, HW_COUNTERS
from tests.fakes.tree import plant

ROUNDS = 7
SCRAPES = 20
POLLS = 100
HOST = Kind.HOST("bench")
# Chips of a GPU node: name, how many of them, and their sensors.
CHIPS = (
    ("coretemp", 2, {"temp": 33}),
    ("nvme", 10, {"temp": 3}),
    ("mlx5", 8, {"temp": 1}),
    ("spd5118", 16, {"temp": 1}),
    ("power_meter", 2, {"power": 1}),
    ("nct6779", 2, {"fan": 6, "in": 15, "temp": 7}),
)


def build(root: Path) -> list[str]:
    """Write the tree and return the InfiniBand counters in it."""
    files: dict[str, str] = {"proc/stat": "cpu 1 1 1 1 1 1 1 1\n"}
    number = 0
    for name, count, sensors in CHIPS:
        for chip in range(count):
            device = f"sys/devices/platform/{name}.{chip}"
            folder = f"{device}/hwmon/hwmon{number}"
            files[f"sys/class/hwmon/hwmon{number}"] = f"-> ../../../{folder}"
            files[f"{folder}/device"] = f"-> ../../../{name}.{chip}"
            files[f"{folder}/name"] = f"{name}\n"
            for kind, many in sensors.items():
                for n in range(1, many + 1):
                    sensor = f"{folder}/{kind}{n}"
                    files[f"{sensor}_{'average' if kind == 'power' else 'input'}"] = (
                        f"{40 + n}000\n"
                    )
                    files[f"{sensor}_label"] = f"{kind} {n}\n"
                    files[f"{sensor}_max"] = "95000\n"
                    files[f"{sensor}_crit"] = "105000\n"
            number += 1
    counters = []
    for hca in range(8):
        base = f"sys/class/infiniband/mlx5_{hca}"
        port = f"{base}/ports/1"
        files |= {
            f"{base}/fw_ver": "28.39.1002\n",
            f"{base}/board_id": "MT_0000000838\n",
            f"{base}/hca_type": "MT4129\n",
            f"{port}/state": "4: ACTIVE\n",
            f"{port}/phys_state": "5: LinkUp\n",
            f"{port}/rate": "400 Gb/sec (4X NDR)\n",
            f"{port}/link_layer": "InfiniBand\n",
        }
        for kind, names in (("counters", HCA_COUNTERS), ("hw_counters", HW_COUNTERS)):
            for n, name in enumerate(names.split()):
                files[f"{port}/{kind}/{name}"] = f"{n * 7919}\n"
                counters.append(f"{port}/{kind}/{name}")
    for package in range(2):
        for path, name in ((f"{package}", f"package-{package}"), (f"{package}:0", "dram")):
            zone = f"sys/class/powercap/intel-rapl:{path}"
            files[f"{zone}/name"] = f"{name}\n"
            files[f"{zone}/energy_uj"] = "240422366267\n"
            files[f"{zone}/max_energy_range_uj"] = "262143328850\n"
    plant(root, files)
    return counters


@contextlib.contextmanager
def node_exporter(root: Path, collector: str) -> Iterator[Callable[[int], int]]:
    """Run node_exporter with one collector; gives scrapes to CPU ns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            f"--collector.{collector}",
            "--web.disable-exporter-metrics",
            f"--web.listen-address={address}",
            f"--path.sysfs={root}/sys",
            f"--path.procfs={root}/proc",
        ],
        stderr=subprocess.DEVNULL,
    )

    def scrape(times: int) -> int:
        # The CPU clock of another process (clock_getcpuclockid(3), include/linux/posix-timers.h).
        clock = (~process.pid << 3) | 2
        start = time.clock_gettime_ns(clock)
        for _ in range(times):
            with urllib.request.urlopen(f"http://{address}/metrics") as page:
                text = page.read()
        assert text.count(b"node_scrape_collector_success{") == 1
        assert b'_success{collector="%s"} 1' % collector.encode() in text
        return time.clock_gettime_ns(clock) - start

    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                scrape(1)
                break
            time.sleep(0.05)
        yield scrape
    finally:
        process.terminate()
        process.wait()


def cpu(call: Callable[[], object], times: int) -> float:
    """CPU ns of one call."""
    start = time.process_time_ns()
    for _ in range(times):
        call()
    return (time.process_time_ns() - start) / times


def polling(plugin: Plugin) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Give a poll, a poll with `Store.write`, and the number of samples."""
    plugin.open()
    store = Store()
    sizes = []

    def poll() -> Batch:
        batch = Batch(HOST, time.time(), plugin.metrics, store.index)
        plugin.poll(batch)
        return batch

    def write() -> None:
        batch = poll()
        batch.seal()
        store.write(batch, "bench", 3.0, 100_000)
        sizes.append(len(batch.keys))

    write()
    return poll, write, sizes[0]


def files_read(scrape: Callable[[int], object], paths: list[Path]) -> int:
    """Count the files that a scrape reads, by their access times."""
    for path in paths:
        os.utime(path, (0, path.stat().st_mtime))
    scrape(1)
    return sum(path.stat().st_atime > 0 for path in paths)


def compare(root: Path, counters: list[str]) -> None:
    """Print node_exporter's CPU over ours, by the file and by the round."""
    files = Files(root)
    hwmon = load("hwmon").model_validate({"root": root})
    poll, write, samples = polling(hwmon)
    infiniband = load("infiniband").model_validate({"root": root})
    poll_ib, write_ib, _ = polling(infiniband)
    chips = [path for path in root.glob("sys/devices/**/*") if path.is_file()]
    ports = [path for path in root.glob("sys/class/infiniband/**/*") if path.is_file()]
    readings = samples // 2  # each with its info
    own = files_read(lambda _: poll_ib(), ports)
    rows: dict[str, list[float]] = {}
    with node_exporter(root, "hwmon") as scrape, node_exporter(root, "infiniband") as scrape_ib:
        peer = {"hwmon": files_read(scrape, chips), "infiniband": files_read(scrape_ib, ports)}
        count = {
            "hwmon: node_exporter": peer["hwmon"],
            "hwmon: poll": readings,
            "hwmon: poll and write": readings,
            "infiniband: node_exporter": peer["infiniband"],
            "infiniband: poll": own,
            "infiniband: poll and write": own,
            "infiniband: Files.number": len(counters),
            "infiniband: open, read, close": len(counters),
        }
        for _ in range(ROUNDS):
            for name, nanoseconds in zip(
                count,
                (
                    scrape(SCRAPES) / SCRAPES,
                    cpu(poll, POLLS),
                    cpu(write, POLLS),
                    scrape_ib(SCRAPES) / SCRAPES,
                    cpu(poll_ib, POLLS),
                    cpu(write_ib, POLLS),
                    cpu(lambda: [files.number(path) for path in counters], POLLS),
                    cpu(lambda: reread(root, counters), SCRAPES),
                ),
                strict=True,
            ):
                rows.setdefault(name, []).append(nanoseconds)
    print(f"{'':32} {'files':>6} {'us a round':>11} {'ns a file':>10}   node_exporter's / this")
    for name, each in rows.items():
        other = name.partition(":")[0] + ": node_exporter"
        ratio = median(b / a for a, b in zip(each, rows[other], strict=True))
        print(
            f"{name:32} {count[name]:6} {median(each) / 1000:11.0f} "
            f"{median(each) / count[name]:10.0f}   {ratio:5.1f} a round, "
            f"{ratio * count[name] / count[other]:5.1f} a file"
        )
    files.close()
    hwmon.close()
    infiniband.close()


def reread(root: Path, paths: list[str]) -> None:
    """Read files as one does without keeping descriptors."""
    for path in paths:
        int((root / path).read_bytes())


def plugins(root: Path) -> None:
    """Print the CPU of one poll of each plugin, of this host and of the tree."""
    for name, where in (
        ("host", Path("/")),
        ("numa", Path("/")),
        ("edac", Path("/")),
        ("hwmon", Path("/")),
        ("rapl", Path("/")),
        ("interfaces", Path("/")),
        ("hwmon", root),
        ("rapl", root),
        ("infiniband", root),
    ):
        plugin = load(name)
        if where == Path("/") and not plugin.detect():
            print(f"{name:10} {'/':6} not on this host")
            continue
        poll, write, samples = polling(plugin.model_validate({"root": where}))
        polls = [(cpu(poll, POLLS) / 1000, cpu(write, POLLS) / 1000) for _ in range(ROUNDS)]
        alone, written = (median(column) for column in zip(*polls, strict=True))
        print(
            f"{name:10} {'/' if where == Path('/') else 'tree':6} {samples:5} samples   poll "
            f"{alone:8.1f} µs, with write {written:8.1f} µs, {written / samples:6.2f} µs a sample"
        )


def main() -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        counters = build(root)
        plugins(root)
        if shutil.which("prometheus-node-exporter"):
            compare(root, counters)
        else:
            print("prometheus-node-exporter is not installed: no comparison")


if __name__ == "__main__":
    main()
