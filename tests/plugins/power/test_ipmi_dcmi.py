"""Power by IPMI DCMI: the real tools against a BMC on loopback, and executables in their place."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collector.batch import Batch
from collector.entity import Kind
from collector.secret import Secret
from plugins.power import ipmi_dcmi
from plugins.power.ipmi_dcmi import IpmiDcmi, inlets, watts
from tests.fakes import ipmi
from tests.fakes.bmc import Bmc

TOOLS = ["ipmi-dcmi", "ipmitool"]
NODE = Kind.HOST("node1")
FREEIPMI = """\
Current Power                        : {watts} Watts
Minimum Power over sampling duration : 82 watts
Power Measurement                    : {state}
"""
IPMITOOL = """
    Instantaneous power reading:              {watts:8} Watts
    Minimum during sampling period:                 82 Watts
    Power reading state is:                   {state}

"""
ACTIVE = {"ipmi-dcmi": (FREEIPMI, "Active"), "ipmitool": (IPMITOOL, "activated")}
INLET = (
    "\tEntity ID\t\t\tEntity Instance\t   Temp. Readings\nInlet air temperature(40h)\t\t1\t\t{} C\n"
)


async def read(plugin: IpmiDcmi) -> tuple[dict[tuple[str, str, str], float], list[str]]:
    batch = Batch(NODE, 0.0, plugin.metrics)
    await plugin.poll(batch)
    return {
        (key.metric.name, str(key.entity), key.labels[0]): value
        for key, value in zip(batch.keys, batch.values, strict=True)
    }, [str(error) for _, error in batch.errors]


def here(**fields: Any) -> tuple[dict[tuple[str, str, str], float], list[str]]:
    return asyncio.run(read(IpmiDcmi(**fields)))


async def _there(bmc: Bmc, **fields: Any) -> tuple[dict[tuple[str, str, str], float], list[str]]:
    given = {"host": "node2", "user": "probe", "password": "secret", "timeout": 30.0, **fields}
    async with bmc:
        return await read(IpmiDcmi(target=bmc.target, cipher_suite=1, **given))


def there(
    bmc: Bmc, tool: str, **fields: Any
) -> tuple[dict[tuple[str, str, str], float], list[str]]:
    if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip(f"no {tool}: install the Debian packages freeipmi-tools and ipmitool")
    return asyncio.run(_there(bmc, tool=tool, **fields))


@pytest.mark.parametrize("tool", TOOLS)
class TestTheRealTools:
    def test_a_bmc_on_the_network_is_read(self, tool: str) -> None:
        values, errors = there(Bmc("probe", "secret", 164, inlets=(21, -3)), tool)
        assert values.pop(("host.input_power", "host:node2", "dcmi")) == 164.0
        assert errors == []
        expected = {1: 21.0, 2: -3.0} if tool == "ipmitool" else {}
        assert values == {
            ("host.inlet.temperature", "host:node2", f"dcmi inlet {n}"): degrees
            for n, degrees in expected.items()
        }

    def test_only_reads_and_the_session_are_asked_for(self, tool: str) -> None:
        bmc = Bmc("probe", "secret", inlets=(21,))
        there(bmc, tool)
        # Get Device ID, capabilities and session (application); capabilities, properties of the
        # vendors' groups, power, temperature (group extension).
        assert set(bmc.commands) <= {
            *((0x06, command) for command in (0x01, 0x38, 0x3B, 0x3C)),
            *((0x2C, command) for command in (0x00, 0x02, 0x10, 0x3E)),
        }
        assert (0x2C, 0x02) in bmc.commands

    @pytest.mark.parametrize("password", ["a#b", '"q"', "a\\b", "#x", "b'c", "$HOME;`id`"])
    def test_passwords_are_given_as_they_are(self, tool: str, password: str) -> None:
        values, _ = there(Bmc("probe", password), tool, password=password)
        assert values[("host.input_power", "host:node2", "dcmi")] == 164.0

    @pytest.mark.parametrize(
        ("bmc", "error", "mend"),
        [
            (Bmc("probe", "other"), OSError, "check the address, user, password"),
            (Bmc("other", "secret"), OSError, "check the address, user, password"),
            (Bmc("probe", "secret", watts=None), OSError, "no DCMI power reading: try the plugin"),
        ],
    )
    def test_what_went_wrong_is_said(
        self, tool: str, bmc: Bmc, error: type[Exception], mend: str
    ) -> None:
        with pytest.raises(error, match=mend) as raised:
            there(bmc, tool)
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize(
        ("bmc", "said"),
        [
            (Bmc("probe", "secret", 0, active=False), "power monitoring on in the BMC's settings"),
            (Bmc("probe", "secret", 164, active=False), "power measurement is not active"),
            (Bmc("probe", "secret", 0), "tells 0 W, which is no reading"),
            (Bmc("probe", "secret", 0xFFFF), "tells 65535 W, which is no reading"),
        ],
    )
    def test_what_is_no_reading_is_absent(self, tool: str, bmc: Bmc, said: str) -> None:
        values, errors = there(bmc, tool)
        assert values == {}
        assert len(errors) == 1
        assert said in errors[0]

    def test_a_host_without_a_bmc_is_told_which_modules_to_load(self, tool: str) -> None:
        if any(Path(device).exists() for device in ipmi_dcmi.DEVICES):
            pytest.skip("this host has a BMC")
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"no {tool}")
        with pytest.raises(OSError, match="load the kernel modules ipmi_si"):
            here(tool=tool)


@pytest.mark.parametrize("tool", TOOLS)
@given(number=st.integers(min_value=1, max_value=0xFFFE))
def test_all_that_can_be_told_is_read(tool: str, number: int) -> None:
    text, active = ACTIVE[tool]
    assert watts(tool, text.format(watts=number, state=active)) == number


@pytest.mark.parametrize("tool", TOOLS)
@given(said=st.text() | st.sampled_from([FREEIPMI, IPMITOOL]))
def test_garbage_is_no_reading(tool: str, said: str) -> None:
    with pytest.raises(ValueError, match=tool):
        watts(tool, said)
    assert inlets(said) == {}


@given(degrees=st.integers(min_value=-127, max_value=127))
def test_127_degrees_are_no_reading(degrees: int) -> None:
    expected = {1: float(degrees)} if abs(degrees) < 127 else {}
    assert inlets(INLET.format(f"{degrees:+}")) == expected


class TestWhatIsRun:
    def test_freeipmi_goes_before_ipmitool(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        power = {tool: tmp_path / tool for tool in TOOLS}
        power["ipmi-dcmi"].write_text(FREEIPMI.format(watts=100, state="Active"))
        power["ipmitool"].write_text(IPMITOOL.format(watts=200, state="activated"))
        scripts = {tool.replace("-", "_"): ipmi.saying(path) for tool, path in power.items()}
        ipmi.install(tmp_path / "bin", monkeypatch, **scripts)
        key = ("host.input_power", "host:node1", "dcmi")
        assert here(inlet=False) == ({key: 100.0}, [])
        assert here(inlet=False, tool="ipmitool") == ({key: 200.0}, [])

    def test_a_temperature_that_fails_leaves_the_power(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "power").write_text(IPMITOOL.format(watts=200, state="activated"))
        ipmi.install(tmp_path / "bin", monkeypatch, ipmitool=ipmi.saying(tmp_path / "power"))
        values, errors = here()
        assert values == {("host.input_power", "host:node1", "dcmi"): 200.0}
        assert errors == ["ipmitool said: nothing"]

    def test_no_tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ipmi.install(tmp_path / "bin", monkeypatch)
        with pytest.raises(FileNotFoundError, match="package freeipmi-tools"):
            here()
        assert IpmiDcmi.detect() == []

    def test_a_user_who_may_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script = "echo ipmi-dcmi: permission denied >&2; exit 1"
        ipmi.install(tmp_path / "bin", monkeypatch, ipmi_dcmi=script)
        with pytest.raises(OSError, match="run as root, or let a udev rule"):
            here()

    def test_a_tool_that_hangs_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ipmi.install(tmp_path / "bin", monkeypatch, ipmi_dcmi="exec /bin/sleep 600")
        with pytest.raises(TimeoutError, match="was ended"):
            here(timeout=0.5)

    def test_a_poll_that_is_given_up_ends_its_tool(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid = tmp_path / "pid"
        script = f"echo $$ > {pid}.new; /bin/mv {pid}.new {pid}; exec /bin/sleep 600"
        ipmi.install(tmp_path / "bin", monkeypatch, ipmi_dcmi=script)

        async def give_up() -> None:
            poll = asyncio.create_task(read(IpmiDcmi(timeout=500.0)))
            while not await asyncio.to_thread(pid.exists):
                await asyncio.sleep(0.01)
            poll.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poll

        asyncio.run(give_up())
        assert not Path("/proc", pid.read_text().strip()).exists()

    @pytest.mark.parametrize("tool", TOOLS)
    def test_no_password_is_in_the_command_line_or_the_environment(
        self, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = tmp_path / "shown"
        script = f"{{ echo $*; /usr/bin/env; }} > {shown}; exit 1"
        ipmi.install(tmp_path / "bin", monkeypatch, **{tool.replace("-", "_"): script})
        secret = tmp_path / "secret"
        secret.write_text("topsecret\n")
        fields = {"target": "bmc-17", "host": "node2", "user": "probe", "tool": tool}
        with pytest.raises(OSError, match="said: nothing"):
            here(password=Secret(file=secret), **fields)
        assert "bmc-17" in shown.read_text()
        assert "topsecret" not in shown.read_text()


@pytest.mark.parametrize("password", ["two words", "backslash\\", ""])
def test_passwords_that_freeipmi_cannot_take(password: str) -> None:
    with pytest.raises(ValueError, match='set tool = "ipmitool"'):
        there(Bmc("probe", password), "ipmi-dcmi", password=password)


def test_what_is_recorded_is_what_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    power, temperature = tmp_path / "power", tmp_path / "temperature"
    power.write_text(IPMITOOL.format(watts=200, state="activated"))
    temperature.write_text(INLET.format("+21"))
    ipmi.install(tmp_path / "bin", monkeypatch, ipmitool=ipmi.saying(power, temperature))
    first = here()
    asyncio.run(IpmiDcmi().record(tmp_path / "case"))
    ipmi.replay(tmp_path / "case" / "input" / "ipmi", tmp_path / "again", monkeypatch)
    assert len(first[0]) == 2
    assert here() == first


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "bmc"},
        {"target": "bmc", "host": "n", "user": "u"},
        {"user": "u"},
        {"target": "-bmc", "host": "n", "user": "u", "password": "p"},
        {"target": "bmc[1-4]", "host": "n", "user": "u", "password": "p"},
        {"target": "a,b", "host": "n", "user": "u", "password": "p"},
        {"target": "bmc:port", "host": "n", "user": "u", "password": "p"},
    ],
)
def test_a_config_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IpmiDcmi(**fields)
