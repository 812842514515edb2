from pathlib import Path

import pytest
from pydantic import Field

from collector import config, plugin
from collector.catalog import host
from collector.config import ConfigError
from collector.plugin import Plugin


class Probe(Plugin):
    metrics = (host.LOAD,)
    target: str = Field(description="needed")
    depth: int = 1

    def poll(self, batch):
        pass


@pytest.fixture(autouse=True)
def _one_plugin(monkeypatch):
    monkeypatch.setattr(plugin, "names", lambda: ["probe"])
    monkeypatch.setattr(plugin, "load", lambda name: Probe)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "w2t.toml")
    return caught.value.problems


def test_nothing_configured_gives_defaults() -> None:
    loaded = config.parse("", "defaults")
    assert loaded.plugins == []
    assert loaded.settings.web.listen_address == ["0.0.0.0:9842"]


def test_targets_become_instances_with_common_fields() -> None:
    loaded = config.parse(
        '[plugins.probe]\ndepth = 2\ntargets = ["a", {target = "b", depth = 3}]', "x"
    )
    made = [c.plugin for c in loaded.plugins if isinstance(c.plugin, Probe)]
    assert [(probe.target, probe.depth) for probe in made] == [("a", 2), ("b", 3)]


def test_an_array_of_tables_and_a_disabled_one() -> None:
    loaded = config.parse(
        '[[plugins.probe]]\ntarget = "a"\n[[plugins.probe]]\ntarget = "b"\nenabled = false', "x"
    )
    assert [c.plugin.target for c in loaded.plugins] == ["a"]


def test_every_error_at_once_with_file_line_key_and_nearest() -> None:
    found = problems(
        '[web]\nlisten_adress = ["x"]\n'
        '[plugins.probe]\ntarget = "a"\ndepht = 2\ninterval = -1\n'
        "[plugins.prob]\n"
        "[topology.hosts.n1]\noutlts = []\n"
        "[stor]\n"
    )
    assert found == [
        "w2t.toml:2: web.listen_adress: unknown key; did you mean listen_address?",
        "w2t.toml:5: plugins.probe.depht: unknown key; did you mean depth?",
        "w2t.toml:6: plugins.probe.interval: Input should be greater than 0",
        "w2t.toml:7: plugins.prob: no such plugin; did you mean probe?",
        "w2t.toml:9: topology.hosts.n1.outlts: unknown key; did you mean outlets?",
        "w2t.toml:10: stor: unknown key; did you mean store?",
    ]


def test_a_missing_field_is_named() -> None:
    assert problems("[plugins.probe]\n") == ["w2t.toml:1: plugins.probe.target: Field required"]


def test_the_same_target_twice() -> None:
    assert problems('[plugins.probe]\ntargets = ["a", "a"]\n') == [
        "w2t.toml:1: plugins.probe: target 'a' is there twice"
    ]


def test_what_is_no_toml_or_no_file(tmp_path: Path) -> None:
    assert "not TOML" in problems("[web")[0]
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "latin.toml")


def test_a_file_as_an_editor_of_windows_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "w2t.toml"
    path.write_bytes(b'\xef\xbb\xbf[web]\r\nlisten_address = ["127.0.0.1:1"]\r\n')
    assert config.load(path).settings.web.listen_address == ["127.0.0.1:1"]


def test_a_file_that_nests_without_end() -> None:
    assert "not TOML" in problems(f"x = {'[' * 5000}{']' * 5000}")[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[web]\nlisten_address = ["127.0.0.1"]', "web.listen_address: cannot listen on '127.0.0."),
        ("[store]\nhistory = inf", "store.history: Input should be a finite number"),
        ("[store]\nhistory = 1e300", "store.history: Input should be less than"),
        ("[attribution]\nwindow = inf", "attribution.window: Input should be a finite number"),
        (
            '[plugins.probe]\ntarget = "a"\ntimeout = inf',
            "plugins.probe.timeout: Input should be a finite number",
        ),
    ],
)
def test_what_would_end_the_daemon_later(text: str, problem: str) -> None:
    assert [found for found in problems(text) if problem in found]


def test_plugins_that_run_where_they_find_something(monkeypatch) -> None:
    monkeypatch.setattr(Probe, "detect", classmethod(lambda cls: [{"target": "here"}]))
    loaded = config.parse("", "x")
    assert [c.plugin.target for c in loaded.plugins] == ["here"]
    assert loaded.detectable == {"probe"}
    for text in ("[plugins.probe]\nenabled = false", "[daemon]\ndetect = false"):
        loaded = config.parse(text, "x")
        assert (loaded.plugins, loaded.detectable) == ([], frozenset())


def test_a_look_that_fails_harms_nobody(monkeypatch, caplog) -> None:
    def fail(cls) -> None:
        raise OSError("no /dev")

    monkeypatch.setattr(Probe, "detect", classmethod(fail))
    assert config.found(["probe"]) == []
    assert "probe cannot look at this host: no /dev" in caplog.text
