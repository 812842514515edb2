"""What was found on this host, what is missing, and how to get it: `w2t doctor`."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import ValidationError

from collector import __version__, plugin, poller
from collector.commands import once
from collector.config import Config, Configured
from collector.plugin import PluginError


async def report(config: Config, *, as_json: bool) -> int:
    """Poll what is configured or found, and print a line for each plugin."""
    with _without_warnings():  # the report says it all
        polled = await once.poll(config)
        absent = await once.poll(config._replace(plugins=_not_found(config)))
    rows: list[dict[str, object]] = []
    for source in polled.sources:
        rows.append(
            {
                "plugin": source.name,
                "target": source.plugin.target,
                "state": "ok" if source.error is None else "failing",
                "series": polled.store.owned(source.id),
                "note": source.error or "",
            }
        )
    why = {
        source.name: source.error or f"nothing found; [plugins.{source.name}] runs it all the same"
        for source in absent.sources
    }
    running = {source.name for source in polled.sources}
    for name in plugin.names():
        if name not in running:
            rows.append(
                {
                    "plugin": name,
                    "target": "",
                    "state": "idle",
                    "series": 0,
                    "note": f"not found: {why[name]}" if name in why else _why(name),
                }
            )
    rows.sort(key=lambda row: (str(row["plugin"]), str(row["target"])))
    if as_json:
        print(json.dumps({"version": __version__, "sources": rows}, indent=1))  # noqa: T201
    else:
        host = config.settings.daemon.host_name
        print(f"w2t {__version__}, Python {platform.python_version()}, host {host}\n")  # noqa: T201
        names = [f"{row['plugin']} {row['target']}".rstrip() for row in rows]
        width = max(map(len, names), default=0) + 2
        for name, row in zip(names, rows, strict=True):
            series = f"{row['series']} series" if row["series"] else ""
            print(f"{row['state']:9}{name:{width}}{series:14}{row['note']}".rstrip())  # noqa: T201
    return 1 if polled.failed else 0


def _not_found(config: Config) -> list[Configured]:
    """Make those that look for something on this host and found nothing: their errors say what."""
    made = []
    for name in config.detectable - {name for name, _ in config.plugins}:
        with suppress(PluginError, ValidationError):
            made.append(Configured(name, plugin.load(name)()))
    return made


def _why(name: str) -> str:
    """Say why a plugin was not even tried."""
    try:
        kind = plugin.load(name)
    except PluginError as error:
        return str(error)
    wants = [key for key, field in kind.model_fields.items() if field.is_required()]
    if wants:
        return f"not configured: set {', '.join(wants)} in [plugins.{name}]"
    return "turned off by the config"


@contextmanager
def _without_warnings() -> Iterator[None]:
    logger = logging.getLogger(poller.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
