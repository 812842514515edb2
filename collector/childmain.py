"""Runs one driver-bound plugin in a process of its own; `collector.child` is the other end.

Kept small: what is imported here is paid for in memory by every such plugin.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import orjson

from collector import logs
from collector.batch import Batch
from collector.entity import Entity, Kind
from collector.wire import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.plugin import Plugin

PROGRESS = 256  # bytes of the note on what is being done
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_note: mmap.mmap | None = None


def doing(what: str) -> None:
    """Note the call into the driver that comes next, so that a hang can be told by its name.

    Does nothing in a process that is no child.
    """
    if _note is not None:
        _note[:PROGRESS] = what.encode("utf-8", "replace")[: PROGRESS - 1].ljust(PROGRESS, b"\0")


def main() -> None:
    """Answer polls until standard input ends. Arguments: the parent's pid, a memfd for the note."""
    global _note
    parent, note = map(int, sys.argv[1:])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this was asked for
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which ends us
    _note = mmap.mmap(note, PROGRESS)
    # Nothing that a library prints may get between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def write(line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[answers.write(view) or 0 :]

    with contextlib.suppress(BrokenPipeError):  # the daemon is gone
        _serve(write)


def _serve(write: Callable[[bytes], None]) -> None:
    requests = sys.stdin.buffer
    order = orjson.loads(requests.readline())
    host = Kind.HOST(*order["host"])
    logs.to_stderr(order["level"])
    sender = Sender(write)
    try:
        plugin = _open(order["plugin"], order["config"])
    except Exception as error:  # noqa: BLE001 - the daemon says what went wrong
        sender.send(Batch(host, 0.0, ()), describe(error))
        return
    write(b"{}\n")
    gc.collect()
    gc.freeze()
    for request in requests:
        if not _poll(plugin, sender, host, float(request)):
            return
    doing("close")
    plugin.close()


def _open(name: str, config: dict[str, Any]) -> Plugin:
    from collector.plugin import load

    plugin = load(name)(**config)
    if plugin.open() is not None:
        raise TypeError(f"{name}: open and poll of a driver-bound plugin must not be async")
    return plugin


def _poll(plugin: Plugin, sender: Sender, host: Entity, at: float) -> bool:
    batch = Batch(host, at, plugin.metrics, sender.index)
    error = ""
    try:
        plugin.poll(batch)
    except Exception as failure:  # noqa: BLE001 - the daemon says what went wrong
        error = describe(failure)
    sender.send(batch, error)
    # After a failure a fresh process is the surest start: the driver's library may be another now.
    return not error


def describe(error: Exception) -> str:
    """Give an error's type and text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    # Not from __main__: plugins import `doing` from this module under its own name.
    from collector import childmain

    childmain.main()
