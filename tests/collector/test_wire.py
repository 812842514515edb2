"""What a child sends is what the daemon gets."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Batch, Event, Link, Severity
from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric
from collector.wire import Receiver, Sender, WireError

HOST = Kind.HOST("node1")
METRICS = (
    Metric("test.gauge", GAUGE, "W", Kind.GPU, "A gauge.", ("one", "two")),
    Metric("test.host", GAUGE, "1", Kind.HOST, "One of the host."),
    Metric("test.counter", COUNTER, "J", Kind.GPU, "A counter."),
)

text = st.text(st.characters(codec="utf-8"), max_size=20)
gpus = st.builds(Kind.GPU, text, text)
samples = st.one_of(
    st.tuples(st.just(METRICS[0]), gpus, st.tuples(text, text)),
    st.tuples(st.just(METRICS[1]), st.builds(Kind.HOST, text), st.just(())),
)
numbers = st.one_of(st.floats(), st.integers(-(2**64), 2**64))
polls = st.tuples(
    st.lists(st.tuples(samples, numbers, st.none() | st.floats(0, 4e9)), max_size=30),
    st.lists(st.tuples(gpus, st.builds(Kind.HOST, text), st.floats(0, 1)), max_size=3),
    st.lists(st.tuples(st.none() | gpus, text), max_size=3),
    text,
)


def transfer(sender, receiver, lines, batch, error=""):
    """Send a batch; return what was received of it, and the error."""
    lines.clear()
    sender.send(batch, error)
    received = Batch(HOST, batch.at, METRICS)
    *announcements, last = lines
    assert all(receiver.receive(line, received) == (False, "") for line in announcements)
    complete, text = receiver.receive(last, received)
    assert complete
    return received, text


def pair():
    lines: list[bytes] = []
    return Sender(lines.append), Receiver(METRICS), lines


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


@settings(max_examples=150, deadline=None)
@given(st.lists(polls, min_size=1, max_size=4))
def test_polls_arrive_as_they_were_sent(found):
    sender, receiver, lines = pair()
    for sent_samples, links, errors, error in found:
        batch = Batch(HOST, 1000.0, METRICS)
        for (metric, entity, labels), value, at in sent_samples:
            batch.add(metric, entity, value, *labels, at=at)
        for link in links:
            batch.link(*link)
        for entity, message in errors:
            batch.failed(entity, ValueError(message))
        received, failure = transfer(sender, receiver, lines, batch, error)
        assert failure == error
        assert received.keys == batch.keys
        assert all(map(same, received.values, map(float, batch.values)))
        assert received.times == batch.times
        assert received.links == [Link(*link) for link in links]
        assert [(e, str(f)) for e, f in received.errors] == [
            (entity, message or "ValueError") for entity, message in errors
        ]


def test_a_label_that_is_no_unicode_arrives_readable():
    sender, receiver, lines = pair()
    batch = Batch(HOST, 1.0, METRICS)
    batch.add(METRICS[0], Kind.GPU("n", "g"), 1.0, "a\udcffb", "")
    received, _ = transfer(sender, receiver, lines, batch)
    assert received.keys[0].labels == ("a?b", "")


@given(
    st.lists(
        st.builds(
            Event, text, gpus, st.floats(0, 4e9), st.sampled_from(Severity), text,
            st.lists(st.tuples(text, text), max_size=3).map(tuple),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_events_arrive_as_they_were_sent(events):
    sender, receiver, lines = pair()
    batch = Batch(HOST, 1.0, METRICS)
    for event in events:
        batch.event(event)
    received, _ = transfer(sender, receiver, lines, batch)
    assert received.events == events


def test_a_steady_poll_is_one_line_of_numbers():
    sender, receiver, lines = pair()
    for value in (1.0, 2.0):
        batch = Batch(HOST, 1.0, METRICS)
        batch.add(METRICS[1], HOST, value)
        batch.link(Kind.GPU("n", "g"), HOST)
        received, _ = transfer(sender, receiver, lines, batch)
        assert received.values == [value]
        assert received.links == batch.links
    assert lines == [b'{"values":[2.0],"times":[]}\n']


def counted(sender, receiver, lines, raw):
    batch = Batch(HOST, 1.0, METRICS)
    batch.add(METRICS[2], Kind.GPU("n", "g"), raw)
    received, _ = transfer(sender, receiver, lines, batch)
    return received.values[0]


def test_counters_go_on_over_resets_and_new_children():
    sender, receiver, lines = pair()
    assert counted(sender, receiver, lines, 100) == 100
    assert counted(sender, receiver, lines, 110) == 110
    assert counted(sender, receiver, lines, 5) == 115
    receiver.restart()
    sender = Sender(lines.append)
    assert counted(sender, receiver, lines, 3) == 118
    assert counted(sender, receiver, lines, math.inf) == math.inf
    assert counted(sender, receiver, lines, 4) == 119


def test_series_that_are_gone_are_forgotten(monkeypatch):
    monkeypatch.setattr("collector.wire._KEPT", 10)
    sender, receiver, lines = pair()
    for number in range(100):
        batch = Batch(HOST, 1.0, METRICS)
        batch.add(METRICS[1], HOST, 1.0)
        batch.add(METRICS[0], Kind.GPU("n", "g"), float(number), str(number), "")
        batch.add(METRICS[2], Kind.GPU("n", "g"), 5.0 if number % 2 else 10.0)
        received, _ = transfer(sender, receiver, lines, batch)
        assert received.keys == batch.keys
        assert received.values[:2] == [1.0, number]
        assert received.values[2] == 10 + number // 2 * 5 + number // 2 * 5 + number % 2 * 5
        assert len(sender.index) <= 13
    assert len(receiver._series) <= 13


def test_a_counter_that_is_not_in_each_poll_goes_on_when_others_are_forgotten(monkeypatch):
    monkeypatch.setattr("collector.wire._KEPT", 10)
    sender, receiver, lines = pair()
    total, announced = 0.0, 0
    for number in range(100):
        batch = Batch(HOST, 1.0, METRICS)
        batch.add(METRICS[0], Kind.GPU("n", "g"), float(number), str(number), "")
        if number % 5 == 0:
            raw = 100.0 if number == 0 else 3.0 if number % 2 else 7.0  # it is reset before each 3
            batch.add(METRICS[2], Kind.GPU("n", "g"), raw)
            total += raw if raw != 7.0 else 4.0
            for other in range(8):
                batch.add(METRICS[1], Kind.HOST(str(other)), 1.0)
        received, _ = transfer(sender, receiver, lines, batch)
        announced += sum(b'"series"' in line for line in lines)
        if number % 5 == 0:
            assert received.values[1] == total
        assert len(sender.index) <= 25
    assert announced < 125, "what is in some polls alone is not announced with each of them"


@pytest.mark.parametrize(
    "line",
    [
        b"Hello\n",
        b"\xff\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b'{"values": [1.0], "times": []}\n',
        b'{"values": [], "times": [1.0]}\n',
        b'{"values": [], "times": [], "shape": [[7], []]}\n',
        b'{"values": [1], "times": [], "links": [["GPU", ["x"], "HOST", ["n"], 1.0]]}\n',
        b'{"series": [["no.such.metric", ["n"], []]], "forget": false}\n',
        b'{"series": [["test.host", ["n", "m"], []]], "forget": false}\n',
        b'{"series": [["test.host", ["n"], ["label"]]], "forget": false}\n',
        b'{"series": [["test.host"]], "forget": false}\n',
    ],
)
def test_garbage_is_refused(line):
    with pytest.raises(WireError, match="makes no sense"):
        Receiver(METRICS).receive(line, Batch(HOST, 1.0, METRICS))
