"""The folder that `collector.evidence` fills: what is written there, and how it is kept small."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from collector.export import openmetrics
from collector.read import stuck
from collector.settings import Evidence as Settings

_NAME = re.compile(r"\d{8}T\d{6}Z-[\w.]+")
_MOST_STACKS = 1 << 20  # bytes of one process
_STACKS = 10.0  # seconds that py-spy may take for one process
_REAP = 1.0  # seconds for a child that was killed to end


def directory(settings: Settings) -> Path:
    """Give the folder of all snapshots."""
    if settings.directory:
        return Path(settings.directory)
    # systemd lists several by colons (man 5 systemd.exec, StateDirectory=).
    if state := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state) / "evidence"
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path("~/.local/state").expanduser()) / "w2t" / "evidence"


def prepare(place: Path, documents: Mapping[str, object]) -> Path:
    """Make the folder of one snapshot, which others may not read, with JSON documents in it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    for name, document in documents.items():
        (place / name).write_text(json.dumps(document, indent=1) + "\n")
    return place


def append(path: Path, page: openmetrics.Text, piece: openmetrics.Piece, most: int) -> int:
    """Write series, and say how many bytes; none is cut in its midst."""
    size = 0
    with path.open("ab") as file:
        for series in page.write(piece):
            size += len(series)
            if size > most:
                break
            file.write(series)
    return size


def close(path: Path) -> None:
    """End the series."""
    with path.open("ab") as file:
        file.write(openmetrics.END)


async def in_child(name: str, place: Path, config: bytes) -> None:
    """Record in a process of its own; one that a driver holds is left behind.

    Raises:
        OSError: It failed; the message is the last that it said.
    """
    command = (sys.executable, "-m", "collector.recordmain", name, str(place))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=pipe,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=pipe,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        _, said = await child.communicate(config)
    finally:
        if child.returncode is None:
            child.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP):
                    await child.wait()
    if child.returncode:
        raise OSError((said.decode(errors="replace").strip().splitlines() or ["?"])[-1])


def too_much(folder: Path, place: Path, most: int) -> bool:
    """Remove what one source saved where all of them together saved too much."""
    size = sum(path.lstat().st_size for path in (folder / "sources").rglob("*") if path.is_file())
    if size > most:
        shutil.rmtree(place, ignore_errors=True)
    return size > most


def stacks(root: Path, pids: list[int], folder: Path, end: float) -> list[str]:
    """Save where the threads of processes are, in the kernel and, by py-spy, in Python."""
    notes = []
    for pid in pids:
        notes += stuck.save(root, pid, folder / str(pid))
    spy = shutil.which("py-spy")
    if spy is None or root != Path("/"):
        return notes
    for pid in pids:
        left = min(end - time.monotonic(), _STACKS)
        if left <= 0:
            notes.append(f"py-spy: no time left for process {pid}")
            continue
        command = [spy, "dump", "--nonblocking", "--pid", str(pid)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=left, check=True)
            (folder / str(pid) / "python").write_bytes(done.stdout[:_MOST_STACKS])
        except (OSError, subprocess.SubprocessError) as error:
            notes.append(f"py-spy of process {pid}: {error}")
    return notes


def finish(folder: Path, notes: list[str], keep: int) -> None:
    """Write the notes, and remove the oldest snapshots."""
    (folder / "notes.txt").write_text("".join(f"{note}\n" for note in sorted(notes)))
    old = [path for path in folder.parent.iterdir() if _NAME.fullmatch(path.name)]
    for path in sorted(old)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
