from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from collector import plugin
from collector.batch import Batch
from collector.plugin import Plugin, PluginError
from tests.fakes import distribution

GOOD = """
from collector.plugin import Plugin

class Helper(Plugin):
    metrics = ()

class Source(Helper):
    def poll(self, batch):
        pass
"""
BAD = {
    "gone": "import nothing_of_that_name",
    "syntax": "def",
    "raises": "raise KeyError('HOME')",
    "other": "class Source: pass",
    "empty": "",
    "abstract": "from collector.plugin import Plugin\nclass Source(Plugin):\n    metrics = ()\n",
}


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Path]:
    with distribution.installed(tmp_path, good=GOOD, **BAD) as folder:
        yield folder


@pytest.mark.parametrize("name", plugin._shipped())
def test_a_shipped_plugin_is_found_by_its_modules_name(name: str) -> None:
    kind = plugin.load(name)
    assert issubclass(kind, Plugin)
    assert kind.__module__.split(".")[2] == name
    assert name in plugin.names()


@pytest.mark.usefixtures("stranger")
def test_plugins_of_others_are_found_by_entry_point() -> None:
    assert {"good", "nvml"} < set(plugin.names())
    assert plugin.load("good").__name__ == "Source"


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_cannot_be_loaded_is_named(name: str) -> None:
    with pytest.raises(PluginError, match=name):
        plugin.load(name)


def test_an_entry_point_may_name_a_module_with_one_plugin(tmp_path: Path) -> None:
    second = GOOD.replace("Source", "Second")
    with distribution.installed(tmp_path, one=GOOD, two=GOOD + second) as folder:
        entries = folder / "from_someone-1.0.dist-info" / "entry_points.txt"
        entries.write_text(entries.read_text().replace(":Source", ""))
        assert plugin.load("one").__name__ == "Source"
        with pytest.raises(PluginError, match="from_someone_two must define one plugin, not 2"):
            plugin.load("two")


def test_an_unknown_name() -> None:
    with pytest.raises(KeyError):
        plugin.load("nothing")


class Probe(Plugin):
    metrics = ()

    def poll(self, batch: Batch) -> None:
        pass


def test_fields_are_config_and_unknown_keys_are_errors() -> None:
    assert Probe(interval=3).interval == 3
    with pytest.raises(ValidationError, match="tiemout"):
        Probe(tiemout=3)  # type: ignore[call-arg]
    for field in ("interval", "timeout", "max_series"):
        with pytest.raises(ValidationError, match="greater than 0"):
            Probe(**{field: 0})


def test_what_a_plugin_need_not_do() -> None:
    probe = Probe()
    probe.open()
    probe.close()
    assert Probe.detect() == []
    with pytest.raises(NotImplementedError, match="Probe cannot record"):
        probe.record(Path())


def test_poll_is_needed() -> None:
    class Nothing(Plugin):
        metrics = ()

    with pytest.raises(TypeError, match="poll"):
        Nothing()  # type: ignore[abstract]
    assert not asyncio.iscoroutinefunction(Plugin.poll)
