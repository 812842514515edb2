"""What holds for the project as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from collector import catalog, plugin
from collector.batch import MAX_LABELS
from collector.catalog import attribution, facility, hangs, selfmetrics
from collector.metric import COUNTER, Metric

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("collector/**/*.py"), *ROOT.glob("plugins/**/*.py")])
PLUGINS = sorted(plugin._shipped())
HEAVY = ("aiohttp", "google.protobuf", "grpc", "gufo", "opentelemetry", "pynvml", "pysnmp")
UNITS = {
    "",
    "1",
    "A",
    "By",
    "By/s",
    "Cel",
    "Hz",
    "J",
    "V",
    "W",
    "s",
    "J/{token}",
    "g/J",
    "m3/s",
} | {"{currency}/J"}
# Words of units do not belong into names, which get them from the unit; but a unit that UCUM or
# Prometheus has no word for must be told by the name.
UNIT_WORDS = re.compile(
    r"(?:^|[._])(?:amps?|amperes|bytes|celsius|hertz|joules?|percent|ratio|seconds?|total|volts?"
    r"|watts?)(?:$|[._])"
)
TOLD_BY_NAME = {"engine.output_tokens_per_second_per_watt"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_can_be_read_at_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 300


@pytest.mark.parametrize("path", sorted(ROOT.glob("collector/**/*.py")), ids=name)
def test_the_collector_knows_no_plugin(path: Path) -> None:
    assert not [module for module in imported(path) if module.split(".")[0] in ("plugins", "tests")]


def test_the_plugins_package_is_empty() -> None:
    """Another distribution's `plugins/__init__.py` may take its place."""
    assert (ROOT / "plugins/__init__.py").read_text().strip() == ""


@pytest.mark.parametrize(
    "layer", sorted({path.parent.name for path in ROOT.glob("plugins/*/*.py")})
)
def test_plugins_of_one_layer_do_not_know_another(layer: str) -> None:
    for path in ROOT.glob(f"plugins/{layer}/**/*.py"):
        for module in imported(path):
            if module.split(".")[0] == "plugins":
                assert module.split(".")[1:2] == [layer], f"{name(path)} imports {module}"


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    """A plugin is imported when the config is checked, its libraries when it is opened."""
    script = f"""
import sys
import collector.config, collector.plugin
def heavy():
    return [name for name in {HEAVY} if name in sys.modules]
print("collector", heavy())
for name in {PLUGINS}:
    collector.plugin.load(name)
    print(name, heavy())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{one} []" for one in ("collector", *PLUGINS)]


class TestCatalogue:
    @pytest.mark.parametrize("metric", catalog.metrics(), ids=lambda metric: metric.name)
    def test_a_metric_is_well_declared(self, metric: Metric) -> None:
        assert re.fullmatch(r"[A-Z0-9][^\n]*\.", metric.help), "help is a sentence"
        assert metric.unit in UNITS or re.fullmatch(r"\{[A-Za-z]+\}", metric.unit)
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", metric.name)
        assert not UNIT_WORDS.search(metric.name) or metric.name in TOLD_BY_NAME
        assert len(metric.label_names) <= MAX_LABELS
        assert len(set(metric.label_names)) == len(metric.label_names)
        assert metric.instrument is not COUNTER or metric.unit != "1"

    def test_names_are_unique_on_both_routes(self) -> None:
        metrics = catalog.metrics()
        assert len({metric.name for metric in metrics}) == len(metrics)
        assert len({metric.prometheus for metric in metrics}) == len(metrics)

    @pytest.mark.parametrize("kind", PLUGINS)
    def test_a_shipped_plugin_declares_what_the_catalogue_has(self, kind: str) -> None:
        metrics = plugin.load(kind).metrics
        assert set(metrics) <= set(catalog.metrics())
        assert len(set(metrics)) == len(metrics)

    def test_every_metric_comes_from_somewhere(self) -> None:
        """One that is declared and never sent promises what is not kept."""
        declared = {metric for kind in PLUGINS for metric in plugin.load(kind).metrics}
        own = [
            value
            for module in (attribution, facility, hangs, selfmetrics)
            for value in vars(module).values()
        ]
        declared |= {metric for metric in own if isinstance(metric, Metric)}
        assert [metric.name for metric in catalog.metrics() if metric not in declared] == []


@pytest.mark.parametrize("kind", PLUGINS)
def test_every_plugin_has_a_recorded_case(kind: str) -> None:
    assert list((ROOT / "tests/recorded" / kind).glob("*/expected.prom"))


def test_every_recorded_case_is_of_a_plugin() -> None:
    assert {path.name for path in (ROOT / "tests/recorded").iterdir()} <= set(PLUGINS)


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_plugin_explains_itself_and_its_fields(kind: str) -> None:
    found = plugin.load(kind)
    assert found.__doc__
    assert found.__doc__ != plugin.Plugin.__doc__
    assert [key for key, field in found.model_fields.items() if not field.description] == []


def test_the_wheel_holds_the_two_packages_and_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    top = {file.split("/")[0] for file in files}
    assert {entry for entry in top if not entry.endswith(".dist-info")} == {"collector", "plugins"}
    tracked = {name(path) for path in MODULES}
    assert tracked <= files
    data = [*ROOT.glob("plugins/**/*.toml"), ROOT / "collector/py.typed"]
    assert {name(path) for path in data} <= files
