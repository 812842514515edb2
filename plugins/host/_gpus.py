"""NVIDIA GPUs as the driver's files in /proc show them; nothing asks the GPU.

The driver fills `/proc/driver/nvidia/gpus/<PCI address>/information` when it takes a GPU over; the
UUID is `GPU-????????-…` until the GPU is used for the first time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from collector.read.files import Files

_FOLDER = "proc/driver/nvidia/gpus"
_UUID = re.compile(r"^GPU UUID:\s*(GPU-[0-9a-f-]{36})\s*$", re.MULTILINE)
_MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)
_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,4}):(?P<device>[0-9a-f]{2})"
    r"(?:\.(?P<function>[0-7]))?"
)


class Gpu(NamedTuple):
    """A GPU: PCI address as in sysfs, UUID ("" while unknown), number of its /dev/nvidiaN."""

    address: str
    uuid: str
    minor: int | None


class Gpus:
    """The GPUs of a host, read again only while something of them is unknown."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[str, Gpu] = {}

    def read(self) -> dict[str, Gpu]:
        """Map the PCI address of each GPU to it.

        A GPU that is known is not read again: the driver can hang over one that fails.
        """
        names = self._files.names(_FOLDER)
        for name in names:
            known = self._known.get(name)
            if known is None or not known.uuid:
                text = self._files.text(f"{_FOLDER}/{name}/information")
                uuid, minor = _UUID.search(text), _MINOR.search(text)
                self._known[name] = Gpu(
                    name, uuid[1] if uuid else "", int(minor[1]) if minor else None
                )
        self._known = {name: self._known[name] for name in names}
        return self._known


def address(text: str) -> str:
    """Write a PCI address as sysfs does; logs leave out the function, NVML has a longer domain."""
    match = _ADDRESS.fullmatch(text.lower())
    if match is None:
        return text
    domain, bus = int(match["domain"] or "0", 16), int(match["bus"], 16)
    return f"{domain:04x}:{bus:02x}:{match['device']}.{match['function'] or '0'}"
