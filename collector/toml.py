"""The line on which each key of a TOML file stands, which `tomllib` does not tell."""

from __future__ import annotations

import re
from collections import Counter

Path = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=\s*")
_PART = re.compile(_KEY)
# What can stand in a value and hide brackets: strings of the four kinds, and comments.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|'
    r"'''.*?'''|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'|"
    r"#[^\n]*|[][{}\n]",
    re.DOTALL,
)


def lines(text: str) -> dict[Path, int]:
    """Map the path of each table and key to its line, counted from 1.

    Tables of an array have their index in the path: `("plugins", "vllm", 0, "target")`. Keys
    inside inline tables and arrays are not listed; `line` finds what holds them.

    Args:
        text: TOML that `tomllib` has accepted.
    """
    found: dict[Path, int] = {}
    arrays: Counter[Path] = Counter()
    table: Path = ()
    position = 0
    while position < len(text):
        if header := _HEADER.match(text, position):
            start = header.start(1)
            table = _resolve(_parts(header[2]), arrays, is_array=header[1] == "[[")
            found.setdefault(table, text.count("\n", 0, start) + 1)
            position = _end_of_line(text, header.end())
        elif assignment := _ASSIGNMENT.match(text, position):
            path = table + _parts(assignment[1])
            number = text.count("\n", 0, assignment.start(1)) + 1
            for depth in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:depth], number)
            position = _end_of_line(text, assignment.end())
        else:
            position = _end_of_line(text, position)
    return found


def line(found: dict[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest table or key that holds it."""
    for depth in range(len(path), 0, -1):
        if path[:depth] in found:
            return found[path[:depth]]
    return 1


def _resolve(parts: Path, arrays: Counter[Path], *, is_array: bool) -> Path:
    path: Path = ()
    for depth, part in enumerate(parts):
        path += (part,)
        last = depth == len(parts) - 1
        if last and is_array:
            arrays[path] += 1
        if path in arrays:
            path += (arrays[path] - 1,)
    return path


def _parts(dotted: str) -> Path:
    return tuple(
        part[1:-1] if part[0] in "\"'" else part for part in (m[0] for m in _PART.finditer(dotted))
    )


def _end_of_line(text: str, position: int) -> int:
    """Return where the next key can begin: past the value, which may span lines."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)
