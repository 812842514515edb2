"""A distribution of someone else's that brings plugins, as pip would have installed it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector import plugin


@contextmanager
def installed(folder: Path, **modules: str) -> Iterator[Path]:
    """Write a module for each plugin, whose class is named `Source`, and let them be found.

    `from_someone` is what the distribution is called. Another process finds it by PYTHONPATH.
    """
    _write(folder, modules)
    sys.path.insert(0, str(folder))
    plugin._third_party.cache_clear()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        plugin._third_party.cache_clear()
        for name in [name for name in sys.modules if name.startswith("from_someone_")]:
            del sys.modules[name]


def _write(folder: Path, modules: dict[str, str]) -> None:
    info = folder / "from_someone-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: from-someone\nVersion: 1.0\n")
    entries = "".join(f"{name} = from_someone_{name}:Source\n" for name in modules)
    (info / "entry_points.txt").write_text(f"[watts_to_tokens.plugins]\n{entries}")
    for name, source in modules.items():
        (folder / f"from_someone_{name}.py").write_text(source)


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
