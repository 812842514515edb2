"""What the pages for people say, held against the code."""

import re
from pathlib import Path

import pytest

from collector import catalog, cli, config, plugin, settings
from collector.attribution import METRICS, Attribution
from collector.batch import Batch, Call
from collector.catalog import gpu, power, serving
from collector.commands import docs
from collector.entity import Kind
from collector.export.prometheus import Page
from collector.store import Store
from collector.topology import Topology

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/*.md")]
EXAMPLES = list(ROOT.glob("docs/examples/*.toml"))
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_config_is_good(path, capsys):
    assert cli.main(["check", str(path)]) == 0
    assert "good" in capsys.readouterr().out


@pytest.mark.parametrize("name", docs.pages())
def test_generated_pages_are_current(name):
    assert (ROOT / "docs" / name).read_text() == docs.pages()[name], "run `make docs`"


@by_name
def test_toml_in_the_text_is_a_good_config(page):
    for text in blocks(page, "toml"):
        if "[match]" not in text:  # that is a profile, which test_pdu_snmp_unknown.py uses
            config.parse(text, page.name)


@by_name
def test_links_in_the_text_lead_somewhere(page):
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@by_name
def test_metrics_that_the_text_names_exist(page):
    known = {metric.prometheus for metric in catalog.metrics()}
    for name in re.findall(r"\bw2t_[a-z_]+[a-z]\b(?!\.)(?!\*)", page.read_text()):
        assert name in known, name


@by_name
def test_commands_that_the_text_names_exist(page, capsys):
    for command in set(
        re.findall(r"^(?:\$ )?w2t ([a-z]+)|`w2t ([a-z]+)", page.read_text(), re.MULTILINE)
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["".join(command), "--help"])
        assert end.value.code == 0, command


def test_contributing_shows_a_real_plugin_of_under_60_lines():
    source = (ROOT / "plugins/host/edac.py").read_text()
    shown = blocks(ROOT / "CONTRIBUTING.md", "python")
    assert source in shown
    assert len([line for line in source.splitlines() if line]) < 60
    for text in shown:
        assert text == source or text.strip() in (ROOT / "collector/catalog/host.py").read_text()


def test_sources_has_a_row_for_each_plugin():
    text = (ROOT / "docs/sources.md").read_text()
    for name in plugin.names():
        assert f"`{name}`" in text, name


def test_the_example_of_attribution_is_what_the_code_computes():
    """One minute on one host, told in docs/attribution.md."""
    host, model = Kind.HOST("gpu-1"), "llama"
    busy, idle = Kind.GPU("gpu-1", "GPU-0"), Kind.GPU("gpu-1", "GPU-1")
    engine = Kind.ENGINE("gpu-1", "8000", "0")
    start, end = 1.7e9, 1.7e9 + 60
    store, topology = Store(), Topology()
    attribution = Attribution(settings.Attribution(), host, store, topology)
    links = Batch(host, start, ())
    links.link(host, Kind.OUTLET("a12", "7"))
    links.link(host, Kind.OUTLET("b12", "7"))
    links.link(engine, busy)
    topology.observe("config", links.links, start)
    page = b""
    for at in (start, end):
        done = (at - start) / 60
        batch = Batch(host, at, catalog.metrics())
        batch.add(power.OUTLET_POWER, Kind.OUTLET("a12", "7"), 1300.0)
        batch.add(power.OUTLET_POWER, Kind.OUTLET("a12", "8"), 100.0)
        batch.add(power.OUTLET_POWER, Kind.OUTLET("b12", "7"), 1100.0)
        batch.add(gpu.ENERGY, busy, 5e6 + 30_000 * done)
        batch.add(gpu.ENERGY, idle, 3e6 + 18_000 * done)
        batch.add(serving.GENERATION_TOKENS, engine, 7000 + 20_000 * done, model)
        batch.add(serving.PROMPT_TOKENS, engine, 9000 + 160_000 * done, model)
        batch.add(serving.PROMPT_TOKENS_COMPUTED, engine, 8000 + 100_000 * done, model)
        store.write(batch, "test", 180.0)
        attribution.take(
            [
                Call("research", model, start + 5, end - 5, 80_000, 30_000, 12_000),
                Call("support", model, start + 5, end - 5, 50_000, 20_000, 5_000),
            ]
            if done
            else []
        )
        derived = Store()
        derived.write(attribution.step(at), "attribution", 180.0)
        page = Page(derived).render(at)
    (told,) = blocks(ROOT / "docs/attribution.md", "prometheus")
    computed = [line for line in page.decode().splitlines() if not line.startswith("#")]
    assert sorted(told.splitlines()) == sorted(computed)
    assert {line.partition("{")[0] for line in computed} <= {m.prometheus for m in METRICS}
