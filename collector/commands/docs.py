"""The pages of docs/ that are generated, so that they cannot drift from the code."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from collector import catalog, plugin
from collector.metric import Metric, prometheus_label
from collector.plugin import Plugin
from collector.secret import Secret
from collector.settings import Settings

_NOTE = (
    "<!-- Made by `w2t docs docs`; a test fails when it is stale. Change the code instead. -->\n"
)


def write(folder: Path) -> None:
    """Write all generated pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Map the name of each generated page to its text."""
    return {"metrics.md": _metrics(), "plugins.md": _plugins(), "config.md": _config()}


def _metrics() -> str:
    parts = [
        f"# Metrics\n\n{_NOTE}\n"
        "Every metric has one declaration; Prometheus's name follows from OTLP's and the unit. "
        "Labels are the identity of what is measured, then the metric's own.\n"
    ]
    for layer in catalog.LAYERS:
        parts.append(f"\n## {_title(layer.__doc__)}\n\n" + _HEAD)
        parts += [_row(m) for m in vars(layer).values() if isinstance(m, Metric)]
    return "".join(parts)


_HEAD = "| Prometheus | OTLP | type | unit | labels | what it says |\n|---|---|---|---|---|---|\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{prometheus_label(name)}`" for name in metric.label_names)
    unit = f"`{metric.unit}`" if metric.unit else ""
    return (
        f"| `{metric.prometheus}` | `{metric.otlp}` | {metric.instrument.value} | {unit} "
        f"| {labels} | {metric.help} |\n"
    )


def _plugins() -> str:
    parts = [
        f"# Plugins\n\n{_NOTE}\n"
        "Each is configured by `[plugins.NAME]`, for several targets by `targets = [...]` or by "
        "`[[plugins.NAME]]`. `enabled = false` turns one off that was found on the host.\n"
    ]
    for name in plugin.names():
        kind = plugin.load(name)
        doc = inspect.cleandoc(kind.__doc__ or "")
        parts.append(f"\n## {name}\n\n{doc}\n\n" + _table(kind, shared=Plugin))
        for key, field in kind.model_fields.items():
            if (inner := _model(field.annotation)) is not None:
                parts.append(f"\nEach of `{key}`:\n\n{_table(inner)}")
        names = ", ".join(f"`{metric.prometheus}`" for metric in kind.metrics)
        parts.append(f"\nMetrics: {names}.\n")
    return "".join(parts)


def _config() -> str:
    parts = [f"# Config\n\n{_NOTE}\nTOML, by `--config.file`. All keys have defaults.\n"]
    for name, field in Settings.model_fields.items():
        parts.append(_section(name, field.annotation))
    parts.append("\n## [plugins]\n\nSee [plugins.md](plugins.md).\n")
    return "".join(parts)


def _section(name: str, annotation: Any) -> str:  # noqa: ANN401 - whatever pydantic holds
    model = _model(annotation)
    if model is None:
        return ""
    text = f"\n## [{name}]\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n{_table(model)}"
    for key, field in model.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None:
            many = "dict" in str(field.annotation)
            text += _section(f"{name}.{key}.NAME" if many else f"{name}.{key}", inner)
    return text


def _model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - whatever pydantic holds
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return None if candidate is Secret else candidate
    return None


def _table(model: type[BaseModel], shared: type[BaseModel] = BaseModel) -> str:
    # Of the config's sections, a model within a model has a table of its own.
    whole = issubclass(model, Plugin)
    own = {
        key: field
        for key, field in model.model_fields.items()
        if whole or _model(field.annotation) is None
    }
    order = sorted(own, key=lambda key: key in shared.model_fields)
    if not order:
        return ""
    lines = ["| key | default | what it does |\n|---|---|---|\n"]
    for key in order:
        field = own[key]
        if field.is_required():
            default = "required"
        elif field.default is PydanticUndefined:
            default = "the host's name" if key == "host_name" else "none"
        elif isinstance(field.default, Secret):
            default = f"`{field.default.reveal()}`"
        elif isinstance(field.default, list) and any(isinstance(x, Secret) for x in field.default):
            default = f"`{[x.reveal() for x in field.default]}`"
        elif isinstance(field.default, bool):
            default = f"`{field.default}`".lower()
        else:
            default = f"`{field.default}`" if field.default not in ("", None) else "none"
        lines.append(f"| `{key}` | {default} | {field.description or ''} |\n")
    return "".join(lines)


def _title(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0].rstrip(".")
