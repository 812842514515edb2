"""Processes that have a GPU open, found without the driver: by their descriptors.

Who opens `/dev/nvidia3` may still not use that GPU: CUDA opens all that it is shown, and tools that
only look open all, too. A GPU on which a process has a context is mapped into its memory.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_DEVICE = re.compile(r"/dev/nvidia(\d+)")
_MAPPED = re.compile(rb"/dev/nvidia(\d+)$", re.MULTILINE)
_YOUNG = 600.0  # seconds for which a process is looked at each time
_SELDOM = 10  # later it is looked at one time in so many


class Holder(NamedTuple):
    """What a process has open: numbers of /dev/nvidiaN that it opened, and that it mapped."""

    opened: frozenset[int]
    mapped: frozenset[int]

    @property
    def used(self) -> frozenset[int]:
        """The GPUs that it is taken to use; none where that cannot be told."""
        return self.mapped or (self.opened if len(self.opened) == 1 else frozenset())


class Holders:
    """Finds holders of GPUs, time and again.

    Args:
        root: Where `proc` is.
    """

    def __init__(self, root: Path) -> None:
        self._proc = f"{root}/proc"
        self._first: dict[tuple[int, int], float] = {}
        self._known: dict[tuple[int, int], Holder] = {}
        self._round = 0
        self.refused = 0

    def find(
        self, processes: Mapping[int, int], stuck: set[int], now: float
    ) -> dict[tuple[int, int], Holder]:
        """Look at descriptors, of old processes that had no GPU only now and then.

        Args:
            processes: Start time by pid.
            stuck: Those whose memory map must not be read: who holds its lock may never give it.
            now: Seconds since the epoch.

        Returns:
            What each holder has, by pid and start time.
        """
        alive = set(processes.items())
        self._first = {key: at for key, at in self._first.items() if key in alive}
        self._known = {key: held for key, held in self._known.items() if key in alive}
        self._round += 1
        self.refused = 0
        for key in alive:
            old = now - self._first.setdefault(key, now) > _YOUNG
            if old and key not in self._known and (self._round + key[0]) % _SELDOM:
                continue
            opened = self._opened(key[0])
            if opened is None:
                self._known.pop(key, None)
                continue
            before = self._known.get(key)
            if key[0] in stuck:
                mapped = before.mapped if before else frozenset()
            else:
                mapped = self._mapped(key[0])
            self._known[key] = Holder(opened, mapped)
        return self._known

    def _opened(self, pid: int) -> frozenset[int] | None:
        """Return the GPUs that a process opened, None if it has nothing of NVIDIA's open."""
        found: set[int] = set()
        any_ = False
        try:
            with os.scandir(f"{self._proc}/{pid}/fd") as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        target = os.readlink(entry.path)  # noqa: PTH115 - Path is slow
                        if target.startswith("/dev/nvidia"):
                            any_ = True
                            if match := _DEVICE.fullmatch(target):
                                found.add(int(match[1]))
        except PermissionError:
            self.refused += 1
        except OSError:  # the process is gone
            return None
        return frozenset(found) if any_ else None

    def _mapped(self, pid: int) -> frozenset[int]:
        try:
            maps = Path(f"{self._proc}/{pid}/maps").read_bytes()
        except OSError:
            return frozenset()
        return frozenset(map(int, _MAPPED.findall(maps)))
