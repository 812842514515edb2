"""Processor time of other processes, and programs to measure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far, its finished threads included, in nanoseconds.

    The clock's number is what clock_getcpuclockid(3) makes of a pid on Linux.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program and end it with the context."""
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()


def python(module: str, *arguments: object) -> tuple[str, ...]:
    """Give the command that runs one of our modules."""
    return (sys.executable, "-m", module, *map(str, arguments))
