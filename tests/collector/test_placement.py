from __future__ import annotations

from collector import config, placement
from collector.entity import Entity, Kind


def links(text: str) -> set[tuple[Entity, Entity, float]]:
    settings = config.parse(f"daemon.detect = false\n{text}", "x").settings
    return set(map(tuple, placement.links(settings.topology)))  # type: ignore[arg-type]


def test_nothing_is_linked_by_default() -> None:
    assert links("") == set()


def test_a_host_with_two_feeds_in_a_rack() -> None:
    found = links(
        """
        [topology.hosts.node1]
        rack = "r14"
        outlets = ["pdu-a/7", "10.0.0.2:161/7"]
        [topology.pdus]
        pdu-a = "r14"
        [topology.racks]
        r14 = "paris"
        """
    )
    node, rack = Kind.HOST("node1"), Kind.RACK("r14")
    assert found == {
        (node, rack, 1.0),
        (node, Kind.OUTLET("pdu-a", "7"), 1.0),
        (node, Kind.OUTLET("10.0.0.2:161", "7"), 1.0),
        (Kind.OUTLET("pdu-a", "7"), Kind.PDU("pdu-a"), 1.0),
        (Kind.OUTLET("10.0.0.2:161", "7"), Kind.PDU("10.0.0.2:161"), 1.0),
        (Kind.PDU("pdu-a"), rack, 1.0),
        (rack, Kind.SITE("paris"), 1.0),
    }


def test_an_engine_on_another_host() -> None:
    found = links(
        """
        [topology.engines]
        "10.0.0.5:8000" = { host = "node5", gpus = ["GPU-1", "GPU-2"], rank = "1" }
        "[fd00::5]:8000" = { gpus = ["GPU-3"] }
        """
    )
    engine, other = Kind.ENGINE("10.0.0.5", "8000", "1"), Kind.ENGINE("[fd00::5]", "8000", "0")
    assert found == {
        (engine, Kind.HOST("node5"), 1.0),
        (engine, Kind.GPU("node5", "GPU-1"), 1.0),
        (engine, Kind.GPU("node5", "GPU-2"), 1.0),
        (other, Kind.GPU("[fd00::5]", "GPU-3"), 1.0),
    }
