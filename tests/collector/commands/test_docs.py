"""What the generated pages say; tests/test_examples.py tells when the committed ones are stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import catalog, plugin
from collector.commands import docs
from collector.metric import Metric
from collector.settings import Settings


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return docs.pages()


@pytest.mark.parametrize("metric", catalog.metrics(), ids=lambda metric: metric.name)
def test_every_metric_has_a_row(metric: Metric, pages: dict[str, str]) -> None:
    (row,) = [line for line in pages["metrics.md"].splitlines() if f"`{metric.otlp}`" in line]
    assert row.startswith(
        f"| `{metric.prometheus}` | `{metric.otlp}` | {metric.instrument.value} |"
    )
    assert row.endswith(f"| {metric.help} |")
    assert row.count(" | ") == 5, "a bar in the text would end the cell"


@pytest.mark.parametrize("name", sorted(plugin._shipped()))
def test_every_plugin_has_a_section_with_its_fields(name: str, pages: dict[str, str]) -> None:
    kind = plugin.load(name)
    section = pages["plugins.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for key, field in kind.model_fields.items():
        assert f"| `{key}` | {'required' if field.is_required() else ''}" in section
    for metric in kind.metrics:
        assert f"`{metric.prometheus}`" in section


def test_every_table_of_the_config_is_there(pages: dict[str, str]) -> None:
    for name in Settings.model_fields:
        assert f"\n## [{name}" in pages["config.md"]
    for key in ("host_name", "listen_address", "prompt_token_weight", "outlets", "endpoint"):
        assert f"| `{key}` |" in pages["config.md"]
    assert "[topology.hosts.NAME]" in pages["config.md"]


def test_no_table_has_a_row_without_words(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for line in text.splitlines():
            assert not line.endswith("|  |"), f"{name}: {line}"


def test_the_machine_that_writes_them_does_not_show(
    pages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert docs.pages() == pages
    assert str(Path.home()) not in "".join(pages.values())


def test_pages_are_written(tmp_path: Path, pages: dict[str, str]) -> None:
    docs.write(tmp_path / "docs")
    assert {path.name: path.read_text() for path in (tmp_path / "docs").iterdir()} == pages
