from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.batch import Batch
from collector.catalog import gpu
from collector.entity import Kind
from collector.metric import Metric
from collector.poller import Source
from collector.store import Store
from collector.topology import Topology
from plugins.gpu._dcgm_fields import FIELDS
from plugins.gpu.dcgm import Dcgm, DcgmError
from plugins.gpu.nvml import Nvml

BINDINGS = Path(__file__).parents[2] / "fakes/dcgm"
HERE = Kind.HOST("node1")
TWO = """
[gpu.0]
uuid = "GPU-a"
model = "NVIDIA H100 80GB HBM3"
[gpu.0.fields]
100 = 1980
140 = 9223372036854775794
150 = 61
155 = 612.5
156 = 5000
203 = 97
230 = [0, 0, 900.0]
252 = 1024
1002 = 0.75
1003 = 140737488355329.0
[gpu.1]
uuid = "GPU-b"
bus_id = "00000000:3B:00.0"
[gpu.1.fields]
150 = 29
155 = [100.0, -18, 0.0]
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "hostengine.toml"
    path.write_text(TWO)
    monkeypatch.setenv("W2T_FAKE_DCGM", str(path))
    monkeypatch.setattr(Nvml, "detect", list)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    for name in ("dcgm_agent", "dcgm_structs", "dcgm_fields"):
        sys.modules.pop(name, None)


def opened(**config: Any) -> Dcgm:
    plugin = Dcgm(bindings=str(BINDINGS), **config)
    plugin.open()
    return plugin


def poll(plugin: Dcgm) -> Batch:
    batch = Batch(HERE, time.time(), plugin.metrics)
    plugin.poll(batch)
    return batch


def values(batch: Batch) -> dict[tuple[Metric, str, tuple[str, ...]], float]:
    keys = [(metric, entity.key[-1], labels) for metric, entity, labels in batch.keys]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, batch.values, strict=True))


def called(name: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in sys.modules["dcgm_agent"].calls if call[0] == name]


@pytest.mark.usefixtures("scenario")
class TestReading:
    def test_the_latest_values_are_those_of_nvml(self) -> None:
        batch = poll(opened())
        assert not batch.errors
        found = values(batch)
        infos = {key for key in found if key[0] is gpu.INFO}
        model = "NVIDIA H100 80GB HBM3"
        assert infos == {
            (gpu.INFO, "GPU-a", ("0", model, "", "0000:1a:00.0", "580.105.08", "")),
            (gpu.INFO, "GPU-b", ("1", model, "", "0000:3b:00.0", "580.105.08", "")),
        }
        assert {key: value for key, value in found.items() if key not in infos} == {
            (gpu.COUNT, "node1", ()): 2,
            (gpu.CLOCK, "GPU-a", ("sm",)): 1980e6,
            (gpu.TEMPERATURE, "GPU-a", ()): 61,
            (gpu.POWER_AVERAGE, "GPU-a", ()): 612.5,
            (gpu.ENERGY, "GPU-a", ()): 5,
            (gpu.UTILIZATION, "GPU-a", ()): 0.97,
            (gpu.MEMORY_USED, "GPU-a", ()): 2**30,
            (gpu.TEMPERATURE, "GPU-b", ()): 29,
        }
        assert {(link.child.key[1], link.parent) for link in batch.links} == {
            ("GPU-a", HERE), ("GPU-b", HERE),
        }  # fmt: skip

    def test_profiling_is_watched_only_where_that_is_asked_for(self) -> None:
        plain = values(poll(opened()))
        assert (gpu.SM_UTILIZATION, "GPU-a", ()) not in plain
        found = values(poll(opened(profiling=True)))
        assert found[gpu.SM_UTILIZATION, "GPU-a", ()] == 0.75
        assert (gpu.SM_OCCUPANCY, "GPU-a", ()) not in found, "1 above blank is: not found"
        without, with_ = (set(fields) for (fields,) in called("dcgmFieldGroupCreate"))
        assert with_ == {field.id for field in FIELDS}
        assert with_ - without == {field.id for field in FIELDS if field.profiling}

    def test_it_watches_at_its_own_pace(self) -> None:
        opened(interval=2.5, timeout=4, target="10.0.0.7:5555").close()
        assert called("dcgmConnect_v2") == [("10.0.0.7:5555", 4000)]
        assert called("dcgmWatchFields") == [(2_500_000,)]
        assert called("dcgmUpdateAllFields") == [(1,)]
        assert called("dcgmDisconnect") == [()]

    def test_what_it_records_can_be_replayed(self, tmp_path: Path, scenario: Path) -> None:
        before = values(poll(opened()))
        Dcgm(bindings=str(BINDINGS)).record(tmp_path / "case")
        scenario.write_text((tmp_path / "case/input/hostengine.toml").read_text())
        assert values(poll(opened())) == before

    def test_of_nvmls_own_gpus_it_does_not_state_the_names(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Nvml, "detect", lambda: [{}])
        assert gpu.INFO not in {key.metric for key in poll(opened()).keys}
        far = poll(opened(host="node2"))
        assert {key.entity.key[0] for key in far.keys if key.metric is gpu.INFO} == {"node2"}


class TestTroubles:
    def test_a_value_that_is_not_renewed_is_none(self, scenario: Path) -> None:
        scenario.write_text(TWO.replace("150 = 61", "150 = [61, 0, 60.0]"))
        assert (gpu.TEMPERATURE, "GPU-a", ()) not in values(poll(opened()))

    def test_an_xid_is_news_when_it_comes_with_the_time_at_which_it_came(
        self, scenario: Path
    ) -> None:
        plugin = opened()
        assert poll(plugin).events == []
        scenario.write_text(TWO.replace("230 = [0, 0, 900.0]", "230 = [79, 0, 4.0]"))
        (event,) = poll(plugin).events
        assert event.attributes[0] == ("xid", "79")
        assert event.at == pytest.approx(time.time() - 4, abs=2)
        assert poll(plugin).events == []

    def test_a_lost_gpu_keeps_the_other_readable(self, scenario: Path) -> None:
        scenario.write_text(TWO.replace('uuid = "GPU-a"', 'uuid = "GPU-a"\nerror = -18'))
        batch = poll(opened())
        ((entity, error),) = batch.errors
        assert entity == Kind.GPU("node1", "GPU-a")
        assert "GPU is lost" in str(error)
        assert values(batch)[gpu.TEMPERATURE, "GPU-b", ()] == 29

    def test_a_gpu_that_comes_is_watched(self, scenario: Path) -> None:
        plugin = opened()
        poll(plugin)
        scenario.write_text(TWO + '[gpu.2]\nuuid = "GPU-c"\nfields = {150 = 40}\n')
        found = values(poll(plugin))
        assert found[gpu.TEMPERATURE, "GPU-c", ()] == 40
        assert found[gpu.COUNT, "node1", ()] == 3
        assert len(called("dcgmWatchFields")) == 2

    def test_an_old_hostengine_is_not_asked_for_what_it_does_not_know(self, scenario: Path) -> None:
        scenario.write_text("# old hostengine\n" + TWO)
        opened()
        ((fields,),) = called("dcgmFieldGroupCreate")
        assert max(fields) < 1200

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("# no library", "libdcgm is not found: install datacenter-gpu-manager"),
            ("connect_error = -21", "no hostengine answers at 127.0.0.1:5555: start nvidia-dcgm"),
            ("connect_error = -12", "of another version than libdcgm"),
            ("connect_error = -3", "DCGM: DCGM error -3"),
        ],
    )
    def test_what_is_missing_is_said(self, scenario: Path, text: str, message: str) -> None:
        scenario.write_text(f"{text}\n{TWO}")
        with pytest.raises(DcgmError, match=message):
            opened()

    def test_no_bindings(self, tmp_path: Path) -> None:
        with pytest.raises(DcgmError, match=r"no dcgm_agent.py in /usr/share.*or set bindings"):
            Dcgm().open()
        with pytest.raises(DcgmError, match=f"no dcgm_agent.py in {tmp_path}"):
            Dcgm(bindings=str(tmp_path)).open()

    @pytest.mark.usefixtures("scenario")
    def test_broken_bindings(self, tmp_path: Path) -> None:
        (tmp_path / "dcgm_agent.py").write_text("import dcgm_nowhere\n")
        with pytest.raises(DcgmError, match="cannot be used: ModuleNotFoundError"):
            Dcgm(bindings=str(tmp_path)).open()

    def test_a_lost_connection_fails_the_poll(self, scenario: Path) -> None:
        plugin = opened()
        scenario.write_text(f"error = -21\n{TWO}")
        with pytest.raises(DcgmError, match="no hostengine answers"):
            poll(plugin)


def test_in_its_child_it_comes_back_with_the_hostengine(scenario: Path) -> None:
    store = Store()
    plugin = Dcgm(bindings=str(BINDINGS), timeout=20)
    source = Source("dcgm", plugin, HERE, store, Topology())
    seen = []

    async def run() -> None:
        for text in (TWO, f"error = -21\n{TWO}", TWO):
            scenario.write_text(text)
            await source.poll()
            seen.append(source.error)
        await source.close()

    asyncio.run(run())
    assert seen[0] is None
    assert "no hostengine answers" in str(seen[1])
    assert seen[2] is None
    assert store.latest(time.time(), gpu.TEMPERATURE, Kind.GPU("node1", "GPU-a")) == 61
