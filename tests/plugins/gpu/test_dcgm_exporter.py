from __future__ import annotations

import asyncio
import re
from collections import Counter as Tally
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Event, SeriesKey, Severity
from collector.catalog import gpu, nvlink
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.poller import Source
from collector.store import Store
from collector.topology import Topology
from plugins.gpu import _dcgm_fields as fields
from plugins.gpu import dcgm_exporter
from plugins.gpu.dcgm_exporter import DcgmExporter
from plugins.gpu.nvml import Nvml
from tests.data import data
from tests.fakes.pages import Pages

HERE = Kind.HOST("node1")
UUID = "GPU-6d5c0ac5-74d7-3130-46f1-e93ed57f469a"
OTHER = "GPU-72ad4d20-cfed-f08d-c894-f620962ca3e4"
Found = dict[tuple[Metric, str, tuple[str, ...]], float]


@pytest.fixture(autouse=True)
def _no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nvml, "detect", list)


def polled(*pages: bytes, **config: object) -> list[Batch]:
    """Poll once for each page, as this host's own exporter."""

    async def run() -> list[Batch]:
        async with Pages(*pages) as server:
            plugin = DcgmExporter(target=server.url, **config)
            await plugin.open()
            try:
                batches = []
                for number in range(len(pages)):
                    batch = Batch(HERE, 1000.0 + number, plugin.metrics)
                    await plugin.poll(batch)
                    batches.append(batch)
                return batches
            finally:
                await plugin.close()

    return asyncio.run(run())


def values(batch: Batch) -> Found:
    """All samples by metric, the GPU's UUID or the host's name, and labels; none twice."""
    keys = [(metric, entity.key[-1], labels) for metric, entity, labels in batch.keys]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, batch.values, strict=True))


def page(*rows: str, uuid: str = UUID, label: str = "UUID", **more: str) -> bytes:
    """Lines `NAME value` as a page of one GPU."""
    labels = {"gpu": "0", label: uuid, "Hostname": "node1"} | more
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    lines = (f"DCGM_FI_{name}{{{text}}} {value}\n" for name, value in map(str.split, rows))
    return "".join(lines).encode()


class TestRealPages:
    """Pages that real exporters gave; each value as it stands on the page, in base units."""

    def test_t4(self) -> None:
        (batch,) = polled(data("dcgm/ericsson.prom").read_bytes())
        assert not batch.errors
        found = values(batch)
        assert found[gpu.POWER, UUID, ()] == 68.244, "a T4 reports the power of this instant"
        assert found[gpu.ENERGY, UUID, ()] == 15152422.938
        assert found[gpu.TEMPERATURE, UUID, ()] == 74
        assert found[gpu.CLOCK, UUID, ("sm",)] == 660e6
        assert found[gpu.CLOCK, UUID, ("memory",)] == 5e9
        assert found[gpu.UTILIZATION, UUID, ()] == 0.91
        assert found[gpu.MEMORY_UTILIZATION, UUID, ()] == 0.73
        assert found[gpu.MEMORY_USED, UUID, ()] == 5120 * 2**20
        assert found[gpu.MEMORY_RESERVED, UUID, ()] == 447 * 2**20
        assert found[gpu.PCIE_REPLAYS, UUID, ()] == 0
        assert found[gpu.GRAPHICS_UTILIZATION, UUID, ()] == 0.156205
        assert found[gpu.TENSOR_UTILIZATION, UUID, ()] == 0.005822
        assert found[gpu.DRAM_UTILIZATION, UUID, ()] == 0.092781
        assert found[gpu.PCIE_THROUGHPUT, UUID, ("transmit",)] == 4791810
        assert found[gpu.PCIE_THROUGHPUT, UUID, ("receive",)] == 6935930
        # The memory temperature is 0, that is none; free memory and codecs are not taken.
        assert len(found) == 15 + 3
        info = ("0", "Tesla T4", "", "0000:37:00.0", "590.48.01", "")
        assert found[gpu.INFO, UUID, info] == 1
        assert [(link.child, link.parent) for link in batch.links] == [
            (Kind.GPU("node1", UUID), HERE)
        ]

    def test_l4(self) -> None:
        uuid = "GPU-c2f76b33-7953-256e-8f33-1343419b1a1c"
        (batch,) = polled(data("dcgm/l4_driver580_kops.prom").read_bytes())
        assert not batch.errors
        found = values(batch)
        assert found[gpu.POWER_AVERAGE, uuid, ()] == 16.365, "from Ampere on it is an average"
        assert (gpu.POWER, uuid, ()) not in found
        assert found[gpu.ENERGY, uuid, ()] == 4742.776
        assert found[gpu.ROWS_REMAPPED, uuid, ("corrected",)] == 0
        assert found[gpu.ROWS_REMAPPED, uuid, ("uncorrected",)] == 0
        assert found[gpu.ROWS_FAILED, uuid, ()] == 0
        assert (gpu.MEMORY_TEMPERATURE, uuid, ()) not in found
        assert len(found) == 18 + 3

    def test_eight_h100_with_a_pod_whose_uid_is_not_told(self) -> None:
        (batch,) = polled(data("dcgm/h100x8_aicr.prom").read_bytes())
        assert not batch.errors
        found = values(batch)
        assert Tally(metric for metric, _, _ in found) == {
            gpu.TEMPERATURE: 8,
            gpu.POWER_AVERAGE: 8,
            gpu.UTILIZATION: 8,
            gpu.MEMORY_UTILIZATION: 6,
            gpu.INFO: 8,
            gpu.COUNT: 1,
            gpu.COUNT_EXPECTED: 1,
        }
        assert found[gpu.COUNT, "node1", ()] == 8
        first = "GPU-c4529c8d-69c4-b61d-e0bc-7b2460096005"
        assert found[gpu.POWER_AVERAGE, first, ()] == 113.611
        assert found[gpu.TEMPERATURE, first, ()] == 30
        assert {link.child.kind for link in batch.links} == {Kind.GPU}

    def test_mig_rows_repeat_the_whole_gpu_which_is_counted_once(self) -> None:
        (batch,) = polled(data("dcgm/a800_mig_excerpt.prom").read_bytes())
        assert not batch.errors
        found = values(batch)
        split = "GPU-1f027ee8-6e1e-2b8c-0108-3d370e5f0418"
        power = {uuid: watts for (metric, uuid, _), watts in found.items() if metric is gpu.POWER}
        assert power == {
            split: 78.446,
            "GPU-9e5b8fec-61bf-5124-a0a9-079af1b65cc6": 55.942,
            "GPU-5022ce43-b44a-987b-71c3-dee05378a618": 53.752,
        }
        assert found[gpu.ENERGY, split, ()] == 257858.316
        assert found[gpu.CLOCK, split, ("sm",)] == 1410e6
        assert len(found) == 3 * 4 + 3 + 2

    def test_malformed_lines_are_reported_and_the_rest_is_kept(self) -> None:
        (batch,) = polled(data("dcgm/viettel.prom").read_bytes())
        ((_, error),) = batch.errors
        assert "16 malformed lines" in str(error)
        found = values(batch)
        assert found[gpu.CLOCK, "GPU-a8affe7e-7930-ae20-3fc6-4b0edf3ebbf3", ("sm",)] == 210e6
        assert found[gpu.CLOCK, OTHER, ("sm",)] == 210e6
        assert len(found) == 2 + 2 + 2

    def test_vgpu(self) -> None:
        uuid = "GPU-44d2411e-1604-478f-aa96-5a3c00000000"
        (batch,) = polled(data("dcgm/vks_vgpu.prom").read_bytes())
        found = values(batch)
        assert found[gpu.CLOCK, uuid, ("memory",)] == 1215e6
        assert found[gpu.MEMORY_RESERVED, uuid, ()] == 916 * 2**20
        assert (gpu.MEMORY_TEMPERATURE, uuid, ()) not in found
        assert len(found) == 6 + 3


class TestNames:
    def test_the_table_is_dcgms(self) -> None:
        names: dict[int, set[str]] = {}
        for line in data("nvml/dcgm_fields_4.6.0.csv").read_text().splitlines()[1:]:
            number, name, _ = line.split(",", 2)
            names.setdefault(int(number), set()).add(name)
        for field in fields.FIELDS:
            assert {f"DCGM_FI_{name}" for name in field.names} == names[field.id], field.id

    def test_each_name_stands_once(self) -> None:
        assert len(fields.BY_NAME) == sum(len(field.names) for field in fields.FIELDS)
        assert len(fields.BY_ID) == len(fields.FIELDS)

    @pytest.mark.parametrize("label", ["UUID", "uuid", "gpu_uuid"])
    @pytest.mark.parametrize("name", ["GPU_TEMP", "GPU_TEMP_CELSIUS"])
    def test_every_generation_is_read(self, label: str, name: str) -> None:
        (batch,) = polled(page(f"DEV_{name} 41", label=label))
        assert values(batch)[gpu.TEMPERATURE, UUID, ()] == 41

    def test_gpu_util_ratio_is_a_percentage_and_others_are_ratios(self) -> None:
        (batch,) = polled(page("DEV_GPU_UTIL_RATIO 91", "PROF_SM_UTIL_RATIO 0.5"))
        found = values(batch)
        assert found[gpu.UTILIZATION, UUID, ()] == 0.91
        assert found[gpu.SM_UTILIZATION, UUID, ()] == 0.5


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            "9223372036854775792", "9223372036854775793", "9223372036854775794",
            "9223372036854775795", "9.223372036854776e+18", "140737488355328.0",
            "140737488355331", "NaN", "+Inf", "-Inf",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("name", ["DEV_MEMORY_TEMP", "DEV_POWER_USAGE", "DEV_FB_USED"])
    def test_a_word_for_none_is_none(self, name: str, value: str) -> None:
        (batch,) = polled(page(f"{name} {value}", "DEV_SM_CLOCK 210"))
        assert {metric for metric, _, _ in values(batch)} == {
            gpu.CLOCK, gpu.INFO, gpu.COUNT, gpu.COUNT_EXPECTED,
        }  # fmt: skip
        assert not batch.errors

    @given(st.floats(allow_nan=True), st.sampled_from(fields.FIELDS))
    def test_no_number_makes_a_value_that_cannot_be(
        self, value: float, field: fields.Field
    ) -> None:
        from plugins.gpu._dcgm_samples import Reading, Samples

        batch = Batch(HERE, 1.0, fields.METRICS)
        Samples().add(batch, [Reading(field, Kind.GPU("node1", UUID), value, "NVIDIA H100")])
        for key, found in zip(batch.keys, batch.values, strict=True):
            assert found <= 2**63 * 1e6
            assert found >= 0 or key.metric is gpu.TEMPERATURE_MARGIN
            if key.metric.unit == "1":
                assert 0 <= found <= 1.05

    def test_throttle_reasons_are_bits(self) -> None:
        (batch,) = polled(page("DEV_CLOCK_THROTTLE_REASONS 72"))
        active = {
            labels[0] for (metric, _, labels), value in values(batch).items()
            if metric is gpu.THROTTLE_ACTIVE and value
        }  # fmt: skip
        assert active == {"hw_slowdown", "hw_thermal_slowdown"}

    def test_violations_are_nanoseconds_and_stand_back_for_what_says_more(self) -> None:
        (batch,) = polled(
            page(
                "DEV_POWER_VIOLATION 5000000000",
                "DEV_THERMAL_VIOLATION 7",
                "DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS 2000000000",
            )
        )
        assert {
            labels: value for (metric, _, labels), value in values(batch).items()
            if metric is gpu.THROTTLE_TIME
        } == {("sw_power_cap",): 5, ("sw_thermal_slowdown",): 2}  # fmt: skip

    def test_energy_goes_on_over_a_reload_of_the_driver(self) -> None:
        pages = [page(f"DEV_TOTAL_ENERGY_CONSUMPTION {mj}") for mj in (5000, 6000, 1000)]
        found = [values(batch)[gpu.ENERGY, UUID, ()] for batch in polled(*pages)]
        assert found == [5, 6, 7]

    def test_power_of_this_instant_comes_before_the_average(self) -> None:
        rows = "DEV_BOARD_POWER_WATTS 100", "DEV_BOARD_POWER_RAW_WATTS 130"
        (batch,) = polled(page(*rows, modelName="NVIDIA A100-SXM4-80GB"))
        assert values(batch)[gpu.POWER, UUID, ()] == 130

    def test_what_a_mig_instance_has_of_its_own_is_not_the_gpus(self) -> None:
        rows = "DEV_FB_USED 100", "PROF_SM_ACTIVE 0.5", "DEV_GPU_TEMP 40"
        (batch,) = polled(page(*rows, GPU_I_ID="3", GPU_I_PROFILE="2g.20gb"))
        assert {metric for metric, _, _ in values(batch)} == {
            gpu.TEMPERATURE, gpu.INFO, gpu.COUNT, gpu.COUNT_EXPECTED,
        }  # fmt: skip

    def test_null_is_no_instance(self) -> None:
        rows = ("DEV_FB_USED 100",)
        (batch,) = polled(page(*rows, GPU_I_ID="<<<NULL>>>", GPU_I_PROFILE="<<<NULL>>>"))
        assert values(batch)[gpu.MEMORY_USED, UUID, ()] == 100 * 2**20

    def test_rows_of_nvlinks_are_of_the_link(self) -> None:
        name = "DEV_NVLINK_COUNT_TX_BYTES 100"
        links = [page(name, label="gpu_uuid", nvlink=number) for number in "01"]
        (batch,) = polled(b"".join(links) + page("DEV_NVLINK_COUNT_TX_BYTES 200"))
        key = nvlink.TRAFFIC, Kind.NVLINK("node1", UUID, "1"), ("transmit",)
        assert batch.values[batch.keys.index(SeriesKey(*key))] == 100
        assert values(batch)[gpu.NVLINK_TRAFFIC, UUID, ("transmit",)] == 200
        assert (key[1], Kind.GPU("node1", UUID)) in {(k.child, k.parent) for k in batch.links}

    def test_a_gpu_that_is_left_out_shows(self) -> None:
        both = page("DEV_GPU_TEMP 40") + page("DEV_GPU_TEMP 40", uuid=OTHER)
        batches = polled(both, page("DEV_GPU_TEMP 40"))
        found = [
            [values(batch)[metric, "node1", ()] for metric in (gpu.COUNT, gpu.COUNT_EXPECTED)]
            for batch in batches
        ]
        assert found == [[2, 2], [1, 2]]


class TestXid:
    def events(self, *xids: str) -> list[list[Event]]:
        return [b.events for b in polled(*(page(f"DEV_XID_ERRORS {one}") for one in xids))]

    def test_the_last_xid_is_news_once_and_only_when_it_changes(self) -> None:
        events = self.events("0", "79", "79", "31", "0", "31")
        assert [[event.attributes[0] for event in found] for found in events] == [
            [], [("xid", "79")], [], [("xid", "31")], [], [("xid", "31")],
        ]  # fmt: skip
        (event,) = events[1]
        assert (event.name, event.at, event.severity) == ("gpu.xid", 1001.0, Severity.FATAL)
        assert event.entity == Kind.GPU("node1", UUID)
        assert re.match(r"Xid 79 \w+, to do: RESTART_BM", event.text)

    def test_what_was_there_before_us_is_no_news(self) -> None:
        assert self.events("79", "79") == [[], []]


class TestHost:
    def entity(self, plugin: DcgmExporter, *, local: bool, **labels: str) -> str:
        plugin._local = local
        return plugin._host(labels, HERE)

    def test_whose_gpus_they_are(self) -> None:
        far = DcgmExporter(target="http://10.0.0.7:9400")
        assert self.entity(far, local=True, Hostname="elsewhere") == "node1"
        assert self.entity(far, local=False, Hostname="node2") == "node2"
        assert self.entity(far, local=False, hostname="node2") == "node2"
        assert self.entity(far, local=False, Hostname="localhost") == "10.0.0.7"
        pod = "nvidia-dcgm-exporter-x7w2k"
        assert self.entity(far, local=False, Hostname=pod) == "10.0.0.7"
        assert self.entity(far, local=False) == "10.0.0.7"
        told = DcgmExporter(target="http://10.0.0.7:9400", host="node9")
        assert self.entity(told, local=False, Hostname="node2") == "node9"

    def test_a_pod_is_linked_to_its_gpu_by_its_uid(self) -> None:
        uid = "0e6f2f3a-4f4d-4f4e-9c55-2f6a8f1d8c11"
        (batch,) = polled(page("DEV_GPU_TEMP 40", pod="chat-0", namespace="a", pod_uid=uid))
        links = {(link.child, link.parent) for link in batch.links}
        assert (Kind.POD(uid), Kind.GPU("node1", UUID)) in links

    @pytest.mark.parametrize(("nvml", "described"), [(True, False), (False, True)])
    def test_a_gpu_has_one_description(
        self, nvml: bool, described: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Nvml, "detect", lambda: [{}] if nvml else [])
        (batch,) = polled(page("DEV_GPU_TEMP 40"))
        assert (gpu.INFO in {key.metric for key in batch.keys}) is described
        (batch,) = polled(page("DEV_GPU_TEMP 40"), host="node2")
        assert gpu.INFO in {key.metric for key in batch.keys}


def test_beside_nvml_nothing_is_counted_twice() -> None:
    store, topology = Store(), Topology()
    key = Kind.GPU("node1", UUID)

    async def run() -> None:
        async with Pages(page("DEV_POWER_USAGE_INSTANT 100", "PROF_SM_ACTIVE 0.5")) as server:
            plugin = DcgmExporter(target=server.url)
            source = Source("dcgm_exporter", plugin, HERE, store, topology)
            await source.poll()
            nvml = Batch(HERE, store.time[0], {gpu.POWER})
            nvml.add(gpu.POWER, key, 101.0)
            store.write(nvml, "nvml", 30.0)
            await source.poll()
            await source.close()

    asyncio.run(run())
    now = float(store.time.max())
    assert [k for k in store.index if k.metric is gpu.POWER] == [SeriesKey(gpu.POWER, key, ())]
    assert store.latest(now, gpu.POWER, key) == 101
    assert store.latest(now, gpu.SM_UTILIZATION, key) == 0.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"# HELP x y\nup 1\n", "no DCGM_FI_ metric of a GPU"),
        (b'DCGM_FI_DEV_GPU_TEMP{gpu="0",...} 3\n', "1 malformed lines"),
        (b'DCGM_FI_DEV_CPU_TEMP{cpu="0"} 3\n', "no DCGM_FI_ metric of a GPU"),
    ],
)
def test_a_page_of_something_else_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(Exception, match=message):
        polled(body)


@pytest.mark.parametrize("target", ["node1:9400", "ftp://node1", "http://"])
def test_a_target_must_be_a_url(target: str) -> None:
    with pytest.raises(ValueError, match="no URL"):
        DcgmExporter(target=target)


@pytest.mark.parametrize(
    ("command", "port"),
    [
        (["/usr/bin/dcgm-exporter"], 9400),
        (["dcgm-exporter", "-a", ":9401", "-f", "x.csv"], 9401),
        (["dcgm-exporter", "--address=0.0.0.0:9402"], 9402),
        (["dcgm-exporter", "--address", "nowhere"], None),
    ],
)
def test_the_port_stands_in_the_command(command: list[str], port: int | None) -> None:
    assert dcgm_exporter._port(command) == port


def test_an_exporter_on_this_host_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "proc/42"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"42 (dcgm-exporter) S 1 {'0 ' * 30}\n")
    (folder / "cmdline").write_bytes(b"dcgm-exporter\0-a\0:9555\0")
    net = tmp_path / "proc/net"
    net.mkdir()
    line = "0: 00000000:{:04X} 00000000:0000 0A 0:0 0:0 0 0 0 1 1\n"
    (net / "tcp").write_text("head\n" + line.format(9400))
    assert list(dcgm_exporter.found(tmp_path)) == []
    (net / "tcp").write_text("head\n" + line.format(9555))
    assert list(dcgm_exporter.found(tmp_path)) == [9555]


def test_entities_are_those_of_nvml() -> None:
    (batch,) = polled(page("DEV_GPU_TEMP 40"))
    assert {key.entity for key in batch.keys} == {Entity(Kind.GPU, ("node1", UUID)), HERE}
