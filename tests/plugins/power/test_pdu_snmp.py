"""Whole polls over UDP, by both clients, against recorded PDUs with known values."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.catalog import power
from collector.entity import Kind
from collector.plugin import load
from collector.read.snmp.discovery import UnknownDeviceError
from plugins.power.pdu_snmp import PduSnmp
from tests.data import data
from tests.fakes.snmp import GET, Agent, Value
from tests.plugins.power.pdus import (
    PDU,
    PDU2,
    RPDU2,
    apc,
    outlet,
    poll,
    poll_once,
    samples,
)

CLIENTS = ("gufo", "pysnmp")


def test_idle_outlets_of_a_px3_have_no_power_factor() -> None:
    with Agent(data("snmp/walks/raritan-pdu_px3.snmprec")) as agent:
        found = samples(poll(agent.target))
    factors = {key[2] for key in found if key[0] == "outlet.power_factor"}
    loaded = {key[2] for key, amperes in found.items() if key[0] == "outlet.current" and amperes}
    assert factors == loaded
    assert len(loaded) == 9


def test_total_of_a_raritan_is_the_sum_of_its_inlets() -> None:
    with Agent(data("snmp/walks/raritan-pdu_px3.snmprec")) as agent:
        found = samples(poll(agent.target))
    assert found["pdu.power", "pdu1", "sum"] == 1665
    assert found["pdu.energy", "pdu1"] == 74057676 * 3600


def test_what_a_pdu_is_and_what_hangs_on_it() -> None:
    with Agent(apc()) as agent:
        batch = poll(agent.target)
    found = samples(batch)
    assert found["pdu.info", "pdu1", "APC", "AP8959", "ZA1", "v6.8.0", "apc_rpdu2"] == 1
    assert found["outlet.info", "pdu1", "2", "server 2"] == 1
    assert found["pdu.load_state", "pdu1", "normal"] == 1
    assert found["pdu.load_state", "pdu1", "overload"] == 0
    assert (outlet(3), PDU) in [(link.child, link.parent) for link in batch.links]


def test_daisy_chained_units_are_pdus_of_their_own() -> None:
    objects = apc(outlets=2)
    objects |= {f"{RPDU2}.4.3.1.2.2": 2, f"{RPDU2}.4.3.1.5.2": 50}
    objects |= {f"{RPDU2}.9.4.3.1.2.2": 2, f"{RPDU2}.9.4.3.1.4.2": 1}
    with Agent(objects) as agent:
        batch = poll(agent.target)
    found = samples(batch)
    assert found["pdu.power", "pdu1", "measured"] == 1140
    assert found["pdu.power", "pdu1/2", "measured"] == 500
    assert found["outlet.power", "pdu1/2", "1"] == 400
    parents = {link.child: link.parent for link in batch.links}
    assert parents[Kind.OUTLET("pdu1/2", "1")] == Kind.PDU("pdu1/2")


def test_a_sum_of_phases_stands_in_for_a_missing_total() -> None:
    objects = apc()
    objects[f"{RPDU2}.4.3.1.5.1"] = -1
    for phase, kilowatts in ((1, 50), (2, 60), (3, 70)):
        objects |= {f"{RPDU2}.6.3.1.3.{phase}": phase, f"{RPDU2}.6.3.1.7.{phase}": kilowatts}
    with Agent(objects) as agent:
        found = samples(poll(agent.target))
        assert found["pdu.power", "pdu1", "sum"] == 1800
        agent.set(f"{RPDU2}.6.3.1.7.2", -1)
        found = samples(poll(agent.target))
        assert not [key for key in found if key[0] == "pdu.power"], "a partial sum is no total"


def test_fahrenheit_probes() -> None:
    objects = apc() | {
        "1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 13742, 6),
        f"{PDU2}.5.2.3.1.4.1.1.1": 4000,
        f"{PDU2}.3.3.4.1.7.1.1.1": 3,
    }
    for number, (kind, unit, digits, value) in enumerate(
        [(10, 14, 1, 752), (10, 7, 1, 231), (11, 9, 0, 45), (10, 99, 0, 5), (43, -1, 0, 0)], start=1
    ):
        objects |= {
            f"{PDU2}.5.5.3.1.4.1.{number}": value,
            f"{PDU2}.3.6.3.1.2.1.{number}": kind,
            f"{PDU2}.3.6.3.1.16.1.{number}": unit,
            f"{PDU2}.3.6.3.1.17.1.{number}": ("gauge", digits),
        }
    with Agent(objects) as agent:
        found = samples(poll(agent.target))
    probes = {key: value for key, value in found.items() if key[0].startswith("environment")}
    assert probes == pytest.approx(
        {
            ("environment.temperature", "pdu1", "1"): 24.0,
            ("environment.temperature", "pdu1", "2"): 23.1,
            ("environment.humidity", "pdu1", "3"): 0.45,
        }
    )


def test_only_what_is_needed_is_asked() -> None:
    async def main(agent: Agent) -> None:
        plugin = PduSnmp(target=agent.target)
        await plugin.open()
        await poll_once(plugin)
        agent.requests.clear()
        await poll_once(plugin)
        await plugin.close()

    with Agent(apc(outlets=24)) as agent:
        asyncio.run(main(agent))
    assert [kind for kind, _ in agent.requests] == [GET, GET]
    assert sum(len(oids) for _, oids in agent.requests) == 24 * 3 + 5


@pytest.mark.parametrize(
    ("object_id", "descr"),
    [
        ((1, 3, 6, 1, 4, 1, 318, 1, 3, 4, 6), ""),
        ((0, 10, 43, 6, 1, 4, 1), "APC (PN:apc_hw05_aos_640.bin AN1:apc_hw05_rpdu2g_640.bin)"),
        ("1.3.6.1.4.1.318.1.3.4.6", ""),  # sent as text by some agents
        ((0, 0), "nothing that tells"),
        ((1, 3, 6, 1, 4, 1, 13742, 6), "claims to be another"),
    ],
)
def test_recognition(object_id: Any, descr: str) -> None:
    objects = apc() | {"1.3.6.1.2.1.1.2.0": object_id, "1.3.6.1.2.1.1.1.0": descr}
    with Agent(objects) as agent:
        found = samples(poll(agent.target))
    assert [key[-1] for key in found if key[0] == "pdu.info"] == ["apc_rpdu2"]


def test_unknown_device_tells_what_it_is_and_what_to_do() -> None:
    objects: dict[str, Value] = {
        "1.3.6.1.2.1.1.1.0": "Toaster 9",
        "1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 9999),
    }
    with Agent(objects) as agent, pytest.raises(UnknownDeviceError) as caught:
        poll(agent.target)
    for hint in ("1.3.6.1.4.1.9999", "Toaster 9", "apc_rpdu2", "profile"):
        assert hint in str(caught.value)


def test_a_profile_of_the_users_own(tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text(
        """
        source = "the manual"
        match = { probe = "1.3.6.1.4.1.9999.1" }
        info = { vendor = "ACME", model = "1.3.6.1.4.1.9999.3" }
        [[table]]
        entity = "outlet"
        entry = "1.3.6.1.4.1.9999.1"
        index = "tower.feed.n"
        key = "{tower}.{feed}.{n}"
        missing = ["n/a"]
        values = [{ metric = "outlet.power", column = 4, unit = "kW", scale = 0.001 }]
        """
    )
    objects = {
        "1.3.6.1.4.1.9999.1.4.1.1.1": "23.5",
        "1.3.6.1.4.1.9999.1.4.2.1.7": "n/a",
        "1.3.6.1.4.1.9999.3.0": "Toaster",
    }
    with Agent(objects) as agent:
        found = samples(poll(agent.target, profile=str(profile)))
    assert found == {
        ("outlet.power", "pdu1", "1.1.1"): 23.5,
        ("pdu.info", "pdu1", "ACME", "Toaster", "", "", "mine"): 1,
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_record_replays_to_the_same_samples(client: Any, tmp_path: Path) -> None:
    with Agent(data("snmp/walks/raritan-pdu_px3.snmprec")) as agent:
        plugin = PduSnmp(target=agent.target, name="pdu1", client=client)
        asyncio.run(plugin.record(tmp_path))
        wanted = samples(poll(agent.target))
    recorded = tmp_path / "input" / "device.snmprec"
    with Agent(recorded) as agent:
        assert samples(poll(agent.target)) == wanted
    assert len(recorded.read_text().splitlines()) < 1000, "not a walk of the whole agent"


def test_polling_goes_on_after_close_and_open() -> None:
    async def main(target: str) -> None:
        plugin = PduSnmp(target=target, name="pdu1")
        for _ in range(2):
            await plugin.open()
            batch = await poll_once(plugin)
            assert samples(batch)["pdu.power", "pdu1", "measured"] == 1140
            await plugin.close()

    with Agent(apc()) as agent:
        asyncio.run(main(agent.target))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "target"),
        ({"target": "pdu:99999"}, "no port"),
        ({"target": "pdu", "version": "3"}, "needs user"),
        ({"target": "pdu", "version": "3", "user": "u", "auth_protocol": "SHA"}, "auth_password"),
        (
            {
                "target": "pdu",
                "version": "3",
                "user": "u",
                "priv_protocol": "AES",
                "priv_password": "p",
            },
            "needs auth_protocol",
        ),
        ({"target": "pdu", "profile": "apc_rpdu3"}, "apc_rpdu2"),
        ({"target": "pdu", "profile": "/nowhere/x.toml"}, "/nowhere/x.toml"),
        ({"target": "pdu", "comunity": "x"}, "comunity"),
    ],
)
def test_config_errors_name_the_mend(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PduSnmp.model_validate(config)


@pytest.mark.parametrize(
    ("target", "name", "address"),
    [
        ("pdu-a12", "pdu-a12", ("pdu-a12", 161)),
        ("10.0.0.7:1161", "10.0.0.7", ("10.0.0.7", 1161)),
        ("[fd00::7]:1161", "fd00::7", ("fd00::7", 1161)),
        ("[fd00::7]", "fd00::7", ("fd00::7", 161)),
        ("fd00::7", "fd00::7", ("fd00::7", 161)),
    ],
)
def test_targets(target: str, name: str, address: tuple[str, int]) -> None:
    plugin = PduSnmp(target=target)
    assert (plugin.name, plugin._address()) == (name, address)


def test_community_is_not_shown() -> None:
    plugin = PduSnmp.model_validate({"target": "pdu", "community": "hush"})
    shown = f"{plugin!r} {plugin.model_dump(mode='json')} {plugin.model_dump_json()}"
    assert "hush" not in shown


def test_wrong_community_is_no_answer() -> None:
    with Agent(apc(), community="secret") as agent:
        assert samples(poll(agent.target, community="secret"))
        with pytest.raises(TimeoutError):
            poll(agent.target, community="public", timeout=0.5)


def test_plugin_is_found_by_its_name() -> None:
    assert load("pdu_snmp") is PduSnmp
    assert power.OUTLET_POWER in PduSnmp.metrics


def test_target_by_name() -> None:
    with Agent(apc()) as agent:
        port = agent.target.rpartition(":")[2]
        assert samples(poll(f"localhost:{port}"))
