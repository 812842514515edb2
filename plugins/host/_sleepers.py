"""Tasks in uninterruptible sleep, and those of them that do not wake up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CAUSES = ("nvidia", "io", "other", "unknown")

# In a task's stack, or the function where it waits. `[nvidia_uvm]` names the module.
_NVIDIA = re.compile(r"\[nvidia\w*\]|\bnvidia_|\buvm_|\bnv_|\bnvkms|\b_nv\d+rm\b|\bos_acquire_")
_IO = re.compile(
    r"\bio_schedule|\bblk_|\bsubmit_bio|wait_on_(?:page|buffer|bit_io)|folio_wait|\bjbd2|\bext4_"
    r"|\bxfs_|\bbtrfs_|\bnfs\d?_|\brpc_|\bfuse_|\bcifs_|\bceph_|\bcl_|\bptlrpc|\bgpfs|\bbalance_dirty"
)
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
_FRAMES = 8  # of a stack; what a task waits for is on top


class Task(NamedTuple):
    """A thread of a process, or its main thread; with its start it is named for good."""

    pid: int
    tid: int
    start: int
    name: str


class Sleep(NamedTuple):
    """A task's sleep: since when it was seen (seconds since the epoch), where, and why."""

    task: Task
    since: float
    place: str
    cause: str
    switches: int


class Sleepers:
    """Follows sleeping tasks from poll to poll.

    Args:
        root: Where `proc` is.
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._sleeps: dict[Task, Sleep] = {}

    def see(self, tasks: Iterable[Task], now: float) -> list[Sleep]:
        """Take the tasks that sleep now.

        Returns:
            Their sleeps; one goes on only if the task has not run at all since it was seen before.
        """
        before, self._sleeps = self._sleeps, {}
        for task in tasks:
            folder = self._proc / str(task.pid) / "task" / str(task.tid)
            counts = _SWITCHES.findall(_text(folder / "status"))
            switches = sum(map(int, counts)) if counts else -1
            known = before.get(task)
            if known is None or known.switches != switches:
                # The stack is for root alone; the place for who may trace the process, else "0".
                place, stack = _text(folder / "wchan").strip(), _text(folder / "stack")
                place = "" if place == "0" else place
                if not place and stack:
                    place = stack.partition("] ")[2].partition("+")[0]
                known = Sleep(task, now, place, _cause(place, stack), switches)
            self._sleeps[task] = known
        return list(self._sleeps.values())


def _cause(place: str, stack: str) -> str:
    top = "\n".join([place, *stack.splitlines()[:_FRAMES]])
    if not top.strip():
        return "unknown"
    return "nvidia" if _NVIDIA.search(top) else "io" if _IO.search(top) else "other"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it woke up and is gone, or may not be looked into
        return ""
