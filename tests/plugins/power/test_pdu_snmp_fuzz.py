"""Whatever a device sends, nothing leaves that cannot be and nothing else than that changes."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.batch import Batch, SeriesKey
from collector.read.snmp.device import Device
from collector.read.snmp.discovery import Discovery, UnknownDeviceError
from collector.read.snmp.limits import limits
from collector.read.snmp.profiles import find, shipped
from collector.read.snmp.session import MAX_ROWS, Value
from plugins.power.pdu_snmp import PduSnmp
from tests.data import ROOT
from tests.fakes.snmp import OBJECT_ID, STRING, Oid, _decode_oid, _items, parse_oid, read_snmprec
from tests.plugins.power.pdus import HOST

CASES = sorted(Path(__file__).parents[2].glob("recorded/pdu_snmp/*/input/device.snmprec"))
WALKS = [
    ROOT / f"snmp/walks/{name}.snmprec"
    for name in ("apc_ap8959eu3", "eatonpdu_2", "liebert", "panduit", "sentry3_3phase", "sentry4")
]
SYSTEM = (1, 3, 6, 1, 2, 1, 1)

# What agents send in a number's place: sentinels, other types, texts, more than there can be.
WRONG: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from([-1, 0, -410, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**64 - 1, 10**400]),
    st.sampled_from([b"", b"notsupported", b"N/A", b"nan", b"-inf", b"1e999", b"\xff\x00", None]),
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.binary(max_size=12),
)
# Which row is hit, counted round, and what becomes of it: it goes, one bit flips or it is wrong.
HITS = st.lists(
    st.tuples(
        st.integers(0, 5000), st.one_of(st.just("gone"), st.integers(0, 62).map(float), WRONG)
    ),
    min_size=1,
    max_size=8,
)


def name(path: Path) -> str:
    return path.parents[1].name if path in CASES else path.stem


class Table:
    """A session with what an agent would answer, without the agent."""

    def __init__(self, objects: Mapping[Oid, Value]) -> None:
        self._objects = objects
        self._order = sorted(objects)

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        asked = {oid: parse_oid(oid) for oid in oids}
        return {oid: self._objects[at] for oid, at in asked.items() if at in self._objects}

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        below = parse_oid(oid)
        found: dict[str, Value] = {}
        for at in self._order[bisect_right(self._order, below) :]:
            if at[: len(below)] != below or len(found) == limit:
                break
            found[".".join(map(str, at))] = self._objects[at]
        return found

    def close(self) -> None:
        pass


@cache
def recorded(path: Path) -> Mapping[Oid, Value]:
    found: dict[Oid, Value] = {}
    for oid, coded in read_snmprec(path).items():
        [(tag, content)] = _items(coded)
        if tag == OBJECT_ID:
            found[oid] = ".".join(map(str, _decode_oid(content)))
        elif tag == STRING:
            found[oid] = content
        else:
            found[oid] = int.from_bytes(content, "big", signed=True)
    return found


def discover(objects: Mapping[Oid, Value]) -> Device:
    profiles = [find(name, PduSnmp.profiles)[0] for name in shipped(PduSnmp.profiles)]
    return asyncio.run(Discovery(profiles, "pdu1").run(Table(objects)))


def hit(objects: Mapping[Oid, Value], rows: Sequence[Oid], hits: object) -> dict[Oid, Value]:
    changed = dict(objects)
    for row, what in hits:  # type: ignore[attr-defined]
        oid = rows[row % len(rows)]
        value = objects[oid]
        if what == "gone":
            changed.pop(oid, None)
        elif isinstance(what, float) and isinstance(value, int) and 0 <= what <= 62:
            changed[oid] = value ^ 1 << int(what)
        else:
            changed[oid] = what
    return changed


def read(device: Device, objects: Mapping[Oid, Value]) -> dict[SeriesKey, float]:
    """Poll twice, a minute apart, and check what cannot be of any device."""
    session = Table(objects)
    for now in (0.0, 60.0):
        values = asyncio.run(session.get(device.oids))
        values |= asyncio.run(session.get(device.doubts(values)))
        batch = Batch(HOST, now, PduSnmp.metrics)
        device.read(batch, values, set(), now)
        found = dict(zip(batch.keys, batch.values, strict=True))
        assert len(found) == len(batch.keys), "each series once"
        totals = Counter(key.entity for key in found if key.metric.name == "pdu.power")
        assert all(count == 1 for count in totals.values()), "each watt counts once"
        for key, value in found.items():
            low, high = limits(key.metric) if key.metric.unit else (0, 1)
            parts = len(device.readings) if key.metric.name.startswith("pdu.") else 1
            assert math.isfinite(value)
            assert low <= value <= high * parts, key
    return found


def rows(device: Device, objects: Mapping[Oid, Value]) -> list[Oid]:
    """Return what the profile reads at discovery and at polls."""
    columns = {parse_oid(column) for column in device.profile.columns()}
    lengths = {len(column) for column in columns}
    return [
        oid
        for oid in sorted(objects)
        if oid[: len(SYSTEM)] == SYSTEM or any(oid[:length] in columns for length in lengths)
    ]


@pytest.mark.parametrize("path", [*CASES, *WALKS], ids=name)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(hits=HITS)
def test_a_damaged_device_gives_nothing_that_cannot_be(path, hits):
    if not path.exists():
        pytest.skip(f"no recording {path.name}")
    objects = recorded(path)
    damaged = hit(objects, rows(discover(objects), objects), hits)
    try:
        device = discover(damaged)
    except UnknownDeviceError:
        return
    read(device, damaged)


@pytest.mark.parametrize("path", [*CASES, *WALKS], ids=name)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(hits=HITS)
def test_damage_at_a_poll_changes_only_what_it_hits(path, hits):
    if not path.exists():
        pytest.skip(f"no recording {path.name}")
    objects = recorded(path)
    device = discover(objects)
    polled = [at for oid in device.oids if (at := parse_oid(oid)) in objects]
    damaged = hit(objects, polled, hits)
    was, found = read(discover(objects), objects), read(device, damaged)
    changed = {".".join(map(str, oid)) for oid in objects if objects[oid] != damaged.get(oid)}
    spared = {
        r.key
        for r in device.readings
        if changed.isdisjoint({r.oid, r.amperes, r.setting, r.guard.oid if r.guard else None})
    }
    assert {k: v for k, v in found.items() if k in spared} == {
        k: v for k, v in was.items() if k in spared
    }
