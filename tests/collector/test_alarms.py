"""Changes of what devices say of themselves, as events."""

from __future__ import annotations

from collector.alarms import Alarms
from collector.batch import Batch, Severity
from collector.catalog import power, thermal
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.store import Store

HOST = Kind.HOST("site")
LEAK = Kind.LEAK_DETECTOR("cdu", "tray")
BREAKER = Kind.BREAKER("pdu", "3")
WORDS = {
    thermal.LEAK: ("ok", "warning", "critical"),
    power.BREAKER_LOAD_STATE: ("normal", "low", "near_overload", "overload"),
}


class Room:
    """States as sources write them, and the events that come of them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._store = Store()
        self._alarms = Alarms(self._store)

    def told(
        self, *states: tuple[Metric, Entity, str], later: float = 10.0
    ) -> list[tuple[str, str, Severity]]:
        self.now += later
        batch = Batch(HOST, self.now, set(WORDS))
        for metric, entity, state in states:
            for word in WORDS[metric]:
                batch.add(metric, entity, float(word == state), word)
        self._store.write(batch, "test", 30.0)
        found = Batch(HOST, self.now, ())
        self._alarms.step(found)
        return [(one.name, one.text, one.severity) for one in found.events]


def test_a_leak_is_told_once_and_so_is_its_end() -> None:
    room = Room()
    assert room.told((thermal.LEAK, LEAK, "ok")) == []
    leak = ("cooling.leak", "leak detector cdu/tray critical", Severity.FATAL)
    assert room.told((thermal.LEAK, LEAK, "critical")) == [leak]
    assert room.told((thermal.LEAK, LEAK, "critical")) == []
    over = ("cooling.leak.over", "leak detector cdu/tray over", Severity.INFO)
    assert room.told((thermal.LEAK, LEAK, "ok")) == [over]
    assert room.told((thermal.LEAK, LEAK, "ok")) == []


def test_what_gets_worse_is_not_over() -> None:
    room = Room()
    assert [one[2] for one in room.told((thermal.LEAK, LEAK, "warning"))] == [Severity.WARN]
    assert [one[2] for one in room.told((thermal.LEAK, LEAK, "critical"))] == [Severity.FATAL]
    assert [one[0] for one in room.told((thermal.LEAK, LEAK, "warning"))] == ["cooling.leak"]


def test_a_detector_that_is_away_has_not_dried() -> None:
    room = Room()
    assert len(room.told((thermal.LEAK, LEAK, "critical"))) == 1
    assert room.told(later=60.0) == []
    assert room.told((thermal.LEAK, LEAK, "critical")) == []
    assert [one[0] for one in room.told((thermal.LEAK, LEAK, "ok"))] == ["cooling.leak.over"]


def test_an_overload_is_told_with_its_breaker() -> None:
    room = Room()
    assert room.told((power.BREAKER_LOAD_STATE, BREAKER, "low")) == []
    near = ("power.overload", "breaker pdu/3 near_overload", Severity.WARN)
    assert room.told((power.BREAKER_LOAD_STATE, BREAKER, "near_overload")) == [near]
    full = ("power.overload", "breaker pdu/3 overload", Severity.ERROR)
    assert room.told((power.BREAKER_LOAD_STATE, BREAKER, "overload")) == [full]
