from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from collector.batch import Batch, Link
from collector.catalog import gpu
from collector.commands import once
from collector.commands.once import FOLD
from collector.config import Config, Configured
from collector.entity import Kind
from collector.plugin import Plugin
from collector.settings import Settings
from collector.topology import Topology
from collector.web import api

HOST, OUTLET = Kind.HOST("node1"), Kind.OUTLET("a", "7")
GPUS = [Kind.GPU("node1", f"g{index}") for index in range(FOLD + 1)]
ENGINE = Kind.ENGINE("node1", "8000", "0")


def tree(*links: tuple[Any, ...], ended: Any = ()) -> list[str]:
    topology = Topology()
    topology.observe("old", [Link(child, parent, 1.0) for child, parent in ended], 0.0)
    topology.observe("old", [], 1.0)
    found = [Link(child, parent, *(share or (1.0,))) for child, parent, *share in links]
    topology.observe("source", found, 2.0)
    return once.tree(api.links(topology))


class TestTree:
    def test_from_the_outlet_down(self) -> None:
        process = Kind.PROCESS("node1", "42")
        assert tree(
            (HOST, OUTLET), (GPUS[0], HOST), (process, GPUS[0]), (process, ENGINE)
        ) == [
            "engine:node1/8000/0",
            "  process:node1/42",
            "outlet:a/7",
            "  host:node1",
            "    gpu:node1/g0",
            "      process:node1/42",
        ]  # fmt: skip

    def test_what_is_missing_is_said(self) -> None:
        assert tree((GPUS[0], HOST), (ENGINE, HOST)) == [
            "host:node1  (no outlet: set topology.hosts.node1.outlets)",
            "  engine:node1/8000/0  (no process seen: its GPUs are unknown)",
            "  gpu:node1/g0",
        ]

    def test_an_engine_whose_gpus_are_configured_lacks_nothing(self) -> None:
        assert tree((HOST, OUTLET), (GPUS[0], HOST), (ENGINE, GPUS[0]))[-1].strip() == str(ENGINE)

    def test_shares(self) -> None:
        assert tree((HOST, OUTLET, 0.25))[1] == "  host:node1, 25% of it"

    def test_what_ended_is_not_drawn(self) -> None:
        assert tree(ended=[(GPUS[0], HOST)]) == ["nothing is linked"]

    def test_many_alike_are_one_line(self) -> None:
        lines = tree((HOST, OUTLET), *((one, HOST) for one in GPUS))
        assert lines[2:] == [f"    {FOLD + 1} x gpu"]
        lines = tree((HOST, OUTLET), *((one, HOST) for one in GPUS[1:]))
        assert len(lines) == 2 + FOLD

    def test_what_has_two_parents_is_drawn_in_full_once(self) -> None:
        lines = tree((HOST, OUTLET), (HOST, Kind.OUTLET("b", "7")), (GPUS[0], HOST))
        assert lines == [
            "outlet:a/7",
            "  host:node1",
            "    gpu:node1/g0",
            "outlet:b/7",
            "  host:node1  (see above)",
        ]


class Probe(Plugin):
    metrics = (gpu.POWER,)
    act: Any = None

    def poll(self, batch: Batch) -> None:
        self.act(batch)


def poll(*acts: Callable[[Batch], None]) -> once.Polled:
    plugins = [
        Configured("probe", Probe(target=str(index), act=act)) for index, act in enumerate(acts)
    ]
    return asyncio.run(once.poll(Config(Settings(), plugins)))


def test_all_sources_are_polled_and_those_that_failed_are_told() -> None:
    def good(batch: Batch) -> None:
        batch.add(gpu.POWER, GPUS[0], 5.0)

    def bad(batch: Batch) -> None:
        raise OSError("gone")

    polled = poll(good, bad)
    assert [source.id for source in polled.sources] == ["probe:0", "probe:1"]
    assert [source.id for source in polled.failed] == ["probe:1"]
    assert polled.store.owned("probe:0") == 1


def test_what_the_config_knows_is_linked() -> None:
    settings = Settings.model_validate({"topology": {"pdus": {"a": "r1"}}})
    polled = asyncio.run(once.poll(Config(settings, [])))
    assert polled.topology.parents(Kind.PDU("a"), Kind.RACK)


def test_nothing_to_record(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert asyncio.run(once.record(Config(Settings(), []), tmp_path)) == 1
    assert "nothing to record" in capsys.readouterr().out
