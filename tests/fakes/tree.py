"""Small trees in the shape of /proc and /sys, and what is true of them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from collector.batch import Batch
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from tests.data import data

HOST = Kind.HOST("node1")
_LINK = re.compile(rb"(\.\./)+[^\n]*")


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write files, in place where they exist; a content `-> target` makes a link."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return root


def node_exporter(root: Path, *folders: str) -> Path:
    """Copy folders of node_exporter's fixtures; where links became files, make links again."""
    source = data("sysfs/node_exporter")
    for folder in folders:
        shutil.copytree(source / folder, root / folder, copy_function=_copy, dirs_exist_ok=True)
    for place in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        if not place.is_symlink():
            place.chmod(0o755)
    return root


def node_exporter_says(pattern: str) -> dict[tuple[str, ...], float]:
    """Map the groups of the pattern to the value, for each line of e2e-output.txt it matches."""
    page = data("sysfs/node_exporter/e2e-output.txt").read_text()
    found = (re.fullmatch(pattern + r" (\S+)", line) for line in page.splitlines())
    return {match.groups()[:-1]: float(match.groups()[-1]) for match in found if match}


def read(plugin: Plugin, batch: Batch | None = None) -> Batch:
    """Poll once, opening the plugin before its first poll; the errors are part of the batch."""
    if batch is None:
        plugin.open()
        batch = Batch(HOST, 0.0, plugin.metrics)
    plugin.poll(batch)
    return batch


def values(batch: Batch, metric: Metric) -> dict[tuple[str, ...], float]:
    """Map what tells series of one metric apart to their values: part of the key, then labels."""
    found = [
        ((*key.entity.key[1:], *key.labels), value)
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key.metric is metric
    ]
    assert len(dict(found)) == len(found), "a series twice in one batch"
    return dict(found)


@contextmanager
def public_folder() -> Iterator[Path]:
    """Give a folder that any user can reach, as /sys is; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        yield root


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user to whom the modes of files apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def _copy(source: str, destination: str) -> None:
    content = Path(source).read_bytes()
    if _LINK.fullmatch(content):
        Path(destination).symlink_to(content.decode())
    else:
        Path(destination).write_bytes(content)
