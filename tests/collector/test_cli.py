from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import __version__, cli, plugin
from tests.fakes import distribution

ROOT = Path(__file__).parents[2]
PROBE = """
from collector.catalog import gpu
from collector.entity import Kind
from collector.plugin import Plugin

class Source(Plugin):
    metrics = (gpu.POWER,)
    fail: bool = False
    chatty: int = 1

    def poll(self, batch):
        for index in range(self.chatty):
            entity = Kind.GPU(batch.host.key[0], f"g{index}")
            batch.add(gpu.POWER, entity, 0.1 + 0.2 + index)
            batch.link(entity, batch.host)
        batch.link(Kind.GPU("node1", "moved"), Kind.HOST("node2"), 0.5)
        if self.fail:
            raise OSError("unplugged")

    def record(self, folder):
        if self.fail:
            raise OSError("unplugged")
        (folder / "input").mkdir(parents=True)
        (folder / "input" / "probe.txt").write_text("what was read")
"""
QUIET = PROBE.replace(
    "    def record", "    def _record"
).replace("fail: bool = False", "fail: bool = False\n    key: str")  # fmt: skip


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The command line sets up the log of its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def site(tmp_path: Path) -> Iterator[Path]:
    """The plugins `probe`, and `quiet`, which needs a key and cannot record."""
    with distribution.installed(tmp_path / "site", probe=PROBE, quiet=QUIET) as folder:
        yield folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "w2t.toml"
    configure(path, "")
    return path


def configure(path: Path, text: str) -> None:
    path.write_text(
        f'[daemon]\nhost_name = "node1"\ndetect = false\n[plugins.probe]\ntarget = "here"\n{text}'
    )


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


class TestCheck:
    def test_a_good_config(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("check", path) == 0
        assert capsys.readouterr().out == f"{path}: good, 1 sources\n"
        assert run("check", "--config.file", path) == 0

    def test_every_error_at_once_with_file_line_and_key(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(path, "tiemout = 3\n[web]\nlisten_adress = []\n[store]\nhistory = -1\n[probes]")
        assert run("check", path) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert [line.split(": ", 2)[:2] for line in err.splitlines()] == [
            [f"{path}:6", "plugins.probe.tiemout"],
            [f"{path}:8", "web.listen_adress"],
            [f"{path}:10", "store.history"],
            [f"{path}:11", "probes"],
        ]
        assert "did you mean timeout?" in err

    def test_no_such_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("check", tmp_path / "absent.toml") == 2
        assert "absent.toml: cannot be read" in capsys.readouterr().err

    def test_no_toml(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path.write_text("[web\n")
        assert run("check", path) == 2
        assert "not TOML" in capsys.readouterr().err


class TestOnce:
    def test_the_text_is_a_page_for_prometheus(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("once", "--config.file", path) == 0
        families = {
            family.name: family
            for family in text_string_to_metric_families(capsys.readouterr().out)
        }
        (sample,) = families["w2t_gpu_power_watts"].samples
        assert sample.labels == {"host_name": "node1", "hw_id": "g0", "hw_type": "gpu"}
        assert sample.value == 0.1 + 0.2
        assert families["w2t_source_up"].samples[0].value == 1

    def test_json(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("once", "probe", "--json", "--config.file", path) == 0
        found = {one["metric"]: one for one in json.loads(capsys.readouterr().out)}
        power = found["w2t.gpu.power"]
        assert power["labels"] == {"host.name": "node1", "hw.id": "g0", "hw.type": "gpu"}
        assert power["value"] == 0.1 + 0.2

    def test_a_source_that_failed_is_the_exit_status(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(path, "fail = true")
        assert run("once", "--config.file", path) == 1
        out, err = capsys.readouterr()
        assert "w2t_gpu_power_watts" in out
        assert "source probe:here: unreachable: OSError: unplugged" in err

    def test_one_plugin_that_is_not_configured(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("once", "probe") == 0
        assert "w2t_gpu_power_watts" in capsys.readouterr().out

    def test_one_that_needs_a_config(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("once", "quiet") == 2
        assert "plugins.quiet.key: Field required" in capsys.readouterr().err

    def test_no_such_plugin(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("once", "prob") == 2
        assert "no such plugin; did you mean probe?" in capsys.readouterr().err


class TestRecord:
    def test_a_case(self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("record", "probe", tmp_path / "case", "--config.file", path) == 0
        assert (tmp_path / "case/input/probe.txt").read_text() == "what was read"
        assert "saved in" in capsys.readouterr().out
        case = tmp_path / "case/config.toml"
        assert tomllib.loads(case.read_text())["plugins"] == {"probe": {}}
        shutil.rmtree(tmp_path / "case/input")
        case.write_text("# An AP8853 with firmware 6.8")
        assert run("record", "probe", tmp_path / "case", "--config.file", path) == 0
        assert case.read_text() == "# An AP8853 with firmware 6.8"

    def test_what_cannot_be_read(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(path, "fail = true")
        assert run("record", "probe", tmp_path, "--config.file", path) == 1
        assert capsys.readouterr().err.endswith("w2t: unplugged\n")

    def test_a_plugin_that_cannot(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(path, '[plugins.quiet]\nkey = "k"')
        assert run("record", "quiet", tmp_path, "--config.file", path) == 1
        assert "cannot record" in capsys.readouterr().err


class TestTopology:
    def test_what_is_missing_is_said(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        configure(
            path,
            """
            [topology.hosts.node1]
            outlets = ["a/1", "b/1"]
            [topology.engines."10.0.0.1:8000"]
            host = "node2"
            """,
        )
        assert run("topology", "--config.file", path) == 0
        assert capsys.readouterr().out.splitlines() == [
            "host:node2  (no outlet: set topology.hosts.node2.outlets)",
            "  engine:10.0.0.1/8000/0  (no process seen: its GPUs are unknown)",
            "  gpu:node1/moved, 50% of it",
            "pdu:a",
            "  outlet:a/1",
            "    host:node1",
            "      gpu:node1/g0",
            "pdu:b",
            "  outlet:b/1",
            "    host:node1  (see above)",
        ]

    def test_json(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("topology", "--json", "--config.file", path) == 0
        links = json.loads(capsys.readouterr().out)["links"]
        assert {(link["child"], link["parent"], link["share"]) for link in links} == {
            ("gpu:node1/g0", "host:node1", 1.0),
            ("gpu:node1/moved", "host:node2", 0.5),
        }
        assert {(link["source"], link["until"]) for link in links} == {("probe:here", None)}

    def test_nothing(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path.write_text("daemon.detect = false")
        assert run("topology", "--config.file", path) == 0
        assert capsys.readouterr().out == "nothing is linked\n"

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
    def test_a_daemon_that_does_not_answer(
        self, url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("topology", "--url", url) == 1
        assert f"w2t: {url}: no topology" in capsys.readouterr().err


class TestDoctor:
    def test_it_says_what_runs_and_what_is_missing(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("doctor", "--config.file", path) == 0
        out = capsys.readouterr().out
        assert f"w2t {__version__}" in out.splitlines()[0]
        lines = {line.split()[1]: line for line in out.splitlines()[2:]}
        assert lines["probe"].split() == ["ok", "probe", "here", "1", "series"]
        assert "not configured: set key in [plugins.quiet]" in lines["quiet"]
        assert "not configured: set target in [plugins.pdu_snmp]" in lines["pdu_snmp"]
        assert set(lines) == set(plugin.names())

    def test_json_and_a_failure(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        configure(path, "fail = true")
        assert run("doctor", "--json", "--config.file", path) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["version"] == __version__
        (row,) = [row for row in found["sources"] if row["plugin"] == "probe"]
        assert (row["state"], row["note"]) == ("failing", "unreachable: OSError: unplugged")

    def test_a_plugin_that_cannot_be_imported(
        self, path: Path, site: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (site / "from_someone_quiet.py").write_text("import no_such_library")
        sys.modules.pop("from_someone_quiet", None)
        run("doctor", "--config.file", path)
        assert "No module named 'no_such_library'" in capsys.readouterr().out


def test_docs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("docs", tmp_path / "new" / "docs") == 0
    names = {file.name for file in (tmp_path / "new" / "docs").iterdir()}
    assert names == {"metrics.md", "plugins.md", "config.md"}
    (tmp_path / "file").touch()
    assert run("docs", tmp_path / "file") == 1
    assert "w2t: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--version"], 0, f"{__version__}\n"),
        (["--help"], 0, "usage: w2t"),
        (["once", "--help"], 0, "--json"),
        ([], 2, "required: COMMAND"),
        (["rnu"], 2, "invalid choice: 'rnu'"),
        (["run", "--log.level", "loud"], 2, "invalid choice: 'loud'"),
        (["check", "--web.listen-address", "x"], 2, "unrecognized arguments"),
    ],
)
def test_usage(
    arguments: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == status
    assert text in "".join(capsys.readouterr())


@pytest.mark.parametrize("chatty", [1, 5000])
def test_a_reader_that_has_had_enough(path: Path, site: Path, chatty: int) -> None:
    configure(path, f"chatty = {chatty}")
    command = [sys.executable, "-P", "-m", "collector", "once", "--config.file", str(path)]
    environment = {"PYTHONPATH": f"{site}:{ROOT}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        errors = started.stderr.read()
        assert started.wait(60) == 0
    assert errors == ""


def test_no_standard_output_at_all(path: Path, site: Path) -> None:
    configure(path, "")
    command = f"{sys.executable} -P -m collector once --config.file {path} >&-"
    ended = subprocess.run(
        ["sh", "-c", command],
        env={"PYTHONPATH": f"{site}:{ROOT}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
