"""Records one source in a process of its own, which can be given up where a driver hangs.

`python -m collector.recordmain NAME FOLDER`, with the plugin's config as JSON on standard input.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import orjson

from collector.plugin import Plugin, load


async def record(plugin: Plugin, folder: Path) -> None:
    """Save what one poll of a plugin reads, whether its methods block or not."""
    if inspect.iscoroutinefunction(plugin.record):
        await plugin.record(folder)
    else:
        plugin.record(folder)


def main() -> None:
    """Record, and let an error end the process with its message."""
    name, folder = sys.argv[1:]
    plugin = load(name)(**orjson.loads(sys.stdin.buffer.read()))
    asyncio.run(record(plugin, Path(folder)))


if __name__ == "__main__":
    main()
