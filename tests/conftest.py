"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail a test in which our code blocks the event loop: all sources would stand still."""
    with blockbuster_ctx(["collector", "plugins"]) as blockbuster:
        for function in blockbuster.functions.values():
            # The config is checked on a thread of its own (Daemon.reload) or before the loop
            # runs; only tests make a plugin inside of a loop.
            function.can_block_in("snmp/plugin.py", "_complete")
            # /proc/self/statm is not read from a disk and never waits.
            function.can_block_in("collector/daemon.py", "_keep_house")
        yield blockbuster
