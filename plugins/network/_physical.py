"""Which interfaces of the host are read, and what drives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from collector.read.files import Files

FOLDER = "sys/class/net"
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def chosen(files: Files, include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Name the interfaces to read, as shell patterns say.

    Without `include` these are the physical ones: those with a device behind them. Loopback,
    bridges, bonds, veth and tunnels have none.
    """
    names = [
        name
        for name in files.names(FOLDER)
        if not any(fnmatchcase(name, pattern) for pattern in exclude)
    ]
    if include:
        names = [name for name in names if any(fnmatchcase(name, one) for one in include)]
        # `bonding_masters` stands among them and is a file.
        return [name for name in names if (files.root / FOLDER / name).is_dir()]
    return [name for name in names if (files.root / FOLDER / name / "device").exists()]


def device(files: Files, interface: str) -> tuple[str, str]:
    """Say what drives an interface, and its PCI address; "" where there is none."""
    place = files.resolve(f"{FOLDER}/{interface}/device") or ""
    driver = files.resolve(f"{FOLDER}/{interface}/device/driver") or ""
    addresses = [part for part in place.split("/") if _PCI.fullmatch(part)]
    return driver.rpartition("/")[2], addresses[-1] if addresses else ""
