"""The contract of a plugin, and how plugins are found."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from collector.batch import Batch
from collector.metric import Metric

ENTRY_POINTS = "watts_to_tokens.plugins"


class Plugin(BaseModel, ABC):
    """One source of samples. Its fields are its config; declare `metrics`, then write `poll`.

    A plugin reads one target. Where the config names several, one instance is made for each.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    metrics: ClassVar[tuple[Metric, ...]]
    """All that `poll` may add."""

    driver_bound: ClassVar[bool] = False
    """True where a read can hang in a driver for good: it runs in a child process."""

    spread: ClassVar[float] = 0.0
    """The share of the interval over which targets are spread, so that not all are asked at once:
    1.0 for sources across the network, 0.0 for this host."""

    precedence: ClassVar[int] = 0
    """Which source of one and the same series counts: the highest that is there."""

    target: str = Field(default="", description="What is read; the `target` label of w2t_source_*.")
    interval: float = Field(default=10.0, gt=0, description="Seconds between two polls.")
    timeout: float = Field(default=5.0, gt=0, description="Seconds that one poll may take.")
    max_series: int = Field(default=20_000, gt=0, description="Series kept of one target at most.")

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return a config for each target found on this host; must be quick and touch no driver."""
        return []

    def open(self) -> Awaitable[None] | None:
        """Acquire sessions and handles; an error is retried with the next polls."""

    @abstractmethod
    def poll(self, batch: Batch) -> Awaitable[None] | None:
        """Read once and add what was found.

        `async def` for the network; a plain `def` for reads that block (files, libraries), which
        the poller runs on a thread of the source's own.
        """

    def close(self) -> Awaitable[None] | None:
        """Release what `open` acquired."""

    def record(self, folder: Path) -> Awaitable[None] | None:
        """Save what one poll reads as the input of a recorded case (`tests/recorded`)."""
        raise NotImplementedError(f"{type(self).__name__} cannot record")


class PluginError(Exception):
    """A plugin's module cannot be loaded; the message names it and says why."""


@cache
def _shipped() -> Mapping[str, str]:
    """Map the name of each shipped plugin to its module; nothing is imported."""
    spec = importlib.util.find_spec("plugins")
    found = {}
    for root in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(root).glob("*/*")):
            if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem[0] != "_":
                found[path.stem] = f"plugins.{path.parent.name}.{path.stem}"
    return found


@cache
def _third_party() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def names() -> list[str]:
    """All plugins that can be configured, shipped and third-party."""
    return sorted({*_shipped(), *_third_party()})


def load(name: str) -> type[Plugin]:
    """Import the plugin of that name.

    `pdu_snmp` is the one `Plugin` that `plugins/<layer>/pdu_snmp.py` defines, else the class that
    another distribution's entry point in the group `watts_to_tokens.plugins` names.

    Raises:
        KeyError: There is no such plugin.
        PluginError: Its module cannot be imported or defines no plugin.
    """
    module = _shipped().get(name)
    entry = None if module else _third_party()[name]
    try:
        loaded = entry.load() if entry else importlib.import_module(str(module))
    except Exception as error:
        raise PluginError(f"plugin {name} cannot be imported: {error!r}") from error
    if inspect.ismodule(loaded):
        found = [value for value in vars(loaded).values() if _is_plugin(value)]
        own = [value for value in found if value.__module__ == loaded.__name__]
        if len(own) != 1:
            raise PluginError(f"{loaded.__name__} must define one plugin, not {len(own)}")
        return own[0]
    if not _is_plugin(loaded):
        raise PluginError(f"entry point {name} in {ENTRY_POINTS} is no collector.plugin.Plugin")
    return loaded


def _is_plugin(value: object) -> TypeGuard[type[Plugin]]:
    return inspect.isclass(value) and issubclass(value, Plugin) and not inspect.isabstract(value)
