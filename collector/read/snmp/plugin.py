"""What all plugins that read a device by SNMP and a profile have in common."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from collector.batch import Batch
from collector.plugin import Plugin
from collector.read.snmp.connect import connect
from collector.read.snmp.device import SYS_UPTIME, Device
from collector.read.snmp.discovery import Discovery, UnknownDeviceError
from collector.read.snmp.fetch import Reply, fetch
from collector.read.snmp.profile import Profile
from collector.read.snmp.profiles import find, shipped
from collector.read.snmp.record import Recorder
from collector.read.snmp.session import Session, SnmpError, User
from collector.read.snmp.usm import Usm
from collector.secret import Secret

PORT = 161
REDISCOVER = 900.0  # seconds; names are changed and probes plugged in without a sign


class SnmpPlugin(Usm, Plugin):
    """One device, or a chain of them behind one address. A plugin adds `metrics` and `profiles`.

    Its objects are discovered by walking the columns that its profile needs, each once; a poll asks
    for these objects alone.
    """

    profiles: ClassVar[Path]
    """The folder of the profiles that are shipped."""

    spread: ClassVar[float] = 1.0

    target: str = Field(min_length=1, description="host, host:port or [address]:port.")
    name: str = Field(
        default="", description="The device's name in labels; the target's host by default."
    )
    version: Literal["2c", "3"] = Field(default="2c", description="SNMP version.")
    community: Secret = Field(default=Secret(value="public"), description="Of version 2c.")
    user: str = Field(default="", description="User name of version 3.")
    profile: str = Field(
        default="auto", description="auto, a shipped profile, or a TOML file's path."
    )
    client: Literal["auto", "gufo", "pysnmp"] = Field(
        default="auto", description="SNMP library; gufo takes 1/60 of pysnmp's CPU."
    )

    _session: Session | None = PrivateAttr(default=None)
    _profiles: list[Profile] = PrivateAttr(default_factory=list)
    _discovery: Discovery | None = PrivateAttr(default=None)
    _device: Device | None = PrivateAttr(default=None)
    _due: float = PrivateAttr(default=0.0)  # of the next discovery, on the monotonic clock
    _batch: int = PrivateAttr(default=0)
    _uptime: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _complete(self) -> SnmpPlugin:
        self.name = self.name or self._address()[0]
        if self.version == "3" and not self.user:
            raise ValueError("version 3 needs user")
        try:
            if self.profile not in ("auto", *shipped(self.profiles)):
                find(self.profile, self.profiles)
        except OSError as error:
            raise ValueError(f"profile {self.profile}: {error}") from error
        return self

    async def open(self) -> None:
        """Connect. The device is discovered by the first polls."""
        self._profiles = await asyncio.to_thread(find, self.profile, self.profiles)
        self._session = await self._connect()

    async def poll(self, batch: Batch) -> None:
        """Read the objects of the device; what is lost on the way is reported as such.

        Raises:
            TimeoutError: The device does not answer.
            SnmpError: It answers, but not in SNMP, or does not accept the user.
            UnknownDeviceError: No profile fits it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.7 * self.timeout  # one request may still be under way then
        try:
            if self._session is None:
                self._session = await self._connect()
            if self._device is None and not await self._discover(self._session, deadline, batch):
                return
            assert self._device is not None
            reply = await self._ask(self._session, self._device, deadline)
        except (TimeoutError, SnmpError):
            self._hang_up()
            raise
        self._batch = reply.batch
        stale = self._read(self._device, batch, reply)
        if stale or time.monotonic() >= self._due:
            self._due = 0.0
            with contextlib.suppress(TimeoutError, SnmpError):  # the next poll goes on with it
                await self._discover(self._session, deadline)

    async def close(self) -> None:
        """Release the socket."""
        self._hang_up()

    async def record(self, folder: Path) -> None:
        """Save what discovery and one poll read, as `input/device.snmprec`."""
        profiles = await asyncio.to_thread(find, self.profile, self.profiles)
        session = Recorder(await self._connect())
        try:
            device = await Discovery(profiles, self.name).run(session)
            self._batch = device.profile.batch
            await self._ask(session, device, asyncio.get_running_loop().time() + 60)
        finally:
            session.close()
        await asyncio.to_thread(session.save, folder / "input" / "device.snmprec")

    async def _ask(self, session: Session, device: Device, deadline: float) -> Reply:
        reply = await fetch(session, device.oids, self._batch, deadline)
        if doubts := device.doubts(reply.values):
            try:
                more = await fetch(session, doubts, reply.batch, deadline)
            except (TimeoutError, SnmpError):
                more = Reply({}, set(doubts), reply.batch)
            values = reply.values | more.values
            reply = Reply(values, reply.unanswered | more.unanswered, more.batch)
        return reply

    def _read(self, device: Device, batch: Batch, reply: Reply) -> bool:
        """Add what was answered and say whether the device has changed since its discovery."""
        gone = device.read(batch, reply.values, reply.unanswered, time.monotonic())
        if reply.unanswered:
            lost, asked = len(reply.unanswered), len(reply.unanswered) + len(reply.values)
            batch.failed(None, TimeoutError(f"{lost} of {asked} objects were not answered"))
        uptime = reply.values.get(SYS_UPTIME)
        started = isinstance(uptime, int) and uptime < self._uptime
        if isinstance(uptime, int):
            self._uptime = uptime
        return gone or started

    async def _discover(
        self, session: Session, deadline: float, batch: Batch | None = None
    ) -> bool:
        """Discover as far as the time allows; a first discovery tells `batch` if it is not done."""
        if self._discovery is None:
            self._discovery = Discovery(self._profiles, self.name)
        before = self._discovery.steps
        try:
            async with asyncio.timeout_at(deadline):
                device = await self._discovery.run(
                    session, self._device.energies if self._device else None
                )
        except TimeoutError:
            if batch is None or self._discovery.steps == before:
                raise
            batch.failed(None, TimeoutError(f"discovery goes on: {self._discovery.progress}"))
            return False
        except UnknownDeviceError:
            self._discovery = None
            raise
        self._device, self._discovery = device, None
        self._due = time.monotonic() + REDISCOVER
        self._batch = self._batch or device.profile.batch
        return True

    async def _connect(self) -> Session:
        identity: str | User
        if self.version == "2c":
            identity = await asyncio.to_thread(self.community.reveal)
        else:
            identity = await asyncio.to_thread(self.of, self.user)
        return await connect(*self._address(), identity, self.timeout / 5, self.client)

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    def _address(self) -> tuple[str, int]:
        host, colon, port = self.target.rpartition(":")
        if not colon or ("]" in port) or (":" in host and not host.startswith("[")):
            return self.target.strip("[]"), PORT
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"target {self.target}: {port!r} is no port")
        return host.strip("[]"), int(port)
