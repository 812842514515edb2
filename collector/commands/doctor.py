"""What was found on this host, what is missing, and how to get it: `w2t doctor`."""

from __future__ import annotations

import json
import platform

from collector import __version__, plugin
from collector.commands import once
from collector.config import Config
from collector.plugin import PluginError


async def report(config: Config, *, as_json: bool) -> int:
    """Poll what is configured or found, and print a line for each plugin."""
    polled = await once.poll(config)
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
    running = {source.name for source in polled.sources}
    for name in plugin.names():
        if name not in running:
            rows.append(
                {
                    "plugin": name,
                    "target": "",
                    "state": "idle",
                    "series": 0,
                    "note": _why(name, config),
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


def _why(name: str, config: Config) -> str:
    """Say why a plugin does not run: what it wants, in its own words."""
    try:
        kind = plugin.load(name)
    except PluginError as error:
        return str(error)
    wants = [key for key, field in kind.model_fields.items() if field.is_required()]
    if wants:
        return f"not configured: set {', '.join(wants)} in [plugins.{name}]"
    if name not in config.detectable:
        return "turned off by the config"
    return "found nothing to read on this host"
