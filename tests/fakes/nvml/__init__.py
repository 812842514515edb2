"""NVIDIA's management library without a GPU: a C library for the real pynvml, and its scenarios."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
LIBRARY = "libnvidia-ml.so.1"
SCENARIO = "W2T_FAKE_NVML"  # the environment variable that names the scenario's file


def build(folder: Path, *, old: bool = False) -> Path:
    """Build the library into `folder`; skip the test where there is no C compiler.

    Args:
        folder: Where to; it is made if need be.
        old: Leave out what drivers before 510 do not have.

    Returns:
        The folder to put into LD_LIBRARY_PATH, before the process that loads it starts.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the NVML library with: install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    output = ["-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}", "-o", str(folder / LIBRARY)]
    subprocess.run(
        [compiler, *options, *(["-DOLD_DRIVER"] if old else []), *output, *map(str, SOURCES)],
        check=True,
    )
    return folder


def environment(library: Path, scenario: Path) -> dict[str, str]:
    """Variables under which a process finds the library and the library its scenario."""
    return {"LD_LIBRARY_PATH": str(library), SCENARIO: str(scenario)}


class Scenario:
    """What the library answers, as fake.h describes it; `write` puts it into force at once.

    Args:
        path: The file.
        driver: The driver's version.
    """

    def __init__(self, path: Path, driver: str = "580.105.08") -> None:
        self.path = path
        self.values: dict[str, object] = {"driver": driver}
        self._ramps: dict[int, tuple[float, float, float]] = {}  # mJ, mW, since

    def set(self, key: str, value: object | None) -> None:
        """Set a line; None removes it."""
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    def gpu(self, slot: int, **values: Any) -> None:
        """Add an H100 at rest in that slot, then apply `values`; see `h100`."""
        for key, value in (h100(slot) | values).items():
            self.set(f"gpu.{slot}.{key}", value)

    def remove(self, slot: int) -> None:
        """Take a GPU out."""
        for key in [key for key in self.values if key.startswith(f"gpu.{slot}.")]:
            del self.values[key]
        self._ramps.pop(slot, None)

    def draw(self, slot: int, watts: float, at: float | None = None) -> None:
        """Let a GPU draw that power from `at` on (now by default); its energy follows exactly."""
        at = time.time() if at is None else at
        base = self.joules(slot, at) * 1e3
        milliwatts = round(watts * 1e3)
        self._ramps[slot] = (base, milliwatts, at)
        energy = f"{base:.3f} + {milliwatts} @ {at:.6f}"
        for key in ("power_mw", "field.185", "field.186"):
            self.set(f"gpu.{slot}.{key}", milliwatts)
        for key in ("energy_mj", "field.83", "field.191"):
            self.set(f"gpu.{slot}.{key}", energy)

    def joules(self, slot: int, at: float) -> float:
        """What the GPU's energy counter says at that time, in J, if `draw` drives it."""
        base, milliwatts, since = self._ramps.get(slot, (0.0, 0.0, at))
        return (base + milliwatts * (at - since)) / 1e3

    def reload(self, slot: int, at: float | None = None) -> None:
        """Let the energy counter start from zero, as after a reload of the driver."""
        _, milliwatts, _ = self._ramps[slot]
        del self._ramps[slot]
        self.draw(slot, milliwatts / 1e3, at)

    def process(self, slot: int, pid: int, memory: int | None, sm: float | None = None) -> None:
        """Let a process hold that many bytes (None: not told) and use that many percent."""
        self.set(f"gpu.{slot}.process.{pid}.memory", "n/a" if memory is None else memory)
        self.set(f"gpu.{slot}.process.{pid}.sm", sm)

    def write(self) -> Path:
        """Put it into force: the file is replaced in one step."""
        text = "".join(f"{key} = {value}\n" for key, value in self.values.items())
        part = self.path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, self.path)
        return self.path


def uuid(slot: int) -> str:
    """The UUID that `Scenario.gpu` gives a slot."""
    return f"GPU-{slot:08x}-0000-0000-0000-{slot:012x}"


def h100(slot: int) -> dict[str, object]:
    """What an H100 80GB HBM3 says when at rest, by `nvidia-smi -q -x` of driver 580.105.08."""
    return {
        "uuid": uuid(slot),
        "name": "NVIDIA H100 80GB HBM3",
        "serial": f"165{slot:010d}",
        "vbios": "96.00.99.00.01",
        "bus_id": f"00000000:{0x19 + slot:02X}:00.0",
        "pci_device_id": "0x233010DE",
        "arch": 9,
        "mig": 0,
        "power_mw": 68570,
        "power_limit_mw": 700000,
        "energy_mj": 1000000,
        "field.186": 68920,
        "field.185": 68570,
        "field.185.2": 32980,
        "field.190": 700000,
        "field.187": 200000,
        "field.188": 700000,
        "field.189": 700000,
        "field.192": 700000,
        "field.83": 1000000,
        "field.191": 1000000,
        "field.82": 37,
        "field.74": 7015662857000,
        "field.75": 0,
        "field.76": 0,
        "field.269": 0,
        "field.270": 0,
        "field.271": 0,
        "field.193": -8,
        "field.194": -2,
        "field.195": 0,
        "field.196": 0,
        "temperature": 29,
        "margin": 58,
        "clock.0": 345,
        "clock.1": 345,
        "clock.2": 2619,
        "clock_max.0": 1980,
        "clock_max.1": 1980,
        "clock_max.2": 2619,
        "reasons": 1,
        "reasons_supported": 0x1FF,
        "utilization.gpu": 0,
        "utilization.memory": 0,
        "memory.total": 81559 << 20,
        "memory.reserved": 480 << 20,
        "memory.used": 0,
    }
