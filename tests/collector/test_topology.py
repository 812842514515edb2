from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Link
from collector.entity import Entity, Kind
from collector.topology import Topology

HOSTS = [Kind.HOST("n1"), Kind.HOST("n2")]
GPUS = [Kind.GPU("n1", "g0"), Kind.GPU("n1", "g1")]
OUTLETS = [Kind.OUTLET("p", "1"), Kind.OUTLET("p", "2")]
ENGINES = [Kind.ENGINE("n1", "8000", "0")]


def test_a_link_holds_from_its_first_sight_until_it_is_not_seen() -> None:
    topology, link = Topology(), Link(HOSTS[0], OUTLETS[0], 0.5)
    topology.observe("s", [link], 10)
    topology.observe("s", [link], 20)
    topology.observe("s", [], 30)
    for at, there in ((9.9, False), (10, True), (29.9, True), (30, False), (None, False)):
        found = [link] if there else []
        assert topology.parents(HOSTS[0], Kind.OUTLET, at) == found
        assert topology.children(OUTLETS[0], Kind.HOST, at) == found
    assert topology.parents(HOSTS[0], Kind.GPU, 15) == []


def test_another_share_is_another_span() -> None:
    topology = Topology()
    topology.observe("s", [Link(HOSTS[0], OUTLETS[0], 0.5)], 10)
    topology.observe("s", [Link(HOSTS[0], OUTLETS[0], 1.0)], 20)
    assert [(s.link.share, s.since, s.until) for s in topology.spans()] == [
        (0.5, 10, 20),
        (1.0, 20, None),
    ]


def test_what_a_partial_look_does_not_see_goes_on() -> None:
    topology = Topology()
    links = [Link(GPUS[0], HOSTS[0], 1.0), Link(GPUS[1], HOSTS[0], 1.0)]
    topology.observe("s", links, 10)
    topology.observe("s", links[:1], 20, complete=False)
    assert topology.children(HOSTS[0], Kind.GPU) == links


def test_what_a_partial_look_saw_ends_when_nothing_is_seen() -> None:
    topology = Topology()
    topology.observe("s", [Link(GPUS[0], HOSTS[0], 1.0)], 10, complete=False)
    topology.observe("s", [], 20)
    assert topology.children(HOSTS[0], Kind.GPU) == []


def test_sources_do_not_end_each_others_links() -> None:
    topology, link = Topology(), Link(GPUS[0], HOSTS[0], 1.0)
    topology.observe("s", [link], 10)
    topology.observe("other", [], 20)
    assert topology.children(HOSTS[0], Kind.GPU) == [link]


def test_ended_links_are_forgotten_after_a_while() -> None:
    topology = Topology(history=100)
    topology.observe("s", [Link(GPUS[0], HOSTS[0], 1.0)], 10)
    topology.observe("s", [], 20)
    topology.forget(119.9)
    assert topology.entities(Kind.GPU) == [GPUS[0]]
    topology.forget(120)
    assert topology.entities(Kind.GPU) == []
    assert list(topology.spans()) == []


def test_links_hold_when_the_clock_is_set_back() -> None:
    topology, gone, here = (
        Topology(),
        Link(GPUS[0], HOSTS[0], 1.0),
        Link(GPUS[1], HOSTS[0], 1.0),
    )
    topology.observe("s", [gone, here], 5000)
    topology.observe("s", [here], 5010)
    topology.forget(1000)
    assert topology.children(HOSTS[0], Kind.GPU, 1000) == [here]
    assert topology.children(HOSTS[0], Kind.GPU, 5005) == [here]


def test_entities_are_in_order() -> None:
    topology = Topology()
    topology.observe("s", [Link(one, HOSTS[0], 1.0) for one in reversed(GPUS)], 10)
    assert topology.entities(Kind.GPU) == GPUS
    assert topology.entities(Kind.HOST) == HOSTS[:1]


LINKS = st.builds(
    Link,
    st.sampled_from([*HOSTS, *GPUS, *ENGINES]),
    st.sampled_from([*OUTLETS, *HOSTS, *GPUS]),
    st.sampled_from([1.0, 0.5]),
)
EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(
        st.just("observe"), st.sampled_from(["a", "b"]), st.lists(LINKS, max_size=4), st.booleans()
    ),
    st.tuples(st.just("forget"), st.none(), st.just([]), st.just(True)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_it_is_a_record_of_what_was_seen_when(events: list[Any]) -> None:
    history = 5.0
    topology = Topology(history)
    seen: dict[str, dict[tuple[Entity, Entity], float]] = {"a": {}, "b": {}}
    record: list[list[tuple[str, Entity, Entity, float]]] = []  # by time, one entry a second
    for now, (what, source, links, complete) in enumerate(events):
        if what == "observe":
            fresh = {(link.child, link.parent): link.share for link in links}
            seen[source] = fresh if complete else seen[source] | fresh
            topology.observe(source, links, float(now), complete=complete)
        else:
            topology.forget(float(now))
        record.append(
            [(s, *pair, share) for s, held in seen.items() for pair, share in held.items()]
        )
        for at in range(max(0, int(now - history) + 1), now + 1):
            got = [(s.source, *s.link) for s in topology.spans() if s.holds(float(at))]
            assert sorted(got, key=str) == sorted(record[at], key=str)
            for host in HOSTS:
                below = [link[1:] for link in record[at] if link[2] == host and link[1] in GPUS]
                found = topology.children(host, Kind.GPU, float(at))
                assert sorted(map(tuple, found), key=str) == sorted(below, key=str)
        assert sorted(
            ((s.source, *s.link) for s in topology.spans() if s.holds(None)), key=str
        ) == sorted(record[-1], key=str)
