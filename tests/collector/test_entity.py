from __future__ import annotations

import pytest

from collector.entity import Entity, Kind


def test_an_entity_is_its_kind_and_key() -> None:
    assert Kind.GPU("node1", "GPU-1") == Entity(Kind.GPU, ("node1", "GPU-1"))
    assert len({Kind.GPU("a", "b"), Kind.GPU("a", "b"), Kind.CPU("a", "b")}) == 2
    assert str(Kind.OUTLET("pdu-a12", "7")) == "outlet:pdu-a12/7"
    assert str(Kind.DAEMON()) == "daemon:"


def test_labels_have_the_constants_of_the_kind() -> None:
    assert Kind.GPU("node1", "GPU-1").labels == (
        ("host.name", "node1"),
        ("hw.id", "GPU-1"),
        ("hw.type", "gpu"),
    )
    assert Kind.DAEMON().labels == ()


@pytest.mark.parametrize("kind", Kind)
def test_a_key_of_the_wrong_length_is_told(kind: Kind) -> None:
    right = kind(*kind.keys)
    assert [name for name, _ in right.labels] == list(kind.labels)
    with pytest.raises(ValueError, match=f"{kind.word} needs"):
        kind(*kind.keys, "more")


def test_words_are_unique() -> None:
    assert len({kind.word for kind in Kind}) == len(Kind)
