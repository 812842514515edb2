"""Saves what a service said, as the tree that DMTF's mockups have: a folder for each resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plugins.power.redfish.transport import Document

# What names the one machine and is in no sample that a test needs.
_PRIVATE = frozenset(("AssetTag", "MACAddress", "PartNumber", "SerialNumber", "UUID"))


class Recorder:
    """Collects documents and writes them.

    Args:
        folder: Where the tree goes; `redfish/v1` is its first level.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents: dict[str, Document] = {}

    def save(self, path: str, document: Document) -> None:
        """Keep a document; an expanded collection in place of the plain one."""
        self._documents[path.partition("?")[0].strip("/")] = document

    def write(self) -> None:
        """Write the tree, without serial numbers."""
        for path, document in self._documents.items():
            if ".." in path.split("/"):
                continue
            file = self._folder / path.removeprefix("redfish/v1").strip("/") / "index.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(_without(document), indent=1) + "\n")


def _without(node: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        return {name: _without(one) for name, one in node.items() if name not in _PRIVATE}
    return [_without(one) for one in node] if isinstance(node, list) else node
