"""PDUs that are lossy, slow, broken, restarted or that lie."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.batch import Batch
from collector.read.snmp import plugin as snmp_plugin
from collector.read.snmp.discovery import UnknownDeviceError
from collector.read.snmp.session import SnmpError
from plugins.power.pdu_snmp import PduSnmp
from tests.fakes.snmp import GET, GET_BULK, Agent, Oid, Value
from tests.plugins.power.pdus import (
    PDU,
    PDU2,
    RPDU2,
    apc,
    failures,
    outlet,
    poll,
    poll_once,
    samples,
)

CLIENTS = ("gufo", "pysnmp")
OUTLETS = f"{RPDU2}.9.4.3.1"
CYBERPOWER = Path(__file__).parents[2] / "recorded/pdu_snmp/cyberpower/input/device.snmprec"


def after(agent: Agent, change: Callable[[], object], *, polls: int = 1, **config: Any) -> Batch:
    """Poll once, then change something, then poll again; return the last batch."""

    plugin = PduSnmp.model_validate({"target": agent.target, "name": "pdu1", **config})

    async def main() -> Batch:
        await plugin.open()
        try:
            first = await poll_once(plugin)
            while not first.keys:  # a busy machine discovers in several polls
                first = await poll_once(plugin)
            assert not first.errors
            change()
            for _ in range(polls):
                batch = await poll_once(plugin)
        finally:
            await plugin.close()
        return batch

    return asyncio.run(main())


@pytest.mark.parametrize("client", CLIENTS)
def test_unreachable(client):
    with Agent(apc()) as agent:
        agent.drop = lambda number: True
        with pytest.raises(TimeoutError):
            poll(agent.target, client=client, timeout=0.5)


@pytest.mark.parametrize("client", CLIENTS)
def test_goes_on_when_the_pdu_is_back(client):
    async def main() -> Any:
        plugin = PduSnmp(target=agent.target, name="pdu1", client=client, timeout=1)
        await plugin.open()
        wanted = samples(await poll_once(plugin))
        agent.drop = lambda number: True
        with pytest.raises(TimeoutError):
            await poll_once(plugin)
        agent.drop = lambda number: False
        assert samples(await poll_once(plugin)) == wanted
        await plugin.close()

    with Agent(apc()) as agent:
        asyncio.run(main())


@pytest.mark.parametrize("client", CLIENTS)
def test_lost_packets_are_asked_for_again(client):
    with Agent(apc(outlets=48)) as agent:
        wanted = samples(poll(agent.target))

        def lose() -> None:
            lost = iter([True, False, False, False, True])
            agent.drop = lambda number: next(lost, False)

        batch = after(agent, lose, client=client)
    assert samples(batch) == wanted
    assert not batch.errors


@pytest.mark.parametrize("client", CLIENTS)
def test_packets_lost_in_discovery_are_asked_for_again(client):
    with Agent(apc()) as agent:
        wanted = samples(poll(agent.target))
        agent.drop = lambda number: number % 9 == 8
        batch = poll(agent.target, times=8, client=client, timeout=1)
    assert samples(batch) == wanted


def test_half_an_answer_keeps_what_was_read():
    silent = tuple(map(int, f"{OUTLETS}.7.20".split(".")))
    with Agent(apc(outlets=48)) as agent:

        def fail() -> None:
            agent.drop = lambda number: silent in agent.requests[number][1]

        batch = after(agent, fail, timeout=1)
    found = samples(batch)
    assert found["pdu.power", "pdu1", "measured"] == 1140
    assert ("outlet.power", "pdu1", "20") not in found
    assert len([key for key in found if key[0] == "outlet.power"]) > 20
    assert list(failures(batch)) == [None]
    assert "not answered" in failures(batch)[None]


def test_slow_discovery_takes_several_polls():
    """A PDU that needs longer than a poll for its walks is read in the end."""

    async def main() -> Any:
        plugin = PduSnmp(target=agent.target, name="pdu1", timeout=1.5)
        await plugin.open()
        for unfinished in range(20):
            batch = await poll_once(plugin)
            if batch.keys:
                return unfinished, batch
            assert "discovery goes on" in failures(batch)[None]
        raise AssertionError("never finished")

    with Agent(apc()) as agent:
        agent.delay = 0.06
        unfinished, batch = asyncio.run(main())
    assert unfinished >= 1
    assert samples(batch)["pdu.power", "pdu1", "measured"] == 1140


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("limit", [1, 7, 39])
def test_too_big_is_asked_in_smaller_parts_from_then_on(client, limit):
    async def main() -> Any:
        plugin = PduSnmp(target=agent.target, name="pdu1", client=client)
        await plugin.open()
        assert samples(await poll_once(plugin)) == wanted
        agent.requests.clear()
        batch = await poll_once(plugin)
        assert samples(batch) == wanted
        assert not batch.errors
        assert all(len(oids) <= limit for _, oids in agent.requests)
        await plugin.close()

    with Agent(apc(outlets=30)) as agent:
        wanted = samples(poll(agent.target))
        agent.max_variables = max(limit, 3)  # discovery asks for three
        limit = agent.max_variables
        asyncio.run(main())


def test_one_object_that_breaks_the_agent_costs_only_itself():
    with Agent(apc(outlets=30)) as agent:
        bad = f"{OUTLETS}.7.5"
        batch = after(agent, lambda: agent.broken.add(bad))
    found = samples(batch)
    assert ("outlet.power", "pdu1", "5") not in found
    assert len([key for key in found if key[0] == "outlet.power"]) == 29
    assert failures(batch) == {outlet(5): "the device no longer has outlet.power"}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "garble",
    [
        lambda reply: b"\xff\xffjunk",
        lambda reply: reply[: len(reply) // 2],
        lambda reply: b"",
        lambda reply: b"0\x84\x7f\xff\xff\xff" + reply,  # claims to be 2 GB long
    ],
)
def test_garbage_is_a_failure(client, garble):
    with Agent(apc()) as agent:

        def fail() -> None:
            agent.garble = garble

        with pytest.raises((SnmpError, TimeoutError)):
            after(agent, fail, client=client, timeout=0.5)


def test_garbage_now_and_then_is_asked_again():
    with Agent(apc(outlets=30)) as agent:

        def fail() -> None:
            agent.garble = lambda reply: b"junk" if len(agent.requests) % 2 else reply

        batch = after(agent, fail)
    assert len([key for key in samples(batch) if key[0] == "outlet.power"]) == 30
    assert not batch.errors


class Circle(Agent):
    """Answers GETBULK with the same object again and again."""

    def _next(self, oid: Oid) -> tuple[Oid, bytes]:
        return super()._next(oid[:-1] if len(oid) > 15 else oid)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_walk_that_never_ends(client):
    with Circle(apc()) as agent, pytest.raises((SnmpError, UnknownDeviceError)):
        poll(agent.target, client=client)


class Old(Agent):
    """Does not answer GETBULKs of more than 5 repetitions."""

    def _reply(self, message: bytes) -> bytes | None:
        reply = super()._reply(message)
        return None if reply is None or self.last_repetitions > 5 else reply

    def _bulk(self, oids: list[Oid], non_repeaters: int, repetitions: int) -> bytes:
        self.last_repetitions = repetitions
        return super()._bulk(oids, non_repeaters, repetitions)

    last_repetitions = 0


@pytest.mark.parametrize("client", CLIENTS)
def test_old_agents_that_fall_silent_on_big_getbulks(client):
    with Old(apc(outlets=12)) as agent:
        batch = poll(agent.target, client=client, timeout=2)
    assert len([key for key in samples(batch) if key[0] == "outlet.power"]) == 12


@pytest.mark.parametrize("client", CLIENTS)
def test_agents_without_getbulk(client):
    with Agent(apc(outlets=2)) as agent:
        agent.drop = lambda number: agent.requests[number][0] == GET_BULK
        batch = poll(agent.target, times=4, client=client, timeout=4)
    assert len([key for key in samples(batch) if key[0] == "outlet.power"]) == 2


def test_a_profile_can_say_that_there_is_no_getbulk():
    with Agent(CYBERPOWER) as agent:
        assert samples(poll(agent.target, profile="cyberpower"))
        assert GET_BULK not in {kind for kind, _ in agent.requests}


def test_a_vanished_outlet_is_a_failure_once():
    with Agent(apc()) as agent:

        def unplug() -> None:
            for column in range(2, 12):
                agent.remove(f"{OUTLETS}.{column}.2")

        batch = after(agent, unplug)
        assert set(failures(batch)) == {outlet(2)}
        assert "outlet.power" in failures(batch)[outlet(2)]
        assert ("outlet.power", "pdu1", "3") in samples(batch)
    with Agent(apc()) as agent:
        batch = after(agent, unplug, polls=2)
        assert not batch.errors
        assert outlet(2) not in [link.child for link in batch.links]


def test_a_restarted_pdu_is_discovered_anew():
    with Agent(apc()) as agent:

        def restart() -> None:
            agent.set("1.3.6.1.2.1.1.3.0", ("timeticks", 7))
            agent.set(f"{OUTLETS}.3.1", "renamed")

        batch = after(agent, restart, polls=2)
    assert samples(batch)["outlet.info", "pdu1", "1", "renamed"] == 1


def test_discovery_is_repeated_after_a_while(monkeypatch):
    monkeypatch.setattr(snmp_plugin, "REDISCOVER", 0.0)
    with Agent(apc()) as agent:

        def plug() -> None:
            columns: dict[int, Value] = {2: 1, 3: "new", 4: 9, 6: 1, 7: 50, 11: 0}
            for column, value in columns.items():
                agent.set(f"{OUTLETS}.{column}.9", value)

        batch = after(agent, plug, polls=2)
    assert samples(batch)["outlet.power", "pdu1", "9"] == 50


@pytest.mark.parametrize(
    ("column", "raw", "metric", "words"),
    [
        (7, 65535, "outlet.power", "65535"),
        (7, 3000, "outlet.power", "at 2 A"),  # outlet 2 draws 2 A
        (7, -7, "outlet.power", "-7"),
        (6, -20, "outlet.current", "-2"),
        (6, 65535, "outlet.current", "6553.5"),
        (11, -2, "outlet.energy", "-720000"),
        (7, "hello", "outlet.power", "hello"),
        (7, b"\xff" * 1000, "outlet.power", "no number"),
        (7, "nan", "outlet.power", "nan"),
        (7, "1e400", "outlet.power", "inf"),
    ],
)
def test_what_cannot_be_is_dropped_and_reported(column, raw, metric, words):
    with Agent(apc()) as agent:
        batch = after(agent, lambda: agent.set(f"{OUTLETS}.{column}.2", raw))
    found = samples(batch)
    assert (metric, "pdu1", "2") not in found
    assert (metric, "pdu1", "1") in found
    assert found["pdu.power", "pdu1", "measured"] == 1140
    assert list(failures(batch)) == [outlet(2)]
    assert metric in failures(batch)[outlet(2)]
    assert words in failures(batch)[outlet(2)]


@pytest.mark.parametrize("raw", [-1, "-1"])
def test_not_available_is_absent_and_no_failure(raw):
    with Agent(apc()) as agent:
        batch = after(agent, lambda: agent.set(f"{OUTLETS}.7.2", raw))
    assert ("outlet.power", "pdu1", "2") not in samples(batch)
    assert (raw == -1) == (not batch.errors)


def test_a_sensor_without_a_reading_is_no_zero():
    """Raritan gives 0 with the state unavailable."""
    objects: dict[str, Value] = {
        "1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 13742, 6),
        f"{PDU2}.5.2.3.1.4.1.1.5": 500,
        f"{PDU2}.5.2.3.1.3.1.1.5": 4,
        f"{PDU2}.3.3.4.1.7.1.1.5": 0,
    }
    for number in (1, 2):
        objects |= {
            f"{PDU2}.5.4.3.1.4.1.{number}.5": 0,
            f"{PDU2}.5.4.3.1.3.1.{number}.5": 4,
            f"{PDU2}.3.5.4.1.7.1.{number}.5": 0,
        }
    with Agent(objects) as agent:
        batch = after(agent, lambda: agent.set(f"{PDU2}.5.4.3.1.3.1.2.5", -1))
        assert not batch.errors
        found = {key: value for key, value in samples(batch).items() if key[0] == "outlet.power"}
        assert found == {("outlet.power", "pdu1", "1"): 0}
        batch = after(agent, lambda: agent.set(f"{PDU2}.5.2.3.1.4.1.1.5", ("gauge", 2**32 - 5)))
    assert not [key for key in samples(batch) if key[0] in ("inlet.power", "pdu.power")]
    assert [str(entity) for entity in failures(batch)] == ["inlet:pdu1/1"]


def test_unknown_state_is_a_failure():
    with Agent(apc()) as agent:
        batch = after(agent, lambda: agent.set(f"{RPDU2}.4.3.1.4.1", 77))
    assert "77" in failures(batch)[PDU]
    assert not [key for key in samples(batch) if key[0] == "pdu.load_state"]


def test_a_reset_energy_counter_does_not_fall():
    with Agent(apc()) as agent:
        batch = after(agent, lambda: agent.set(f"{OUTLETS}.11.2", 0))
        assert ("outlet.energy", "pdu1", "2") not in samples(batch), "in doubt until confirmed"
        assert not batch.errors
        agent.set(f"{OUTLETS}.11.2", 200)
        batch = after(agent, lambda: agent.set(f"{OUTLETS}.11.2", 0), polls=2)
    assert samples(batch)["outlet.energy", "pdu1", "2"] == 20 * 3.6e6


def test_only_the_second_kind_of_request_is_a_get():
    """Guards the tests above: they would prove nothing if polls walked."""
    with Agent(apc()) as agent:
        after(agent, agent.requests.clear)
    assert {kind for kind, _ in agent.requests} == {GET}
