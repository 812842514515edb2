"""Small files of /proc and /sys: opened once, kept open, read again by one `pread` each.

A read costs a tenth of what it costs with opening and closing (`tests/benchmarks/sysfs.py`).
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from os import pread
from pathlib import Path

from collector.batch import Batch
from collector.entity import Kind
from collector.plugin import Plugin

# A file of sysfs holds at most a page. One of /proc can be longer, and then comes in several
# pieces; a piece is short of a page by less than one line, so a much shorter one is the whole file
# (fs/seq_file.c, seq_read_iter).
_PAGE = 4096
_WHOLE = _PAGE // 2
_NUMBER = 64
_REST = 1 << 16
_LONGEST = 1 << 24

# The kernel's words for "there is no such value here, or not now" (Documentation/hwmon/
# sysfs-interface.rst; psi and infiniband use the others).
_ABSENT = frozenset({errno.EAGAIN, errno.ENODATA, errno.EINVAL, errno.EOPNOTSUPP})
# The device or process went away, or was never here.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENOTDIR})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


class Files:
    """The files below `root` that one source reads.

    Paths are relative to `root`, with `/` between their parts. Descriptors are kept as long as they
    number less than half of what the process may open (`ulimit -n`); beyond that each read opens
    its file anew. Whoever simulates a tree must rewrite its files in place, as the kernel does: a
    file that is replaced by renaming is not seen. Not for several threads at once.

    Args:
        root: `/`, or where another tree is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = str(root).rstrip("/") + "/"
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._kept: dict[str, int] = {}
        self._listed: dict[str, list[str]] = {}
        self._used: dict[str, None] = {}
        self._vanished = False

    def read(self, path: str) -> bytes | None:
        """Read a whole file now.

        Returns:
            Its content; None where the kernel says that there is no value, or no such file.

        Raises:
            OSError: It could not be read; the message says what would help.
        """
        try:
            kept = self._kept.get(path)
            return _whole(kept) if kept is not None else self._first(path)
        except OSError as error:
            self._absent(path, error)
            return None

    def number(self, path: str) -> int | None:
        """Read a file that holds one whole number; None as for `read`.

        Raises:
            OSError: It could not be read.
            ValueError: It holds no number.
        """
        try:
            return int(pread(self._kept[path], _NUMBER, 0))
        except OSError as error:
            self._absent(path, error)
            return None
        except (KeyError, ValueError):
            data = self.read(path)  # not open yet, or in need of a message
        try:
            return None if data is None else int(data)
        except ValueError:
            raise ValueError(f"{self._base}{path} holds no number but {data!r:.60}") from None

    def text(self, path: str) -> str:
        """Read a name that does not change, without keeping it open; "" where none can be had."""
        try:
            data = self.read(path) or b""
        except OSError:
            data = b""
        self._drop(path)
        return data.decode(errors="replace").strip("\0\n\t ")

    def names(self, folder: str) -> list[str]:
        """List a folder in an order that does not depend on the machine; [] where there is none."""
        try:
            names = os.listdir(self._base + folder)  # noqa: PTH208 - bare names are wanted
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(names, key=lambda name: (len(name), name))

    def changed(self, folder: str) -> bool:
        """Say whether to look anew for what to read, and if so drop all descriptors.

        True for the first time, when the names in `folder` changed, and after a file that was read
        before vanished with its device.
        """
        names = self.names(folder)
        if names == self._listed.get(folder) and not self._vanished:
            return False
        self.close()
        self._listed[folder] = names
        self._vanished = False
        return True

    def resolve(self, path: str) -> str | None:
        """Follow all links of a path, and give it relative to `root`; None where it is absent."""
        if not (self.root / path).exists():
            return None
        self._used[path] = None
        return str((self.root / path).resolve().relative_to(self.root.resolve()))

    def save(self, folder: Path) -> None:
        """Copy all that was read, with the links on the way, to a tree below `folder`."""
        for path in list(self._used):
            place = Path()
            for place, link in _steps(self.root, path):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                if link and not (folder / place).is_symlink():
                    (folder / place).symlink_to(link)
            data = self.read(path) if (self.root / place).is_file() else None
            if data is not None:
                (folder / place).write_bytes(data)
            elif (self.root / place).is_dir():
                (folder / place).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Close all descriptors; the next reads open them anew."""
        while self._kept:
            os.close(self._kept.popitem()[1])

    def _first(self, path: str) -> bytes:
        descriptor = os.open(self._base + path, os.O_RDONLY)
        self._used[path] = None
        if descriptor < self._most:
            self._kept[path] = descriptor
            return _whole(descriptor)
        try:
            return _whole(descriptor)
        finally:
            os.close(descriptor)

    def _drop(self, path: str) -> None:
        descriptor = self._kept.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _absent(self, path: str, error: OSError) -> None:
        """Return where the error means that there is no value; raise where it is one."""
        if error.errno in _GONE:
            self._vanished |= path in self._kept
            self._used.pop(path, None)
            self._drop(path)
        elif error.errno not in _ABSENT:
            raise self._explained(path, error) from error

    def _explained(self, path: str, error: OSError) -> OSError:
        place = self._base + path
        if error.errno not in _FORBIDDEN:
            return OSError(error.errno, error.strerror, place)
        try:
            mode = f" (mode {stat.S_IMODE(Path(place).stat().st_mode):04o})"
        except OSError:
            mode = ""
        mend = (
            f"may not be read by this user{mode}: give the daemon the ambient capability "
            "CAP_DAC_READ_SEARCH, or the file a mode or group that lets it"
        )
        return OSError(error.errno, mend, place)


def field(text: bytes, name: bytes) -> int | None:
    """Give the whole number that follows `name` at the start of a line; None where there is none.

    Raises:
        ValueError: Something else follows it.
    """
    if text.startswith(name):
        start = len(name)
    elif (line := text.find(b"\n" + name)) >= 0:
        start = line + 1 + len(name)
    else:
        return None
    end = text.find(b"\n", start)
    try:
        return int(text[start : end if end >= 0 else None].split(None, 1)[0])
    except (IndexError, ValueError):
        raise ValueError(f"field {name.decode()} holds no number") from None


def _whole(descriptor: int) -> bytes:
    data = pread(descriptor, _PAGE, 0)
    if len(data) < _WHOLE:
        return data
    while len(data) < _LONGEST and (more := pread(descriptor, _REST, len(data))):
        data += more
    return data


def _steps(root: Path, path: str) -> Iterator[tuple[Path, str]]:
    """Walk a path below root, and give each part with where it points if it is a relative link."""
    place, parts = Path(), list(reversed(Path(path).parts))
    while parts:
        part = parts.pop()
        if part == "..":
            place = place.parent
            continue
        full = root / place / part
        link = str(full.readlink()) if full.is_symlink() else ""
        if link and not link.startswith("/"):
            yield place / part, link
            parts += reversed(Path(link).parts)
        else:
            place /= part
            yield place, ""


def record(plugin: Plugin, files: Callable[[], Files], folder: Path) -> None:
    """Save what one poll of a plugin reads as the input of a recorded case.

    Args:
        plugin: One whose methods block; it is opened and closed.
        files: Gives what the plugin reads with, once it is open.
        folder: Of the case.
    """
    plugin.open()
    try:
        plugin.poll(Batch(Kind.HOST("recorded"), 0.0, plugin.metrics))
        files().save(folder / "input" / "root")
    finally:
        plugin.close()
