"""Where the threads of a process are in the kernel, from /proc (man 5 proc).

`stack` and `syscall` of another user's process need CAP_SYS_ADMIN and CAP_SYS_PTRACE.
"""

from __future__ import annotations

from pathlib import Path

_FILES = ("status", "wchan", "syscall", "stack")
_THREADS = 512  # at most, of one process
_MOST = 1 << 16  # bytes of one file


def save(root: Path, pid: int, folder: Path) -> list[str]:
    """Copy what /proc says of a process and where its threads wait.

    Args:
        root: `/`, or where another tree is mounted.
        pid: Of the process.
        folder: Takes the files, and `threads.tsv`: id, name, state, wchan of each thread.

    Returns:
        What could not be read, as lines of text.
    """
    place = root / "proc" / str(pid)
    notes = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        try:
            (folder / name).write_bytes(_read(place / name))
        except OSError as error:
            notes.append(f"{place / name}: {error.strerror}")
    try:
        threads = sorted((place / "task").iterdir(), key=lambda path: int(path.name))
    except OSError as error:
        notes.append(f"{place / 'task'}: {error.strerror}")
        return notes
    if len(threads) > _THREADS:
        notes.append(f"{place}: {_THREADS} of {len(threads)} threads")
    lines = [_thread(path) for path in threads[:_THREADS]]
    (folder / "threads.tsv").write_text("\n".join(["id\tname\tstate\twchan", *lines, ""]))
    return notes


def _thread(path: Path) -> str:
    fields = [path.name]
    for name in ("comm", "stat", "wchan"):
        try:
            text = _read(path / name).decode(errors="replace").strip()
        except OSError:
            text = "?"
        if name == "stat":
            text = (text.rpartition(")")[2].split() or ["?"])[0]
        fields.append(" ".join(text.split()))
    return "\t".join(fields)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST)
