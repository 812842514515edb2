"""Finds out what a device is and which objects it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from collector.batch import SeriesKey
from collector.read.snmp.device import (
    SYS_DESCR,
    SYS_OBJECT_ID,
    SYS_UPTIME,
    Device,
    text,
)
from collector.read.snmp.energy import Energy
from collector.read.snmp.plan import Instance, prepare
from collector.read.snmp.profile import Profile
from collector.read.snmp.profiles import rank
from collector.read.snmp.session import Session, Value
from collector.read.snmp.survey import describe


class UnknownDeviceError(Exception):
    """No profile fits; the message says what was found and what to do."""


class Discovery:
    """One discovery. It keeps what it has read, so a slow device takes several polls, not for ever.

    Args:
        profiles: The candidates. A single one is taken as it is.
        name: The device's key.
    """

    def __init__(self, profiles: Sequence[Profile], name: str) -> None:
        self._profiles = list(profiles)
        self._name = name
        self._system: dict[str, Value] | None = None
        self._profile: Profile | None = None
        self._empty: list[str] = []
        self._walks: dict[str, Mapping[Instance, Value]] = {}

    @property
    def progress(self) -> str:
        """How far it is, for a message."""
        if self._profile is None:
            return "no profile chosen yet"
        return f"{len(self._walks)} of {len(self._profile.columns())} columns read"

    @property
    def steps(self) -> int:
        """How many steps are done."""
        return (self._system is not None) + (self._profile is not None) + len(self._walks)

    async def run(
        self, session: Session, energies: Mapping[SeriesKey, Energy] | None = None
    ) -> Device:
        """Identify the device and walk the columns that its profile needs, each once.

        Args:
            session: With the agent.
            energies: Energy counters of a former discovery, which go on.

        Raises:
            UnknownDeviceError: No profile fits or those that do find nothing.
            TimeoutError: No reply came; `run` again goes on from here.
            SnmpError: A reply could not be understood.
        """
        if self._system is None:
            self._system = await session.get([SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME])
        only = len(self._profiles) == 1
        while True:
            if self._profile is None:
                self._profile = self._profiles[0] if only else await self._identify(session)
            profile = self._profile
            for column in profile.columns():
                if column not in self._walks:
                    rows = await _rows(session, profile, column)
                    start = len(column) + 1
                    self._walks[column] = {
                        tuple(map(int, oid[start:].split("."))): value
                        for oid, value in rows.items()
                    }
            device = prepare(profile, self._name, self._walks, self._system, energies)
            if device.readings:
                return device
            self._empty.append(profile.name)
            if only:
                await self._give_up(session)
            self._profile = None

    async def _identify(self, session: Session) -> Profile:
        """Return the best profile that was not found empty and of which a probe answers."""
        system = self._system or {}
        object_id, descr = text(system.get(SYS_OBJECT_ID)), text(system.get(SYS_DESCR))
        for profile in rank(self._profiles, object_id, descr):
            if profile.name in self._empty:
                continue
            for probe in profile.match.probes:
                if await _rows(session, profile, probe, limit=1):
                    return profile
        return await self._give_up(session)

    async def _give_up(self, session: Session) -> NoReturn:
        names = [profile.name for profile in self._profiles]
        raise UnknownDeviceError(await describe(session, self._system or {}, names, self._empty))


async def _rows(
    session: Session, profile: Profile, column: str, limit: int | None = None
) -> dict[str, Value]:
    """Read a column, or its first rows."""
    if profile.get_only:
        return await session.get([f"{column}.0"])
    if limit is not None:
        return await session.walk(column, 0, limit=limit)
    return await session.walk(column, profile.max_repetitions)
