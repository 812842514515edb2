"""What real boards said by nvidia-smi is what the plugin says, and nothing else."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from collector.entity import Entity, Kind
from tests.data import data
from tests.fakes.nvml import Scenario
from tests.plugins.gpu.gpus import MIB, of, poll

BOARDS = (
    *(f"hardware/qx-{board}" for board in ("a100", "b200", "gb200", "h100", "t4")),
    # What nvidia-smi made of a stand-in for the driver, for states that no board was in.
    *(f"qx-gb200-{state}" for state in ("ecc-injected", "fabric-degraded", "throttle-counters")),
    "qx-a100-healthy",
)

# nvidia-smi's names of the clocks event reasons, in the order of their bits, and ours.
_REASONS = (
    ("gpu_idle", "gpu_idle"),
    ("applications_clocks_setting", "applications_clocks_setting"),
    ("sw_power_cap", "sw_power_cap"),
    ("hw_slowdown", "hw_slowdown"),
    ("sync_boost", "sync_boost"),
    ("sw_thermal_slowdown", "sw_thermal_slowdown"),
    ("hw_thermal_slowdown", "hw_thermal_slowdown"),
    ("hw_power_brake_slowdown", "hw_power_brake_slowdown"),
    ("display_clocks_setting", "display_clock_setting"),
)


def _figure(gpu: ET.Element, path: str) -> float | None:
    """A figure of nvidia-smi, without its unit; None where it says that there is none."""
    number, _, unit = (gpu.findtext(path) or "N/A").strip().partition(" ")
    return float(number) if unit in ("W", "C", "MHz", "MiB", "%", "us") else None


def _count(gpu: ET.Element, *paths: str) -> int | None:
    """The sum of plain numbers, `No` and `Yes`; None where none of them is there."""
    words = [(gpu.findtext(path) or "N/A").strip() for path in paths]
    found = [
        int({"No": "0", "Yes": "1", "Enabled": "1", "Disabled": "0"}.get(w, w.rstrip("x")))
        for w in words
        if w != "N/A"
    ]
    return sum(found) if found else None


# nvidia-smi's element; the scenario's key and units of it in one of nvidia-smi's; the sample and
# units of nvidia-smi in one of it.
_FIGURES: list[tuple[str, str, float, object, float]] = [
    ("gpu_power_readings/instant_power_draw", "field.186", 1e3, "gpu.power", 1),
    ("gpu_power_readings/average_power_draw", "field.185", 1e3, "gpu.power.average", 1),
    ("gpu_power_readings/current_power_limit", "field.190", 1e3, "gpu.power.limit", 1),
    ("module_power_readings/instant_power_draw", "field.186.1", 1e3, "gpu.module.power", 1),
    ("gpu_memory_power_readings/average_power_draw", "field.185.2", 1e3, "gpu.memory.power", 1),
    *(
        (
            f"gpu_power_readings/{name}_power_limit",
            f"field.{id_}",
            1e3,
            ("gpu.power.limit.setting", name),
            1,
        )
        for id_, name in ((187, "min"), (188, "max"), (189, "default"), (192, "requested"))
    ),
    ("temperature/gpu_temp", "temperature", 1, "gpu.temperature", 1),
    ("temperature/memory_temp", "field.82", 1, "gpu.memory.temperature", 1),
    ("temperature/gpu_temp_tlimit", "margin", 1, "gpu.temperature.margin", 1),
    *(
        (
            f"temperature/gpu_temp_{tag}_threshold",
            f"threshold.{type_}",
            1,
            ("gpu.temperature.limit", name),
            1,
        )
        for type_, (tag, name) in enumerate(
            (("max", "shutdown"), ("slow", "slowdown"), ("max_mem", "memory"), ("max_gpu", "gpu"))
        )
    ),
    *(
        (
            f"temperature/gpu_temp_{tag}_tlimit_threshold",
            f"field.{193 + type_}",
            1,
            ("gpu.temperature.margin.limit", name),
            1,
        )
        for type_, (tag, name) in enumerate(
            (("max", "shutdown"), ("slow", "slowdown"), ("max_mem", "memory"), ("max_gpu", "gpu"))
        )
    ),
    *(
        (f"{where}/{tag}_clock", f"{key}.{type_}", 1, (metric, name), 1e-6)
        for where, key, metric in (
            ("clocks", "clock", "gpu.clock"),
            ("max_clocks", "clock_max", "gpu.clock.limit"),
        )
        for type_, (tag, name) in enumerate(
            (("graphics", "graphics"), ("sm", "sm"), ("mem", "memory"))
        )
    ),
    *(
        (
            f"clocks_event_reasons_counters/clocks_event_reasons_counters_{tag}",
            f"field.{id_}",
            1e3,
            ("gpu.throttle.time", name),
            1e6,
        )
        for id_, tag, name in (
            (74, "sw_power_cap", "sw_power_cap"),
            (76, "sync_boost", "sync_boost"),
            (269, "sw_therm_slowdown", "sw_thermal_slowdown"),
            (270, "hw_therm_slowdown", "hw_thermal_slowdown"),
            (271, "hw_power_brake", "hw_power_brake_slowdown"),
        )
    ),
    ("fb_memory_usage/total", "memory.total", MIB, "gpu.memory.limit", 1 / MIB),
    ("fb_memory_usage/reserved", "memory.reserved", MIB, "gpu.memory.reserved", 1 / MIB),
    ("fb_memory_usage/used", "memory.used", MIB, "gpu.memory.used", 1 / MIB),
    ("utilization/gpu_util", "utilization.gpu", 1, "gpu.utilization", 1e2),
    ("utilization/memory_util", "utilization.memory", 1, "gpu.memory.utilization", 1e2),
]


# nvidia-smi's elements, which are summed up; the scenario's key; the sample.
_COUNTS: list[tuple[tuple[str, ...], str, object]] = [
    (("ecc_mode/current_ecc",), "field.1", "gpu.ecc.enabled"),
    (
        ("retired_pages/multiple_single_bit_retirement/retired_count",),
        "field.29",
        ("gpu.pages.retired", "single_bit"),
    ),
    (
        ("retired_pages/double_bit_retirement/retired_count",),
        "field.30",
        ("gpu.pages.retired", "double_bit"),
    ),
    (("retired_pages/pending_retirement",), "field.31", "gpu.pages.pending"),
    (("remapped_rows/remapped_row_corr",), "field.142", ("gpu.rows.remapped", "corrected")),
    (("remapped_rows/remapped_row_unc",), "field.143", ("gpu.rows.remapped", "uncorrected")),
    (("remapped_rows/remapped_row_pending",), "field.144", "gpu.rows.pending"),
    (("remapped_rows/remapped_row_failure",), "field.145", "gpu.rows.failed"),
    (("pci/replay_counter",), "field.94", "gpu.pcie.replays"),
    *(
        ((f"pci/pci_gpu_link_info/{path}",), key, sample)
        for path, key, sample in (
            ("pcie_gen/current_link_gen", "pcie.gen", "gpu.pcie.generation"),
            ("pcie_gen/max_link_gen", "pcie.gen_max", "gpu.pcie.generation.limit"),
            ("link_widths/current_link_width", "pcie.width", "gpu.pcie.width"),
            ("link_widths/max_link_width", "pcie.width_max", "gpu.pcie.width.limit"),
        )
    ),
    *(
        (
            tuple(f"ecc_errors/{era}/{memory}_{element}" for element in elements),
            f"ecc.{type_}.{counter}.{place}",
            (metric, memory, name),
        )
        for counter, (era, metric) in enumerate(
            (("volatile", "gpu.ecc.errors"), ("aggregate", "gpu.ecc.errors.lifetime"))
        )
        for memory, place in (("dram", 2), ("sram", 7))
        for type_, (name, elements) in enumerate(
            (
                ("corrected", ("correctable",)),
                (
                    "uncorrected",
                    ("uncorrectable", "uncorrectable_parity", "uncorrectable_secded"),
                ),
            )
        )
    ),
]
_BANKS = ("max", "high", "partial", "low", "none")
_STATES = ("not_started", "in_progress", "completed")
_HEALTHS = ("healthy", "unhealthy", "limited_capacity")
# nvidia-smi's word for each part of the health mask: value of the bits, whether it is a fault.
_HEALTH = (
    ("bandwidth", 0, "degraded_bandwidth", {"Degraded": 1, "Full": 2}),
    ("route_recovery_in_progress", 2, "route_recovery", {"True": 1, "False": 2}),
    ("route_unhealthy", 4, "route_unhealthy", {"True": 1, "False": 2}),
    ("access_timeout_recovery", 6, "access_timeout_recovery", {"True": 1, "False": 2}),
)


def _state_set(metric: str, states: tuple[str, ...], now: str) -> dict[Any, float]:
    assert now in states
    return {(metric, state): float(state == now) for state in states}


def _fabric(xml: ET.Element, slot: int, scenario: Scenario) -> dict[Any, float]:
    state = (xml.findtext("fabric/state") or "N/A").lower()
    if state == "n/a":
        return {}
    known = _state_set("gpu.fabric.state", _STATES, state)
    known["gpu.fabric.fault", "registration"] = float(xml.findtext("fabric/status") != "Success")
    mask = 0
    for element, shift, fault, words in _HEALTH:
        word = xml.findtext(f"fabric/health/{element}") or "N/A"
        if word != "N/A":
            mask |= words[word] << shift
            known["gpu.fabric.fault", fault] = float(words[word] == 1)
    summary = (xml.findtext("fabric/health/summary") or "N/A").lower()
    if summary != "n/a":
        known |= _state_set("gpu.fabric.health", _HEALTHS, summary)
    cluster = xml.findtext("fabric/clusterUuid") or ""
    clique = xml.findtext("fabric/cliqueId") or "0"
    if cluster.strip("0-"):
        known["gpu.fabric.info", cluster, clique] = 1.0
    code = (
        1 + _STATES.index(state),
        0,
        int(clique),
        hex(mask),
        1 + (*_HEALTHS, "n/a").index(summary),
    )
    scenario.set(f"gpu.{slot}.fabric", " ".join(map(str, code[:4])) + f" {code[4] % 4}")
    scenario.set(f"gpu.{slot}.fabric_uuid", cluster.replace("-", ""))
    return known


def _board(xml: ET.Element, slot: int, driver: str, scenario: Scenario) -> dict[Any, float]:
    """Put one GPU of nvidia-smi into a slot; return the samples that it makes."""
    known: dict[Any, float] = {}
    names = ("uuid", "product_name", "serial", "vbios_version", "pci/pci_bus_id")
    uuid, product, serial, vbios, bus = (xml.findtext(name) or "" for name in names)
    for key, value in zip(
        ("uuid", "name", "serial", "vbios", "bus_id"),
        (uuid, product, serial, vbios, bus),
        strict=True,
    ):
        scenario.set(f"gpu.{slot}.{key}", value)
    known["gpu.info", str(slot), product, serial, bus[-12:].lower(), driver, vbios] = 1.0
    for tag, key, times, sample, per in _FIGURES:
        figure = _figure(xml, tag)
        if figure is not None:
            scenario.set(f"gpu.{slot}.{key}", round(figure * times))
            known[sample] = figure / per if per >= 1 else figure * round(1 / per)
    for tags, key, sample in _COUNTS:
        number = _count(xml, *tags)
        if number is not None:
            scenario.set(f"gpu.{slot}.{key}", number)
            known[sample] = float(number)
    mask = 0
    for bit, (tag, name) in enumerate(_REASONS):
        active = xml.findtext(f"clocks_event_reasons/clocks_event_reason_{tag}") == "Active"
        mask |= active << bit
        known["gpu.throttle.active", name] = float(active)
    scenario.set(f"gpu.{slot}.reasons", mask)
    histogram = "remapped_rows/row_remapper_histogram/row_remapper_histogram_"
    banks = [(xml.findtext(histogram + name) or "N/A").partition(" ")[0] for name in _BANKS]
    if "N/A" not in banks:
        scenario.set(f"gpu.{slot}.histogram", " ".join(banks))
        known |= {("gpu.rows.banks", n): float(b) for n, b in zip(_BANKS, banks, strict=True)}
    if xml.findtext("gpu_recovery_action") == "None":
        scenario.set(f"gpu.{slot}.field.230", 0)
        known["gpu.recovery.action", "none"] = 1.0
    return known | _fabric(xml, slot, scenario)


@pytest.mark.parametrize("board", BOARDS)
def test_the_figures_of_real_boards(scenario, board):
    root = ET.parse(data(f"nvml/nvidia_smi_xml/{board}.xml")).getroot()
    driver = root.findtext("driver_version") or ""
    scenario.set("driver", driver)
    expected: dict[Entity, dict[Any, float]] = {}
    modules: set[object] = set()
    for slot, xml in enumerate(root.findall("gpu")):
        known = _board(xml, slot, driver, scenario)
        if xml.findtext("serial") in modules:  # GPUs of one board report the same module
            known.pop("gpu.module.power", None)
        modules.add(xml.findtext("serial"))
        expected[Kind.GPU("node1", xml.findtext("uuid") or "")] = known
    batch = poll(scenario)
    assert batch.errors == []
    for entity, known in expected.items():
        found = of(batch, entity)
        for name in [name for name in found if name[0] == "gpu.recovery.action"]:
            assert found[name] == (name[1] == "none")
            known[name] = found[name]
        assert found.keys() - {"gpu.processes", "gpu.query.time"} == known.keys()
        for sample, value in known.items():
            assert found[sample] == pytest.approx(value, rel=1e-12), sample


def test_the_power_of_two_modules_with_two_gpus_each(scenario):
    """Each GB200 says what its board draws: the sum over the node is that of two boards."""
    root = ET.parse(data("nvml/nvidia_smi_xml/hardware/qx-gb200.xml")).getroot()
    boards: dict[str | None, float | None] = {}
    for slot, xml in enumerate(root.findall("gpu")):
        _board(xml, slot, "580", scenario)
        boards.setdefault(
            xml.findtext("serial"), _figure(xml, "module_power_readings/instant_power_draw")
        )
    batch = poll(scenario)
    stated = [
        value
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key.metric.name == "gpu.module.power"
    ]
    assert len(root.findall("gpu")) == 2 * len(boards) == 4
    assert stated == list(boards.values())
