"""Events are kept in order, counted, and logged without flooding."""

import logging

from collector.batch import Batch, Event, Severity
from collector.catalog import selfmetrics
from collector.entity import Kind
from collector.events import KEPT, Events

HOST = Kind.HOST("node1")


def event(name: str = "gpu.xid", at: float = 1000.0, severity: Severity = Severity.WARN) -> Event:
    return Event(name, HOST, at, severity, "Xid 79\nfallen off the bus", (("xid", "79"),))


def test_a_reader_goes_on_where_it_stopped() -> None:
    events = Events()
    assert (events.last, events.after(0)) == (0, [])
    events.take([event(), event("snmp.trap")], "one")
    events.take([event(at=1001.0)], "two")
    assert [(kept.number, kept.source) for kept in events.after(0)] == [
        (1, "one"), (2, "one"), (3, "two"),
    ]  # fmt: skip
    assert [kept.number for kept in events.after(2)] == [3]
    assert [kept.number for kept in events.after(0, "gpu.xid")] == [1, 3]
    assert events.after(3) == []
    assert events.after(99) == []


def test_the_oldest_are_forgotten() -> None:
    events = Events()
    events.take([event("snmp.trap", severity=Severity.INFO)] * (KEPT + 5), "one")
    assert [kept.number for kept in events.after(0)][:1] == [6]
    assert len(events.after(0)) == KEPT
    assert [kept.number for kept in events.after(KEPT + 4)] == [KEPT + 5]


def test_all_are_counted() -> None:
    events = Events()
    events.take([event(), event(), event(severity=Severity.FATAL)], "one")
    batch = Batch(HOST, 1.0, (selfmetrics.EVENTS,))
    events.samples(batch)
    assert {key.labels: value for key, value in zip(batch.keys, batch.values, strict=True)} == {
        ("gpu.xid", "warn"): 2,
        ("gpu.xid", "fatal"): 1,
    }


def test_what_is_no_unicode_can_be_logged(caplog) -> None:
    Events().take([event()._replace(text="a\udcffb")], "one")
    assert caplog.messages == ["gpu.xid: host:node1: a?b"]


def test_a_storm_fills_no_log(caplog) -> None:
    caplog.set_level(logging.INFO)
    events = Events()
    events.take([event(at=1000.0 + n / 1000) for n in range(500)], "one")
    assert len(caplog.messages) == 21
    assert caplog.messages[0] == "gpu.xid: host:node1: Xid 79 fallen off the bus"
    assert caplog.messages[-1] == "gpu.xid: more of them stand in /api/v1/events"
    events.take([event(at=1061.0)], "one")
    assert len(caplog.messages) == 22
