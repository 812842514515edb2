"""Devices that no profile fits: what is said of them, and the page that tells how to write one."""

import re
from pathlib import Path

import pytest

from collector.export.prometheus import Page
from collector.read.snmp.discovery import UnknownDeviceError
from collector.store import Store
from tests.fakes.snmp import Agent, Value, parse_oid
from tests.plugins.power.pdus import poll, samples
from tests.test_examples import ROOT, blocks

GUIDE = ROOT / "docs/profiles.md"
SENSORS, NAMES = "1.3.6.1.2.1.99.1.1.1", "1.3.6.1.2.1.47.1.1.1.1"


def walked(text: str) -> dict[str, Value]:
    """Read what snmpwalk -On prints."""
    found: dict[str, Value] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\.([\d.]+) = (\w+): (.*)", line)
        assert match, line
        oid, kind, told = match.groups()
        if kind == "STRING":
            found[oid] = told.strip('"')
        elif kind == "OID":
            found[oid] = parse_oid(told)
        else:
            number = re.search(r"-?\d+", told)
            assert number
            words = {"Gauge32": "gauge", "Counter32": "counter", "Timeticks": "timeticks"}
            value = int(number[0])
            found[oid] = (words[kind], value) if kind in words else value
    return found


@pytest.fixture
def guide() -> tuple[str, dict[str, Value]]:
    message, walk = blocks(GUIDE, "text")
    return message, walked(walk)


def test_the_message_in_the_guide_is_what_is_said(guide: tuple[str, dict[str, Value]]) -> None:
    message, objects = guide
    with Agent(objects) as agent, pytest.raises(UnknownDeviceError) as caught:
        poll(agent.target)
    assert " ".join(message.split()) in str(caught.value)


def test_the_profile_in_the_guide_gives_what_it_says(
    guide: tuple[str, dict[str, Value]], tmp_path: Path
) -> None:
    path = tmp_path / "rack-meter.toml"
    path.write_text(blocks(GUIDE, "toml rack-meter.toml")[0])
    with Agent(guide[1]) as agent:
        batch = poll(agent.target, profile=str(path))
    assert not batch.errors
    store = Store()
    store.write(batch, "guide", 60)
    lines = Page(store).render(batch.at).decode().splitlines()
    found = sorted(line for line in lines if not line.startswith("#"))
    assert found == sorted(blocks(GUIDE, "prometheus")[0].splitlines())


def test_a_device_with_a_few_standard_tables_is_told_by_them() -> None:
    objects: dict[str, Value] = {
        "1.3.6.1.2.1.1.1.0": "Toaster 9",
        "1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 9999),
        "1.3.6.1.4.1.9999.7.1.0": 1,
        f"{NAMES}.2.1": "a sensor",
        # Sensors that count revolutions, which is nothing that is read of a PDU.
        f"{SENSORS}.1.1": 10,
        f"{SENSORS}.4.1": 3200,
    }
    with Agent(objects) as agent, pytest.raises(UnknownDeviceError) as caught:
        poll(agent.target)
    told = str(caught.value)
    for hint in (
        "sysObjectID 1.3.6.1.4.1.9999",
        "sysDescr 'Toaster 9'",
        "1 objects of ENTITY-MIB",
        "1 objects of ENTITY-SENSOR-MIB (1 rpm)",
        "1.3.6.1.4.1.9999.7.1.0 as the first object of enterprise 9999",
        "entity_sensor fitted but found nothing",
        "apc_rpdu2",
        "docs/profiles.md",
    ):
        assert hint in told.replace("Entity_sensor", "entity_sensor")


def test_a_maker_s_profile_goes_before_the_standard_tables() -> None:
    objects: dict[str, Value] = {
        "1.3.6.1.2.1.1.1.0": "claims to be nothing",
        "1.3.6.1.2.1.1.2.0": (0, 0),
        f"{SENSORS}.1.1": 8,
        f"{SENSORS}.2.1": 9,
        f"{SENSORS}.3.1": 0,
        f"{SENSORS}.4.1": 24,
        f"{SENSORS}.5.1": 1,
    }
    power: dict[str, Value] = {
        "1.3.6.1.4.1.21239.5.2.3.1.1.5.1": 1,
        "1.3.6.1.4.1.21239.5.2.3.1.1.9.1": 1017,
    }
    for extra, profile in (({}, "entity_sensor"), (power, "vertiv")):
        with Agent(objects | extra) as agent:
            found = samples(poll(agent.target))
        assert [key[-1] for key in found if key[0] == "pdu.info"] == [profile]
