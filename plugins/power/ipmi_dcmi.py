"""Power of a host by its BMC, asked by IPMI's DCMI commands through freeipmi or ipmitool.

DCMI 1.5 section 6.6.1 (Get Power Reading) gives whole watts, section 6.7.3 (Get Temperature
Readings) whole degrees of at most 127.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from collector.batch import Batch
from collector.catalog import power, thermal
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.secret import Secret

FREEIPMI, IPMITOOL = "ipmi-dcmi", "ipmitool"
DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
SBIN = "/usr/sbin:/sbin"  # where the tools are, which no plain user's PATH names
PORT = 623
GRACE = 0.5  # seconds that a killed tool has to be gone

_POWER = {
    FREEIPMI: ("--get-system-power-statistics",),
    IPMITOOL: ("dcmi", "power", "reading"),
}
_TEMPERATURE = ("dcmi", "get_temp_reading")
_WATTS = {
    FREEIPMI: re.compile(r"^Current Power\s*:\s*(\d+) Watts", re.MULTILINE),
    IPMITOOL: re.compile(r"^\s*Instantaneous power reading:\s*(\d+) Watts", re.MULTILINE),
}
_STATE = {
    FREEIPMI: (re.compile(r"^Power Measurement\s*:\s*(\w.*?)\s*$", re.MULTILINE), "Active"),
    IPMITOOL: (re.compile(r"^\s*Power reading state is:\s*(\w.*?)\s*$", re.MULTILINE), "activated"),
}
_INLET = re.compile(r"^Inlet air temperature\S*\s+(\d+)\s+([+-]\d+) C", re.MULTILINE)
_PRIVILEGES = {"user": "USER", "operator": "OPERATOR", "administrator": "ADMIN"}

# What the tools say, and what helps; the first that is found counts.
_MENDS = (
    (
        r"inband device|device not found|could not open device.*no such file",
        "load the kernel modules ipmi_si (or ipmi_ssif) and ipmi_devintf",
    ),
    (
        r"permission denied",
        "run as root, or let a udev rule give the daemon's group read and write of /dev/ipmi0",
    ),
    (
        r"invalid command|unsupported|c1\)",
        "the BMC has no DCMI power reading: try the plugin redfish, and disable this one",
    ),
    (
        r"password|username|rakp|privilege|cipher|unable to establish",
        "check the address, user, password, privilege and cipher_suite, and IPMI over LAN",
    ),
    (r"time(d )?-?out", "check that the BMC answers by UDP at this address"),
)


class IpmiDcmi(Plugin):
    """Runs `ipmi-dcmi` or `ipmitool` at each poll, for this host or for a BMC on the network.

    The inlet's temperature is asked by ipmitool alone: freeipmi tells only which sensors there are.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (power.HOST_INPUT_POWER, thermal.HOST_INLET_TEMPERATURE)
    spread: ClassVar[float] = 1.0

    target: str = Field(
        default="", description="Address of a BMC, and port; empty asks this host's own."
    )
    host: str = Field(default="", description="host.name of the server that the BMC is of.")
    user: str = Field(default="", description="User of the BMC on the network.")
    password: Secret | None = Field(default=None, description="Password of the user.")
    privilege: Literal["user", "operator", "administrator"] = Field(
        default="user", description="Privilege to ask for; DCMI wants no more than user."
    )
    cipher_suite: int | None = Field(
        default=None, ge=0, le=17, description="Cipher suite; by default the tool's choice."
    )
    tool: Literal["auto", "ipmi-dcmi", "ipmitool"] = Field(
        default="auto", description="What to run; auto is ipmi-dcmi where it is installed."
    )
    inlet: bool = Field(default=True, description="Read the inlet's temperature, by ipmitool.")

    _left: Process | None = PrivateAttr(default=None)  # killed, and not gone yet

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the kernel has a BMC's device and a tool is installed."""
        there = any(Path(device).exists() for device in DEVICES)
        return [{}] if there and (_path(FREEIPMI) or _path(IPMITOOL)) else []

    @field_validator("target")
    @classmethod
    def _is_address(cls, target: str) -> str:
        # freeipmi would take a[1-4] or a,b for several hosts.
        address = urlsplit(f"//{target}")
        if target and (
            re.search(r"[\s,@/]|^-", target) or not address.hostname or address.port == 0
        ):
            raise ValueError(f"{target!r} is no address such as bmc-17 or 10.0.0.7:623")
        return target

    @model_validator(mode="after")
    def _complete(self) -> IpmiDcmi:
        if self.target and not (self.host and self.user and self.password):
            raise ValueError("a target on the network needs host, user and password")
        if not self.target and (self.host or self.user or self.password):
            raise ValueError("host, user and password are of a target on the network: name it")
        return self

    async def poll(self, batch: Batch) -> None:
        """Ask for the power, then for the inlet's temperature.

        Raises:
            FileNotFoundError: No tool is installed.
            OSError: The tool failed; the message has its words and what would help.
            TimeoutError: It gave no answer in time and was ended.
            ValueError: The tool cannot take the password.
            LookupError: The password's environment variable is not set.
        """
        deadline = time.monotonic() + 0.9 * self.timeout
        entity = Kind.HOST(self.host) if self.target else batch.host
        tool = await asyncio.to_thread(self._tool)
        said = await self._run(tool, _POWER[tool], deadline)
        try:
            batch.add(power.HOST_INPUT_POWER, entity, watts(tool, said), "dcmi")
        except ValueError as error:
            batch.failed(entity, error)
        if not await self._asks_inlet():
            return
        try:
            said = await self._run(IPMITOOL, _TEMPERATURE, deadline)
        except OSError as error:  # TimeoutError is one
            batch.failed(entity, error)
            return
        for instance, degrees in inlets(said).items():
            batch.add(thermal.HOST_INLET_TEMPERATURE, entity, degrees, f"dcmi inlet {instance}")

    async def record(self, folder: Path) -> None:
        """Save what the tools say."""
        tool = await asyncio.to_thread(self._tool)
        found = folder / "input" / "ipmi"
        await asyncio.to_thread(found.mkdir, parents=True, exist_ok=True)
        commands = {f"{tool}.power": (tool, _POWER[tool])}
        if await self._asks_inlet():
            commands[f"{IPMITOOL}.temperature"] = (IPMITOOL, _TEMPERATURE)
        for name, (program, command) in commands.items():
            said = await self._run(program, command, time.monotonic() + self.timeout)
            await asyncio.to_thread((found / name).write_text, said)

    def _tool(self) -> str:
        wanted = (FREEIPMI, IPMITOOL) if self.tool == "auto" else (self.tool,)
        for tool in wanted:
            if _path(tool):
                return tool
        raise FileNotFoundError(
            f"{' or '.join(wanted)} is not installed: it is in the package freeipmi-tools, "
            "ipmitool in ipmitool"
        )

    async def _asks_inlet(self) -> bool:
        wanted = self.inlet and self.tool != FREEIPMI
        return wanted and await asyncio.to_thread(_path, IPMITOOL) is not None

    async def _run(self, tool: str, command: tuple[str, ...], deadline: float) -> str:
        """Run a tool to its end and return what it said."""
        if self._left is not None and self._left.returncode is None:
            raise TimeoutError(f"{tool} of process {self._left.pid} hangs in the kernel's driver")
        path = await asyncio.to_thread(_path, tool)
        secret = await asyncio.to_thread(self._secret, tool) if self.target else -1
        try:
            process = await asyncio.create_subprocess_exec(
                str(path),
                *(self._remote(tool, secret) if self.target else _LOCAL[tool]),
                *command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=os.environ | {"LC_ALL": "C"},
                pass_fds=(secret,) if self.target else (),
            )
        finally:
            if secret >= 0:
                os.close(secret)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                out, err = (said.decode(errors="replace") for said in await process.communicate())
        except TimeoutError:
            raise TimeoutError(f"{tool} gave no answer in time and was ended") from None
        finally:
            await self._end(process)
        if process.returncode:
            raise OSError(_explained(tool, err if err.strip() else out))
        return out

    async def _end(self, process: Process) -> None:
        if process.returncode is not None:
            return
        self._left = process
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.kill()
            async with asyncio.timeout(GRACE):
                await process.wait()

    def _remote(self, tool: str, secret: int) -> list[str]:
        """Options for a BMC on the network; the password is in a file that is in memory alone."""
        address = urlsplit(f"//{self.target}")
        port, suite = address.port or PORT, self.cipher_suite
        level, file = _PRIVILEGES[self.privilege], f"/proc/self/fd/{secret}"
        if tool == IPMITOOL:
            level = "ADMINISTRATOR" if level == "ADMIN" else level
            found = ["-I", "lanplus", "-H", str(address.hostname), "-p", str(port)]
            found += ["-U", self.user, "-f", file, "-L", level]
            return found + ([] if suite is None else ["-C", str(suite)])
        host = f"[{address.hostname}]" if ":" in str(address.hostname) else address.hostname
        found = ["--driver-type=LAN_2_0", f"--hostname={host}:{port}", f"--username={self.user}"]
        found += [f"--config-file={file}", f"--privilege-level={level}"]
        found.append(f"--session-timeout={int(900 * self.timeout)}")
        return found + ([] if suite is None else [f"--cipher-suite-id={suite}"])

    def _secret(self, tool: str) -> int:
        password = self.password.reveal() if self.password else ""
        if tool == FREEIPMI:
            if not password or re.search(r"\s|\\$", password):
                raise ValueError(
                    "ipmi-dcmi takes no password with a space in it or a backslash at its end: "
                    'set tool = "ipmitool"'
                )
            escaped = re.sub(r'([\\"#])', r"\\\1", password)  # freeipmi.conf(5)
            password = f"password {escaped}"
        file = os.memfd_create("w2t-ipmi")
        os.write(file, f"{password}\n".encode())
        return file


# Never past the kernel's driver to the ports of the BMC, which freeipmi could do by itself.
_LOCAL = {FREEIPMI: ["--driver-type=OPENIPMI"], IPMITOOL: ["-I", "open"]}


def watts(tool: str, said: str) -> float:
    """Return the power in W that `ipmi-dcmi` or `ipmitool` told.

    Raises:
        ValueError: There is none: power measurement is not active, or what is told is no reading.
            A BMC that does not measure tells 0 W, which no host draws that answers.
    """
    found = _WATTS[tool].search(said)
    pattern, active = _STATE[tool]
    state = pattern.search(said)
    if not found or not state:
        raise ValueError(_explained(tool, said))
    if state[1] != active:
        raise ValueError(
            f"the BMC's power measurement is not active ({state[1]}): "
            "turn power monitoring on in the BMC's settings"
        )
    if not 0 < int(found[1]) < 0xFFFF:
        raise ValueError(f"the BMC tells {found[1]} W, which is no reading")
    return float(found[1])


def inlets(said: str) -> dict[int, float]:
    """Return the inlet's temperatures in °C by instance; one of 127 is no reading."""
    found = {int(instance): float(degrees) for instance, degrees in _INLET.findall(said)}
    return {instance: degrees for instance, degrees in found.items() if abs(degrees) < 127}


def _explained(tool: str, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = lines[-1][:300] if lines else "nothing"
    for pattern, mend in _MENDS:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{tool} said: {words}: {mend}"
    return f"{tool} said: {words}"


def _path(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{SBIN}")
