"""Memory errors that the memory controllers counted, by /sys/devices/system/edac."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import host
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, record

_FOLDER = "sys/devices/system/edac/mc"
# Documentation/ABI/testing/sysfs-devices-edac
_COUNTS = (("ce_count", "corrected"), ("ue_count", "uncorrected"))


class Edac(Plugin):
    """Reads the error counts of each memory controller."""

    metrics: ClassVar[tuple[Metric, ...]] = (host.MEMORY_ERRORS,)

    root: Path = Field(default=Path("/"), description="Where `sys` is.")

    _files: Files = PrivateAttr()

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where an EDAC driver is loaded."""
        return [{}] if Path("/", _FOLDER, "mc0").exists() else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all controllers; the counts start anew at boot and where somebody resets them."""
        controllers = [name for name in self._files.names(_FOLDER) if name.startswith("mc")]
        if not controllers:
            raise FileNotFoundError(f"{self.root / _FOLDER} has no mc0: load an EDAC driver")
        for controller in controllers:
            for name, severity in _COUNTS:
                errors = self._files.number(f"{_FOLDER}/{controller}/{name}")
                batch.add(host.MEMORY_ERRORS, batch.host, errors, controller, severity)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)
