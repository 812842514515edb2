"""CPU of one poll of a PDU with 48 outlets, by gufo-snmp and by pysnmp, on a replayed agent.

The agent runs in a process of its own; what is measured is the CPU time of this process, system
time included. Beside the whole poll stand its parts: the bare GETs of the client, and what the
plugin makes of the values. `python -m tests.benchmarks.snmp [--rounds N]`
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from collector.batch import Batch, SeriesKey
from collector.entity import Kind
from collector.read.snmp.fetch import fetch
from plugins.power.pdu_snmp import PduSnmp

OUTLETS = 48
PDUS, INTERVAL, TARGET = (
    1000,
    10.0,
    0.25,
)  # DESIGN 11: this many, this often, on this much of a core
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for name, lines in (("APC rPDU2", apc()), ("Raritan PX3", raritan())):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "device.snmprec")
            path.write_text("\n".join(lines) + "\n")
            agent = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.snmp", path], stdout=subprocess.PIPE, text=True
            )
            try:
                assert agent.stdout is not None
                target = agent.stdout.readline().strip()
                print(f"{name}, {OUTLETS} outlets")
                asyncio.run(measure(target, rounds))
            finally:
                agent.kill()
                agent.wait()


if __name__ == "__main__":
    main()
