"""A distribution of someone else's that brings plugins, as pip would have installed it."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, **modules: str) -> Path:
    """Write a module for each plugin, whose class is named `Source`; put `folder` on PYTHONPATH.

    `from_someone` is what the distribution is called.
    """
    info = folder / "from_someone-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: from-someone\nVersion: 1.0\n")
    entries = "".join(f"{name} = from_someone_{name}:Source\n" for name in modules)
    (info / "entry_points.txt").write_text(f"[watts_to_tokens.plugins]\n{entries}")
    for name, source in modules.items():
        (folder / f"from_someone_{name}.py").write_text(source)
    return folder


HUNG = """
import threading
from collector.catalog import gpu
from collector.plugin import Plugin

class Source(Plugin):
    \"\"\"Reads nothing, for good.\"\"\"

    metrics = (gpu.POWER,)
    driver_bound = {driver_bound}
    interval: float = 0.1
    timeout: float = 0.3

    @classmethod
    def detect(cls):
        return []

    def poll(self, batch):
        threading.Event().wait()
"""
