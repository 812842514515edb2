"""SNMP notifications: of net-snmp's own senders, by hand, and garbage."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Batch, Event, Severity
from collector.entity import Kind
from collector.secret import Secret
from plugins.power import _snmp_traps, snmp_trap
from plugins.power.snmp_trap import SnmpTrap, TrapUser
from tests.fakes.snmp import SEQUENCE, encode, encode_integer, encode_oid, parse_oid, tlv

APC = "1.3.6.1.4.1.318"
UPTIME = "1.3.6.1.2.1.1.3.0"
TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"
SENDER = "0x80001f8801020304"
USERS = [
    {"name": "open"},
    {"name": "md", "auth_protocol": "MD5", "auth_password": "authentic"},
    {
        "name": "sha",
        "auth_protocol": "SHA",
        "auth_password": "authentic",
        "priv_protocol": "AES",
        "priv_password": "encrypted",
    },
    {
        "name": "bound",
        "auth_protocol": "SHA256",
        "auth_password": "authentic",
        "priv_protocol": "AES256",
        "priv_password": "encrypted",
        "engine_id": SENDER,
    },
]
needs_net_snmp = pytest.mark.skipif(
    shutil.which("snmptrap") is None or shutil.which("snmpinform") is None,
    reason="no snmptrap: install the Debian package snmp",
)


@contextlib.asynccontextmanager
async def receiver(**config: Any) -> AsyncIterator[SnmpTrap]:
    plugin = SnmpTrap.model_validate({"listen_address": "127.0.0.1:0", **config})
    await plugin.open()
    try:
        yield plugin
    finally:
        await plugin.close()


async def worked_on(plugin: SnmpTrap, datagrams: int) -> None:
    async with asyncio.timeout(60):
        while plugin.received < datagrams:
            await asyncio.sleep(0.005)


async def poll(plugin: SnmpTrap) -> tuple[list[Event], dict[str, float]]:
    batch = Batch(Kind.HOST("node1"), 0.0, plugin.metrics)
    await plugin.poll(batch)
    return batch.events, {
        key.labels[0]: value for key, value in zip(batch.keys, batch.values, strict=True)
    }


def trap(oid: str, *variables: tuple[str, object], community: str = "public") -> bytes:
    """A trap of version 2c."""
    told = ((UPTIME, ("timeticks", 4711)), (TRAP_OID, parse_oid(oid)), *variables)
    body = b"".join(
        tlv(SEQUENCE, encode_oid(parse_oid(name)) + encode(value))  # type: ignore[arg-type]
        for name, value in told
    )
    pdu = tlv(0xA7, encode_integer(1) * 1 + encode_integer(0) * 2 + tlv(SEQUENCE, body))
    return tlv(SEQUENCE, encode_integer(1) + encode(community) + pdu)


def send(plugin: SnmpTrap, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", plugin.port))


def received(*datagrams: bytes, **config: Any) -> tuple[list[Event], dict[str, float]]:
    async def main() -> tuple[list[Event], dict[str, float]]:
        async with receiver(**config) as plugin:
            send(plugin, *datagrams)
            await worked_on(plugin, len(datagrams))
            return await poll(plugin)

    return asyncio.run(main())


@needs_net_snmp
class TestNetSnmp:
    def told(
        self, command: str, *arguments: str, ends: int = 0, **config: Any
    ) -> tuple[list[Event], dict[str, float]]:
        """Run a sender and return what came of it."""

        async def main() -> tuple[list[Event], dict[str, float]]:
            async with receiver(users=USERS, **config) as plugin:
                at = arguments.index("TARGET")
                target = f"127.0.0.1:{plugin.port}"
                sender = await asyncio.create_subprocess_exec(
                    command, *arguments[:at], target, *arguments[at + 1 :]
                )
                assert await sender.wait() == ends
                await worked_on(plugin, 1)
                return await poll(plugin)

        return asyncio.run(main())

    VARIABLE = (f"{APC}.2.3.3.0", "s", "Rack PDU: Device overload.")

    def test_version_1(self) -> None:
        (event,), counters = self.told(
            "snmptrap", "-v1", "-c", "public", "TARGET", APC, "10.1.1.1", "6", "276", "4711",
            *self.VARIABLE,
        )  # fmt: skip
        assert event.name == "snmp.trap"
        assert event.entity == Kind.PDU("127.0.0.1")
        assert event.severity is Severity.ERROR
        assert event.text == "rPDUOverload: Rack PDU: Device overload."
        attributes = dict(event.attributes)
        assert attributes["snmp.trap.oid"] == f"{APC}.0.276"
        assert attributes[f"{APC}.2.3.3.0"] == "Rack PDU: Device overload."
        assert "public" not in str(event)  # the community is a secret
        assert counters == {"rPDUOverload": 1.0}

    def test_version_1_of_a_relay_is_of_the_agent_that_it_names(self) -> None:
        arguments = ("TARGET", APC, "10.1.1.1", "6", "276", "4711", *self.VARIABLE)
        (event,), _ = self.told(
            "snmptrap", "-v1", "-c", "public", *arguments, pdus={"10.1.1.1": "pdu-a12"}
        )
        assert event.entity == Kind.PDU("pdu-a12")

    def test_generic_trap_of_version_1(self) -> None:
        (event,), _ = self.told(
            "snmptrap", "-v1", "-c", "public", "TARGET", APC, "10.1.1.1", "2", "0", "4711"
        )
        assert (event.text, event.severity) == ("linkDown", Severity.WARN)

    def test_version_2c(self) -> None:
        (event,), _ = self.told(
            "snmptrap", "-v2c", "-c", "public", "TARGET", "", f"{APC}.0.277", *self.VARIABLE
        )
        assert event.severity is Severity.INFO
        assert event.text.startswith("rPDUOverloadCleared: ")

    def test_an_inform_is_answered(self) -> None:
        (event,), _ = self.told(
            "snmpinform", "-v2c", "-c", "public", "-r0", "-t20", "TARGET", "", "1.3.6.1.6.3.1.1.5.1"
        )  # fmt: skip
        assert event.text == "coldStart"

    def test_an_inform_of_a_wrong_community_is_not(self) -> None:
        events, counters = self.told(
            "snmpinform", "-v2c", "-c", "wrong", "-r0", "-t0.2", "TARGET", "", "1.3.6.1.6.3.1.1.5.1", ends=1
        )  # fmt: skip
        assert (events, counters) == ([], {"community": 1.0})

    SHA = ("-l", "authPriv", "-a", "SHA", "-A", "authentic", "-x", "AES", "-X", "encrypted")
    BOUND = (
        "-l", "authPriv", "-a", "SHA-256", "-A", "authentic", "-x", "AES-256", "-X", "encrypted",
    )  # fmt: skip
    MD5 = ("-l", "authNoPriv", "-a", "MD5", "-A", "authentic")

    @pytest.mark.parametrize(
        ("user", "how"),
        [("open", ("-l", "noAuthNoPriv")), ("md", MD5), ("sha", SHA), ("bound", BOUND)],
    )
    def test_version_3(self, user: str, how: Sequence[str]) -> None:
        (event,), _ = self.told(
            "snmptrap", "-v3", "-e", SENDER, "-u", user, *how, "TARGET", "", f"{APC}.0.276"
        )
        assert event.text == "rPDUOverload"

    def test_an_inform_of_version_3_is_answered(self) -> None:
        (event,), counters = self.told(
            "snmpinform", "-v3", "-r0", "-t20", "-u", "sha", *self.SHA, "TARGET", "", f"{APC}.0.276"
        )
        assert event.text == "rPDUOverload"
        assert counters == {"rPDUOverload": 1.0}  # the discovery of the engine is no drop

    @pytest.mark.parametrize(
        ("user", "sender", "how"),
        [
            ("nobody", SENDER, MD5),
            ("md", SENDER, (*MD5[:-1], "guessed-it")),
            ("sha", SENDER, ("-l", "noAuthNoPriv")),
            ("sha", SENDER, ("-l", "authNoPriv", "-a", "SHA", "-A", "authentic")),
            ("bound", "0x80001f8809090909", BOUND),
        ],
        ids=["unknown", "password", "unauthenticated", "unencrypted", "engine"],
    )
    def test_version_3_is_refused(self, user: str, sender: str, how: Sequence[str]) -> None:
        events, counters = self.told(
            "snmptrap", "-v3", "-e", sender, "-u", user, *how, "TARGET", "", f"{APC}.0.276"
        )
        assert (events, counters) == ([], {"user": 1.0})

    def test_who_fails_is_not_remembered(self) -> None:
        async def main() -> None:
            async with receiver(users=USERS) as plugin:
                for number, password in enumerate(("guessed-it", "authentic")):
                    sender = await asyncio.create_subprocess_exec(
                        "snmptrap", "-v3", "-e", SENDER, "-u", "md", *self.MD5[:-1], password,
                        f"127.0.0.1:{plugin.port}", "", f"{APC}.0.276",
                    )  # fmt: skip
                    await sender.wait()
                    await worked_on(plugin, number + 1)
                    assert plugin._receiver is not None
                    assert len(plugin._receiver._senders) == number
                assert len((await poll(plugin))[0]) == 1

        asyncio.run(main())


class TestEvents:
    def test_devices_have_their_names(self) -> None:
        events, _ = received(trap(f"{APC}.0.306"), cooling_units={"127.0.0.1": "inrow-3"})
        assert events[0].entity == Kind.COOLING_UNIT("inrow-3")
        assert events[0].text == "airCriticalCondition"

    def test_an_unknown_trap_is_a_warning_that_tells_all(self) -> None:
        variables = (("1.3.6.1.4.1.9.1.0", b"\x00\xff"), ("1.3.6.1.4.1.9.2.0", "text"))
        (event,), counters = received(trap("1.3.6.1.4.1.9.0.7", *variables))
        assert event.severity is Severity.WARN
        assert event.text == "1.3.6.1.4.1.9.0.7: 0x00ff, text"
        assert dict(event.attributes)["1.3.6.1.4.1.9.1.0"] == "0x00ff"
        assert counters == {"unknown": 1.0}

    @pytest.mark.parametrize(("told", "severity"), [(0, "INFO"), (1, "ERROR"), (7, "ERROR")])
    def test_some_traps_tell_their_severity(self, told: int, severity: str) -> None:
        (event,), _ = received(
            trap("1.3.6.1.4.1.1718.4.100.0.8", ("1.3.6.1.4.1.1718.4.1.99.2.0", told))
        )
        assert event.severity is Severity[severity]

    def test_sizes_are_bounded(self) -> None:
        variables = tuple((f"1.3.6.1.4.1.9.{n}.0", "x" * 500) for n in range(60))
        (event,), _ = received(trap("1.3.6.1.4.1.9.0.7", *variables))
        assert len(event.attributes) < 40
        assert max(len(value) for _, value in event.attributes) == 200
        assert len(event.text) < 1000

    def test_more_than_fits_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snmp_trap, "WAITING", 3)
        events, counters = received(*[trap(f"{APC}.0.276")] * 5)
        assert len(events) == 3
        assert counters == {"rPDUOverload": 3.0, "full": 2.0}

    def test_counters_go_on_and_events_are_told_once(self) -> None:
        async def main() -> None:
            async with receiver() as plugin:
                for number in (1, 2):
                    send(plugin, trap(f"{APC}.0.276"))
                    await worked_on(plugin, number)
                    events, counters = await poll(plugin)
                    assert len(events) == 1
                    assert counters == {"rPDUOverload": float(number)}
                assert (await poll(plugin))[0] == []

        asyncio.run(main())


class TestGarbage:
    GOOD = trap(f"{APC}.0.276", (f"{APC}.2.3.3.0", "overload"))

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=200),
                st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(
                    lambda at: (
                        TestGarbage.GOOD[: at[0]] + bytes([at[1]]) + TestGarbage.GOOD[at[0] + 1 :]
                    )
                ),
                st.integers(1, len(GOOD) - 1).map(lambda at: TestGarbage.GOOD[:at]),
            ).filter(len),
            max_size=30,
        )
    )
    def test_never_stops_the_receiver(self, datagrams: list[bytes]) -> None:
        events, counters = received(*datagrams, self.GOOD, users=USERS[:2])
        assert sum(counters.values()) == len(datagrams) + 1
        assert events[-1].text == "rPDUOverload: overload"

    def test_a_version_3_header_of_garbage(self) -> None:
        header = tlv(SEQUENCE, encode_integer(3) + tlv(SEQUENCE, b"\x02\x01\x01") + b"\x04\x00")
        events, counters = received(header, self.GOOD, users=USERS)
        assert len(events) == 1
        assert counters["malformed"] == 1.0

    def test_a_get_request_is_no_notification(self) -> None:
        datagram = self.GOOD.replace(b"\xa7", b"\xa0", 1)
        events, counters = received(datagram)
        assert (events, counters) == ([], {"malformed": 1.0})


class TestConfig:
    @pytest.mark.parametrize("address", ["162", "host:162", "0.0.0.0:99999", "0.0.0.0:x"])
    def test_an_address_is_checked(self, address: str) -> None:
        with pytest.raises(ValueError, match="listen_address"):
            SnmpTrap(listen_address=address)

    def test_devices_are_addresses(self) -> None:
        with pytest.raises(ValueError, match="pdus"):
            SnmpTrap(pdus={"pdu-a12": "pdu-a12"})
        assert SnmpTrap(pdus={"::FFFF:10.0.0.1": "a"}).pdus == {"10.0.0.1": "a"}

    def test_passwords_and_protocols_go_together(self) -> None:
        with pytest.raises(ValueError, match="auth_protocol and auth_password"):
            TrapUser(name="x", auth_protocol="SHA")
        with pytest.raises(ValueError, match="priv_protocol needs auth_protocol"):
            TrapUser(name="x", priv_protocol="AES", priv_password=Secret(value="secret"))

    def test_a_port_in_use_is_said_with_the_mend(self) -> None:
        async def main() -> None:
            async with receiver() as first:
                second = SnmpTrap(listen_address=f"127.0.0.1:{first.port}")
                with pytest.raises(OSError, match=r"cannot listen on .*set listen_address"):
                    await second.open()
                await second.close()

        asyncio.run(main())

    def test_a_low_port_needs_a_capability(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "bind", refuse)
        with pytest.raises(PermissionError, match="CAP_NET_BIND_SERVICE"):
            asyncio.run(SnmpTrap().open())


class TestTable:
    def test_names_are_unique_and_numbers_read(self) -> None:
        known = _snmp_traps.known()
        assert len({trap.name for trap in known.values()}) == len(known)
        assert _snmp_traps.UNKNOWN not in {trap.name for trap in known.values()}

    @pytest.mark.parametrize("oid", ["1.3.6.1.2.1.33.2.1", "1.3.6.1.2.1.33.2.0.1"])
    def test_both_forms_of_a_number(self, oid: str) -> None:
        """RFC 3584, section 3.1: version 1 puts a zero before the number."""
        assert _snmp_traps.look_up(oid, ()) == ("upsTrapOnBattery", Severity.ERROR)


def test_the_table_stands_beside_the_module() -> None:
    assert Path(_snmp_traps.__file__).with_suffix(".toml").exists()
