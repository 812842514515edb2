"""Plans of what to poll, and what is made of the answers."""

import pytest

from collector.batch import Batch
from collector.catalog import power
from collector.entity import Kind
from collector.read.snmp.device import SYS_UPTIME, Device
from collector.read.snmp.plan import Walks, prepare
from collector.read.snmp.profile import METRICS, Profile
from collector.read.snmp.profiles import load
from collector.read.snmp.session import Value

ROOT = "1.3.6.1.4.1.1"


def batch_of(device: Device, values: dict[str, Value]) -> Batch:
    batch = Batch(Kind.HOST("node1"), 0.0, tuple(METRICS.values()))
    device.read(batch, values, set(), 0.0)
    return batch


def read(device: Device, values: dict[str, Value]) -> dict[tuple[str, str], float]:
    """Return what a poll gives, by metric and part, without what the device is."""
    batch = batch_of(device, values)
    return {
        (key.metric.name, key.entity.key[-1]): value
        for key, value in zip(batch.keys, batch.values, strict=True)
        if not key.metric.name.endswith("info")
    }


def profile(**table: object) -> Profile:
    return Profile.model_validate(
        {
            "name": "mine",
            "source": "",
            "match": {"probe": ROOT},
            "info": {"vendor": ""},
            "table": [{"entry": ROOT, "index": "number", **table}],
        }
    )


@pytest.mark.parametrize(
    ("told", "amperes"),
    [
        (16, 16),
        ("16", 16),
        ("16 A", 16),
        (b"7.4A", 7.4),
        ("3x16A", None),
        ("", None),
        (0, None),
        (-1, None),
        ("9" * 400, None),
    ],
)
def test_ratings_are_taken_once_where_they_are_plain(told, amperes):
    limit = {"metric": "breaker.current.limit", "column": 2, "unit": "A"}
    current = {"metric": "breaker.current", "column": 3, "unit": "A"}
    mine = profile(entity="breaker", values=[{**limit, "pattern": r"(\d+(?:\.\d+)?) ?A?"}, current])
    walks: Walks = {f"{ROOT}.2": {(1,): told}, f"{ROOT}.3": {(1,): 5}}
    device = prepare(mine, "pdu1", walks, {})
    assert device.oids == [f"{ROOT}.3.1"]
    wanted = {("breaker.current", "1"): 5.0}
    if amperes:
        wanted["breaker.current.limit", "1"] = amperes
    assert read(device, {f"{ROOT}.3.1": 5}) == wanted


def test_a_unit_that_is_set_anew_is_not_taken_for_the_old_one():
    scale = {"oid": f"{ROOT}.9", "is": {1: "Cel", 2: "degF"}}
    value = {"metric": "environment.temperature", "column": 2, "unit": scale}
    walks: Walks = {f"{ROOT}.2": {(1,): 24}, f"{ROOT}.9": {(0,): 1}}
    device = prepare(profile(entity="environment", values=[value]), "pdu1", walks, {})
    values: dict[str, Value] = {f"{ROOT}.2.1": 24, f"{ROOT}.9.0": 1}
    assert read(device, values) == {("environment.temperature", "1"): 24}
    values |= {f"{ROOT}.2.1": 75, f"{ROOT}.9.0": 2}
    assert read(device, values) == {}
    batch = Batch(Kind.HOST("node1"), 0.0, tuple(METRICS.values()))
    assert device.read(batch, values, set(), 0.0), "it is to be discovered anew"


@pytest.mark.parametrize("instance", [(1, 0), (0, 1, 2), ()])
def test_rows_of_another_index_do_not_count(instance):
    value = {"metric": "outlet.power", "column": 2, "unit": "W"}
    walks: Walks = {f"{ROOT}.2": {(1,): 10, instance: 20}}
    device = prepare(profile(entity="outlet", values=[value]), "pdu1", walks, {})
    assert [reading.oid for reading in device.readings] == [f"{ROOT}.2.1"]


@pytest.mark.parametrize("value", [10**400, -(10**400), "1e999", b"-inf", b"nan", float("nan")])
def test_numbers_without_end_are_failures(value):
    power_of = {"metric": "outlet.power", "column": 2, "unit": "kW", "scale": 0.1}
    device = prepare(
        profile(entity="outlet", values=[power_of]), "pdu1", {f"{ROOT}.2": {(1,): 1}}, {}
    )
    batch = batch_of(device, {f"{ROOT}.2.1": value})
    assert power.OUTLET_POWER not in {key.metric for key in batch.keys}
    assert len(batch.errors) == 1


def test_per_row_exponent_of_entity_sensor_mib(tmp_path):
    """RFC 3433: value * 10^(3 * (scale - 9)) / 10^precision."""
    path = tmp_path / "sensors.toml"
    path.write_text(
        """
        source = "ENTITY-SENSOR-MIB"
        match = { probe = "1.3.6.1.2.1.99.1.1.1.4" }
        info = { vendor = "" }
        [[table]]
        entity = "environment"
        entry = "1.3.6.1.2.1.99.1.1.1"
        index = "number"
        fields = { type = 1 }
        digits = "1.3.6.1.2.1.99.1.1.1.3"
        available = { column = 5, is = [1] }
        where = { type = [8] }
        [[table.values]]
        metric = "environment.temperature"
        column = 4
        unit = "Cel"
        prefix = "1.3.6.1.2.1.99.1.1.1.2"
        """
    )
    entry = "1.3.6.1.2.1.99.1.1.1"
    walks: dict[str, dict[tuple[int, ...], Value]] = {
        f"{entry}.1": {(1,): 8, (2,): 8, (3,): 6},
        f"{entry}.2": {(1,): 9, (2,): 8, (3,): 9},
        f"{entry}.3": {(1,): 1, (2,): 0, (3,): 0},
        f"{entry}.4": {(1,): 235, (2,): 24_500, (3,): 7},
        f"{entry}.5": {(1,): 1, (2,): 2, (3,): 1},
    }
    device = prepare(load(path), "pdu1", walks, {SYS_UPTIME: 1})
    values = {f"{entry}.{c}.{n}": v for c in (4, 5) for (n, *_), v in walks[f"{entry}.{c}"].items()}
    assert read(device, values) == {("environment.temperature", "1"): 23.5}, "2 is not ok"
    values[f"{entry}.5.2"] = 1
    assert read(device, values)["environment.temperature", "2"] == 24.5
