from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import pytest

from collector import plugin
from collector.batch import Batch
from collector.catalog import gpu
from collector.commands import doctor
from collector.config import Config, Configured
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin, PluginError
from collector.settings import Settings


class Probe(Plugin):
    metrics: ClassVar[tuple[Metric, ...]] = (gpu.POWER,)
    fail: bool = False

    def poll(self, batch: Batch) -> None:
        batch.add(gpu.POWER, Kind.GPU("node1", self.target), 1.0)
        if self.fail:
            batch.failed(None, OSError("half of it is gone"))


class Needy(Probe):
    url: str
    key: str


class Absent(Probe):
    def poll(self, batch: Batch) -> None:
        raise FileNotFoundError("/sys has no such thing: load its driver")


def load(name: str) -> type[Plugin]:
    if name == "quiet":
        return Absent
    if name == "broken":
        raise PluginError("plugin broken cannot be imported: no libsnmp")
    return Needy if name == "needy" else Probe


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "names", lambda: ["broken", "needy", "off", "probe", "quiet"])
    monkeypatch.setattr(plugin, "load", load)


def report(*probes: Probe, as_json: bool = False) -> int:
    configured = [Configured("probe", probe) for probe in probes]
    config = Config(Settings(), configured, frozenset({"quiet"}))
    return asyncio.run(doctor.report(config, as_json=as_json))


def test_what_runs_what_fails_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    long = "http://a-rather-long-name.of-a-host.example:8000/metrics"
    assert report(Probe(target=long), Probe(target="b", fail=True)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[:2] for line in lines[2:]] == [
        ["idle", "broken"],
        ["idle", "needy"],
        ["idle", "off"],
        ["failing", "probe"],
        ["ok", "probe"],
        ["idle", "quiet"],
    ]
    assert "no libsnmp" in lines[2]
    assert "not configured: set url, key in [plugins.needy]" in lines[3]
    assert "turned off by the config" in lines[4]
    assert lines[5].endswith("1 series      partial: half of it is gone")
    assert lines[6].endswith(f"probe {long}  1 series")
    assert lines[7].endswith("/sys has no such thing: load its driver")
    assert not caplog.records  # it is told once


def test_all_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Probe(), as_json=True) == 0
    rows = {row["plugin"]: row for row in json.loads(capsys.readouterr().out)["sources"]}
    assert rows["probe"] == {
        "plugin": "probe", "target": "", "state": "ok", "series": 1, "note": "",
    }  # fmt: skip
    assert rows["needy"]["state"] == "idle"
