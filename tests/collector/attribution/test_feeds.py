"""All outlets at once against one curve for each and the rules in words."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.attribution.curve import MAX_GAP, Curve
from collector.attribution.feeds import Feeds
from collector.attribution.totals import Totals
from collector.batch import Batch, Link
from collector.catalog import attribution as derived
from collector.catalog import gpu, power
from collector.entity import Entity, Kind
from collector.store import FUTURE, Store
from collector.topology import Topology
from tests.fakes.rack import HOST, START, Rack, device, outlet

SPAN = 300.0
OUTLETS = [outlet(name, pdu) for pdu in ("a", "b") for name in ("1", "2", "3")]
HOSTS = [Kind.HOST(name) for name in ("n1", "n2", "n3")]


class OneByOne:
    """What `Feeds` does, for one outlet after the other."""

    def __init__(self, store: Store, topology: Topology) -> None:
        self._store = store
        self._topology = topology
        self._curves: dict[Entity, Curve] = {}
        self._live: list[Entity] = []
        self.pdus: dict[Entity, float] = defaultdict(float)
        self.left: dict[Entity, float] = defaultdict(float)

    def feed(self, now: float) -> float:
        store, before = self._store, self._curves
        ends = [now]
        self._curves, self._live = {}, []
        for key, row in store.by_metric[power.OUTLET_POWER].items():
            curve = before.get(key.entity) or Curve(integrate=True, span=math.inf)
            self._curves[key.entity] = curve
            at, watts, expires = store.time[row], store.value[row], store.expires[row]
            if math.isfinite(watts) and at < now + FUTURE and expires > now:
                curve.feed(at, watts, max(MAX_GAP, expires - at))
                self._live.append(key.entity)
                ends += [curve.end] if curve.end > now - SPAN else []
        return min(ends)

    def divide(self, start: float, end: float) -> dict[Entity, float]:
        hosts: dict[Entity, float] = defaultdict(float)
        for entity in self._live:
            curve, pdu = self._curves[entity], Kind.PDU(entity.key[0])
            joules = left = curve.at(end) - curve.at(start)
            links = self._topology.children(entity, Kind.HOST, end)
            for link in links:
                feeds = self._topology.parents(link.child, Kind.OUTLET, end)
                if all(feed.parent in self._live for feed in feeds):
                    part = joules * link.share / max(1.0, sum(link.share for link in links))
                    hosts[link.child] += part
                    left -= part
            self.pdus[pdu] += joules
            self.left[pdu] += left
        return hosts


READING = st.tuples(
    st.sampled_from(OUTLETS),
    st.one_of(st.floats(-5, 3000), st.sampled_from([math.nan, math.inf, 0.0])),
    st.floats(-20, 70),  # seconds by which its clock is behind
    st.sampled_from([5.0, 30.0, 90.0, 400.0]),  # after which it is stale
)
LINK = st.tuples(st.sampled_from(HOSTS), st.sampled_from(OUTLETS), st.sampled_from([1.0, 0.3, 0.6]))
EVENT = st.one_of(
    st.tuples(st.just("read"), st.lists(READING, max_size=8)),
    st.tuples(st.just("read all"), st.tuples(st.floats(0, 3000), st.sampled_from([30.0, 90.0]))),
    st.tuples(st.just("link"), st.tuples(st.sampled_from("xy"), st.lists(LINK, max_size=6))),
    st.tuples(st.just("evict"), st.none()),
    st.tuples(st.just("set back"), st.floats(0, 30)),
)
STEP = st.tuples(
    st.one_of(st.floats(1, 20), st.floats(1, 300)),  # seconds since the last
    st.one_of(st.just(0.0), st.floats(0, 50)),  # seconds for which other meters are waited for
    st.lists(EVENT, min_size=1, max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINK, max_size=6), st.lists(STEP, min_size=2, max_size=20))
def test_it_is_what_one_curve_for_each_outlet_makes_of_it(
    links: list[Any], steps: list[Any]
) -> None:
    store, topology = Store(history=200.0), Topology()
    topology.observe("x", [Link(*link) for link in links], START)
    pdus = Totals((derived.PDU_OUTLETS_ENERGY, ()), (derived.PDU_ENERGY_UNATTRIBUTED, ()))
    hosts = Totals((derived.HOST_ENERGY, ("pdu",)))
    feeds, one_by_one = Feeds(store, topology, SPAN, pdus, hosts), OneByOne(store, topology)
    now, accounted = START, -math.inf
    for passed, lag, events in steps:
        now += passed
        for what, given_ in events:
            play(store, topology, now, what, given_)
        known = feeds.feed(now)
        assert known == one_by_one.feed(now)
        end = known - lag
        if end > accounted > 0:
            expected = one_by_one.divide(accounted, end)
            joules = feeds.divide(accounted, end)
            assert len(joules) == len(hosts)
            for host in HOSTS:
                row = hosts.row(host)
                found = joules[row] if row < len(joules) else math.nan
                assert found == pytest.approx(
                    expected.get(host, math.nan), rel=1e-9, abs=1e-6, nan_ok=True
                )
        accounted = max(end, accounted)
    batch = Batch(HOST, now, {derived.PDU_OUTLETS_ENERGY, derived.PDU_ENERGY_UNATTRIBUTED})
    pdus.publish(batch, now)
    made = {(key.metric, key.entity): v for key, v in zip(batch.keys, batch.values, strict=True)}
    assert made == pytest.approx(
        {(derived.PDU_OUTLETS_ENERGY, pdu): joules for pdu, joules in one_by_one.pdus.items()}
        | {(derived.PDU_ENERGY_UNATTRIBUTED, pdu): left for pdu, left in one_by_one.left.items()},
        rel=1e-9,
        abs=1e-6,
    )


def play(store: Store, topology: Topology, now: float, what: str, given: Any) -> None:
    if what == "read":
        for entity, watts, behind, lifetime in given:
            batch = Batch(HOST, now, {power.OUTLET_POWER})
            batch.add(power.OUTLET_POWER, entity, watts, at=now - behind)
            store.write(batch, "test", lifetime)
    elif what == "read all":
        batch = Batch(HOST, now, {power.OUTLET_POWER})
        for number, entity in enumerate(OUTLETS):
            batch.add(power.OUTLET_POWER, entity, given[0] + number)
        store.write(batch, "test", given[1])
    elif what == "link":
        source, links = given
        topology.observe(source, [Link(*link) for link in links], now)
    elif what == "evict":
        store.evict(now)
        batch = Batch(HOST, now, {gpu.POWER})
        batch.add(gpu.POWER, device(str(now)), 1.0)  # takes the row of what was removed
        store.write(batch, "test", 5.0)
    else:
        topology.forget(now - given)


def test_the_past_is_kept_for_as_long_as_it_is_waited_for() -> None:
    rack = Rack()
    rack.link(HOST, outlet("1"))
    for at in range(200):
        rack.read(at, power.OUTLET_POWER, outlet("1"), 100)
        if at % 20 == 0:
            rack.read(at, power.OUTLET_POWER, outlet("2"), 100, lifetime=60)
        rack.step(at)
        assert len(rack.attribution._feeds._past) <= 22
    assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(18_000)


def test_a_host_in_which_something_is_metered_later_loses_and_doubles_nothing() -> None:
    rack, parts = Rack(), [("g0", 10), ("g1", 40)]
    rack.link(HOST, outlet("1"))
    for at in range(101):
        rack.read(at, power.OUTLET_POWER, outlet("1"), 500)
        rack.read(at, power.OUTLET_POWER, outlet("2"), 70)
        for name, begin in parts:
            if begin <= at < 80:
                rack.read(at, gpu.ENERGY, device(name), 1e6 + 100 * at, lifetime=5)
        rack.step(at)
    assert rack.value(derived.PDU_OUTLETS_ENERGY, Kind.PDU("pdu1")) == pytest.approx(57_000)
    assert rack.value(derived.PDU_ENERGY_UNATTRIBUTED, Kind.PDU("pdu1")) == pytest.approx(7_000)
    assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(50_000)
    given = rack.total(derived.GPU_ENERGY_ATTRIBUTED)
    left = rack.total(derived.HOST_ENERGY_UNATTRIBUTED)
    assert given + left == pytest.approx(50_000)
    # From 10 s to 79 s, and until the last reading is stale, at the latest.
    assert 69 * 500 <= given <= 75 * 500


def test_two_sources_that_say_the_same_link_do_not_halve_it() -> None:
    rack = Rack()
    for source in ("config", "seen"):
        rack.link(HOST, outlet("1"), source=source)
    for at in range(11):
        rack.read(at, power.OUTLET_POWER, outlet("1"), 300)
        rack.step(at)
    assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(3000)


def test_links_hold_for_their_time_and_not_for_when_they_are_heard_of() -> None:
    rack, other = Rack(), Kind.HOST("node2")
    rack.link(HOST, outlet("1"), source="x")
    for at in range(61):
        if at == 30:
            rack.unlink(30, source="x")
            rack.link(other, outlet("1"), at=30, source="y")
        rack.read(at, power.OUTLET_POWER, outlet("1"), 100)
        if at % 10 == 0:  # what holds the others up
            rack.read(at, power.OUTLET_POWER, outlet("2"), 0)
        rack.step(at)
    # A step is what it is at its end: the one from 20 s to 30 s is the other host's.
    assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(2000)
    assert rack.value(derived.HOST_ENERGY, other, "pdu") == pytest.approx(4000)


def test_another_value_of_the_same_time_is_no_new_reading() -> None:
    rack = Rack()
    for at, watts in ((0, 100), (10, 100), (10, 900), (20, 100)):
        rack.read(at, power.OUTLET_POWER, outlet("1"), watts)
        rack.step(at)
    assert rack.value(derived.PDU_OUTLETS_ENERGY, Kind.PDU("pdu1")) == pytest.approx(2000)


@pytest.mark.parametrize(("ahead", "known"), [(50, True), (70, False)])
def test_a_reading_from_far_ahead_was_made_by_another_clock(ahead: float, known: bool) -> None:
    rack = Rack()
    rack.link(HOST, outlet("1"))
    for at in (0, 10):
        rack.read(at, power.OUTLET_POWER, outlet("1"), 100)
        rack.step(at)
    rack.read(10 + ahead, power.OUTLET_POWER, outlet("1"), 100, lifetime=90)
    rack.step(11)  # the clock was set back in between
    assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(1100 if known else 1000)


def test_without_outlets_there_is_nothing_to_hand_down() -> None:
    topology = Topology()
    hosts = Totals((derived.HOST_ENERGY, ("pdu",)))
    pdus = Totals((derived.PDU_OUTLETS_ENERGY, ()), (derived.PDU_ENERGY_UNATTRIBUTED, ()))
    topology.observe("x", [Link(HOST, outlet("1"), 1.0)], START)
    feeds = Feeds(Store(), topology, SPAN, pdus, hosts)
    assert feeds.feed(START + 5) == START + 5
    assert np.isnan(feeds.divide(START, START + 5)).tolist() == [True]
