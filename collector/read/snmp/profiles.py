"""Finds profiles, and the one that fits a device."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from collector.read.snmp.profile import Profile


@cache
def load(path: Path, folder: Path | None = None) -> Profile:
    """Read a profile.

    Args:
        path: Its file.
        folder: Where a profile is that this one is `like`; where the file is, by default.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no profile; the message names the file and each key that is wrong.
    """
    try:
        return Profile(name=path.stem, **_read(path, folder or path.parent))
    except (ValueError, TypeError) as error:
        raise ValueError(f"profile {path}: {error}") from error


def _read(path: Path, folder: Path) -> dict[str, Any]:
    found = tomllib.loads(path.read_text())
    other, replace = found.pop("like", None), found.pop("replace", {})
    if other is None:
        return found
    if other not in (known := shipped(folder)):
        raise ValueError(f"like {other}: there is none, only {', '.join(known)}")
    words = known[other].read_text()
    for old, new in replace.items():
        words = words.replace(f'"{old}.', f'"{new}.')
    return {**tomllib.loads(words), **found}


@cache
def shipped(folder: Path) -> dict[str, Path]:
    """Return the files of the profiles in a folder, by their names."""
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(name: str, folder: Path) -> list[Profile]:
    """Return the candidates for a `profile` setting: `auto`, a shipped one's name, or a path.

    Args:
        name: The setting.
        folder: Where the shipped ones are.

    Raises:
        OSError: The file cannot be read.
        ValueError: There is no such profile or it is wrong.
    """
    known = shipped(folder)
    if name == "auto":
        return [load(path) for path in known.values()]
    if name in known:
        return [load(known[name])]
    if name.endswith(".toml"):
        return [load(Path(name), folder)]
    raise ValueError(f"no profile {name}: auto, {', '.join(known)}, or the path of a .toml file")


def rank(profiles: list[Profile], object_id: str, descr: str) -> list[Profile]:
    """Order profiles by how well they match a device; a probe decides among them.

    First come those with the longest matching prefix of sysObjectID, then those whose expression
    finds something in sysDescr (some agents send a malformed sysObjectID), then the rest. Equals
    are ordered by their rank.
    """

    def score(profile: Profile) -> tuple[int, int]:
        prefixes = (p for p in profile.match.sys_object_id if f"{object_id}.".startswith(f"{p}."))
        longest = max((len(prefix.split(".")) for prefix in prefixes), default=0)
        if longest:
            return longest + 1, profile.match.rank
        pattern = profile.match.sys_descr
        return 1 if pattern and re.search(pattern, descr) else 0, profile.match.rank

    return sorted(profiles, key=score, reverse=True)
