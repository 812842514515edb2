"""Memory errors by slot, as far as the EDAC drivers know it, by /sys/devices/system/edac."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import host
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, record

_FOLDER = "sys/devices/system/edac/mc"
# Documentation/ABI/testing/sysfs-devices-edac
_COUNTS = (("ce_count", "corrected"), ("ue_count", "uncorrected"))
_CONTROLLER = re.compile(r"mc\d+")
_DIMM = re.compile(r"dimm\d+|rank\d+")
_ROW = re.compile(r"csrow\d+")
_CHANNEL = re.compile(r"(ch\d+)_ce_count")


class _Slot(NamedTuple):
    """A slot: its names, and the beginning of the paths of its counts."""

    controller: str
    name: str
    prefix: str
    label: str
    location: str


class Dimm(Plugin):
    """Reads the error counts of each slot.

    Slots are DIMMs or ranks, or with drivers of the older interface the channels of chip-select
    rows. Errors of unknown slot are with the controller alone (plugin `edac`).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (host.DIMM_ERRORS, host.DIMM_INFO)

    root: Path = Field(default=Path("/"), description="Where `sys` is.")

    _files: Files = PrivateAttr()
    _slots: list[_Slot] = PrivateAttr()

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where an EDAC driver knows of slots."""
        return [{}] if any(_find(Files(Path("/")))) else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all slots.

        Raises:
            FileNotFoundError: There are none.
        """
        if self._files.changed(_FOLDER):
            self._slots = list(_find(self._files))
        if not self._slots:
            raise FileNotFoundError(
                f"{self.root / _FOLDER} has no dimm or csrow: load an EDAC driver"
            )
        for slot in self._slots:
            place = (slot.controller, slot.name)
            batch.add(host.DIMM_INFO, batch.host, 1.0, *place, slot.label, slot.location)
            for name, severity in _COUNTS:
                try:
                    errors = self._files.number(f"{slot.prefix}{name}")
                    batch.add(host.DIMM_ERRORS, batch.host, errors, *place, severity)
                except (OSError, ValueError) as error:
                    batch.failed(batch.host, error)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)


def _find(files: Files) -> Iterator[_Slot]:
    """Find all slots; where a controller shows DIMMs, its rows are the same again."""
    for controller in filter(_CONTROLLER.fullmatch, files.names(_FOLDER)):
        folder = f"{_FOLDER}/{controller}"
        names = files.names(folder)
        dimms = list(filter(_DIMM.fullmatch, names))
        for dimm in dimms:
            prefix = f"{folder}/{dimm}/dimm_"
            label, location = files.text(f"{prefix}label"), files.text(f"{prefix}location")
            yield _Slot(controller, dimm, prefix, label, location)
        for row in [] if dimms else filter(_ROW.fullmatch, names):
            for match in map(_CHANNEL.fullmatch, files.names(f"{folder}/{row}")):
                if match:
                    prefix = f"{folder}/{row}/{match[1]}_"
                    label = files.text(f"{prefix}dimm_label")
                    yield _Slot(controller, f"{row}/{match[1]}", prefix, label, "")
