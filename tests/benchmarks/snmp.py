"""CPU of one poll of a PDU with 48 outlets, and of a thousand of them on their grid.

The agents run in processes of their own; what is measured is the CPU time of this process, system
time included. First one PDU, by gufo-snmp and by pysnmp: beside the whole poll stand its parts, the
bare GETs of the client and what the plugin makes of the values. Then all PDUs, as the daemon polls
them: how late after its time on the grid each poll was done, first with all of them well, then with
5 % of them dead or slow. `python -m tests.benchmarks.snmp [--rounds N] [--pdus N]`
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from collector.batch import Batch, SeriesKey
from collector.entity import Kind
from collector.poller import Source
from collector.read.snmp.fetch import fetch
from collector.store import Store
from collector.topology import Topology
from plugins.power.pdu_snmp import PduSnmp

OUTLETS = 48
PDUS, INTERVAL, TARGET = 1000, 10.0, 0.25  # DESIGN 11: so many, so often, so much of a core
APC, RARITAN = "1.3.6.1.4.1.318.1.1.26", "1.3.6.1.4.1.13742.6"


def apc() -> list[str]:
    """An APC rPDU2 with 3 phases, 6 banks and 48 metered outlets."""
    lines = ["1.3.6.1.2.1.1.1.0|4|APC", "1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.318.1.3.4.6"]
    lines.append("1.3.6.1.2.1.1.3.0|67|100")
    tables: dict[str, tuple[int, dict[int, int | None]]] = {
        f"{APC}.4.3.1": (1, {2: 1, 4: 2, 5: 480, 9: 35128, 16: 500, 17: 96}),
        f"{APC}.6.3.1": (3, {2: 1, 3: 0, 4: 2, 5: 70, 6: 230, 7: 160, 8: 166, 9: 96}),
        f"{APC}.8.3.1": (6, {2: 1, 3: 0, 4: 2, 5: 35}),
        f"{APC}.9.4.3.1": (OUTLETS, {2: 1, 3: None, 4: 0, 6: 5, 7: 100, 11: 1234}),
    }
    for entry, (rows, columns) in tables.items():
        for column, value in columns.items():
            for row in range(1, rows + 1):
                given = f"4|outlet {row}" if value is None else f"2|{value or row}"
                lines.append(f"{entry}.{column}.{row}|{given}")
    return lines


def raritan() -> list[str]:
    """A Raritan PX3 with 48 outlets of 7 sensors, each with digits and state."""
    lines = ["1.3.6.1.2.1.1.1.0|4|PX3", "1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.13742.6"]
    lines.append("1.3.6.1.2.1.1.3.0|67|100")
    sensors = {
        1: (3, 500),
        4: (0, 230),
        5: (0, 110),
        6: (0, 115),
        7: (2, 96),
        8: (0, 9),
        23: (1, 500),
    }
    idle = {1, 5, 6, 7}  # every second outlet carries nothing
    for measured, digits, rows in (("5.2.3.1", "3.3.4.1.7", 1), ("5.4.3.1", "3.5.4.1.7", OUTLETS)):
        for row in range(1, rows + 1):
            for sensor, (decimals, value) in sensors.items():
                lines.append(f"{RARITAN}.{digits}.1.{row}.{sensor}|66|{decimals}")
                reads = 0 if row % 2 == 0 and sensor in idle else value
                lines.append(f"{RARITAN}.{measured}.3.1.{row}.{sensor}|2|4")
                lines.append(f"{RARITAN}.{measured}.4.1.{row}.{sensor}|66|{reads}")
    return lines


async def cost(work: Callable[[], Awaitable[object]], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - start) / times * 1e3


async def measure(target: str, rounds: int) -> None:
    host = Kind.HOST("node1")
    plugins = {name: PduSnmp(target=target, client=name) for name in ("gufo", "pysnmp")}
    known: dict[SeriesKey, int] = {}
    for plugin in plugins.values():
        await plugin.open()
        batch = Batch(host, 0.0, plugin.metrics)
        await plugin.poll(batch)
        known = dict.fromkeys(batch.keys, 0)
    gufo = plugins["gufo"]
    device, session = gufo._device, gufo._session
    assert device is not None
    assert session is not None
    loop = asyncio.get_running_loop()
    reply = await fetch(session, device.oids, device.profile.batch, loop.time() + 9)

    async def poll(plugin: PduSnmp) -> None:
        await plugin.poll(Batch(host, time.time(), plugin.metrics, known))

    async def get() -> None:
        await fetch(session, device.oids, device.profile.batch, loop.time() + 9)

    async def read() -> None:
        device.read(Batch(host, 0.0, gufo.metrics, known), reply.values, set(), time.monotonic())

    works = {
        "poll by gufo-snmp": (lambda: poll(gufo), 50),
        "  of it GETs": (get, 50),
        "  of it decoding": (read, 50),
        "poll by pysnmp": (lambda: poll(plugins["pysnmp"]), 2),
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, times) in works.items():
            taken[name].append(await cost(work, times))
    for plugin in plugins.values():
        await plugin.close()
    print(f"  {len(device.oids)} objects, {len(known)} series")
    for name, figures in taken.items():
        print(f"  {name:20} {statistics.median(figures):8.3f} ms CPU")
    whole = statistics.median(taken["poll by gufo-snmp"])
    ratio = statistics.median(taken["poll by pysnmp"]) / whole
    core = whole / 1e3 * PDUS / INTERVAL
    print(f"  pysnmp / gufo-snmp: {ratio:.0f}")
    print(f"  {PDUS} PDUs every {INTERVAL:g} s: {core:.1%} of a core (target < {TARGET:.0%})")


class Fleet:
    """PDUs that are polled as the daemon does it.

    Args:
        targets: Of each kind of PDU, the agent that answers for all of this kind.
        sizes: How many there are of each kind.
    """

    def __init__(self, targets: dict[str, str], sizes: dict[str, int]) -> None:
        store, topology, host = Store(), Topology(), Kind.HOST("node1")
        self._late: dict[str, list[float]] = defaultdict(list)
        self._sources = []
        for kind, size in sizes.items():
            for number in range(size):
                name = f"{kind}{number}"
                plugin = PduSnmp(target=targets[kind], name=name, interval=INTERVAL)
                self._sources.append(Source(name, plugin, host, store, topology, self._done))

    def _done(self, source: str, batch: Batch) -> None:
        shift = zlib.crc32(source.encode()) / (1 << 32) * INTERVAL
        planned = round((batch.at - shift) / INTERVAL) * INTERVAL + shift
        self._late[source.rstrip("0123456789:.").rstrip("0123456789")].append(time.time() - planned)

    async def discover(self) -> None:
        gate = asyncio.Semaphore(20)

        async def first(source: Source) -> None:
            async with gate:
                while (await source.poll()) and source.error:
                    pass

        start = time.process_time()
        await asyncio.gather(*map(first, self._sources))
        taken = (time.process_time() - start) / len(self._sources) * 1e3
        print(f"  discovery of one, once an hour: {taken:.1f} ms CPU")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(source.run()) for source in self._sources]
        await asyncio.sleep(INTERVAL)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def measure(self, title: str, rounds: int) -> None:
        self._late.clear()
        cpu, begun = time.process_time(), time.monotonic()
        stall, end = 0.0, begun + rounds * INTERVAL
        while (at := time.monotonic()) < end:
            await asyncio.sleep(0.05)
            stall = max(stall, time.monotonic() - at - 0.05)
        share = (time.process_time() - cpu) / (time.monotonic() - begun)
        print(
            f"  {title}: {share:.1%} of a core (target < {TARGET:.0%});"
            f" this process stood still for {stall * 1e3:.0f} ms at most"
        )
        for kind, late in sorted(self._late.items()):
            cuts = statistics.quantiles(late, n=100)
            print(
                f"    {kind:5} {len(late):5} polls, done after their time on the grid:"
                f" p50 {cuts[49] * 1e3:.0f} ms, p95 {cuts[94] * 1e3:.0f} ms,"
                f" max {max(late) * 1e3:.0f} ms"
            )


@contextmanager
def agent(path: Path, delay: float = 1.0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.fakes.snmp", str(path), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()


async def fleet(path: Path, pdus: int, rounds: int) -> None:
    ill = pdus // 40
    sizes = {"well": pdus - 2 * ill, "dead": ill, "slow": ill}
    with agent(path) as well, agent(path) as dead, agent(path, delay=0.05) as slow:
        targets = {"well": well[0], "dead": dead[0], "slow": slow[0]}
        found = Fleet(targets, sizes)
        await found.discover()
        async with found.running():
            await found.measure("all well", rounds)
            dead[1].send_signal(signal.SIGSTOP)
            slow[1].send_signal(signal.SIGUSR1)
            await found.measure("5 % dead or slow", rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of the poll of one PDU")
    parser.add_argument("--pdus", type=int, default=PDUS)
    parser.add_argument("--minutes", type=float, default=0.5, help="of each run of all PDUs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "device.snmprec")
        for name, lines in (("Raritan PX3", raritan()), ("APC rPDU2", apc())):
            path.write_text("\n".join(lines) + "\n")
            print(f"{name}, {OUTLETS} outlets")
            with agent(path) as (target, _):
                asyncio.run(measure(target, args.rounds))
        print(f"{args.pdus} of the last")
        asyncio.run(fleet(path, args.pdus, round(args.minutes * 60 / INTERVAL)))


if __name__ == "__main__":
    main()
