"""Names of pods and containers, by the log files that kubelet keeps on its node.

`/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log` and `/var/log/pods/NAMESPACE_POD_UID/` have all
that ties an id to a name, without asking the API server (kubernetes/kubernetes,
pkg/kubelet/kuberuntime/legacy.go and helpers.go). Names hold no underscores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_CONTAINER = re.compile(r"([^_]+)_([^_]+)_([^_]+)-([0-9a-f]{64})\.log")


class Names(NamedTuple):
    """How people know a container."""

    namespace: str
    pod: str
    container: str


def containers(root: Path) -> dict[str, Names]:
    """Map the id of each container to its names; empty where there is no kubelet."""
    found = {}
    for name in _listed(root / "var/log/containers"):
        if match := _CONTAINER.fullmatch(name):
            found[match[4]] = Names(match[2], match[1], match[3])
    return found


def uids(root: Path) -> dict[tuple[str, str], str]:
    """Map namespace and name of each pod to its uid, the newest where one was made anew."""
    folder = root / "var/log/pods"
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for name in _listed(folder):
        parts = name.split("_")
        if len(parts) == 3:
            try:
                made = (folder / name).stat().st_mtime
            except OSError:
                continue
            pod = (parts[0], parts[1])
            found[pod] = max(found.get(pod, (0.0, "")), (made, parts[2]))
    return {pod: uid for pod, (_, uid) in found.items()}


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
