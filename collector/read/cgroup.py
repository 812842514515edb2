"""Says which container, pod and batch job a process belongs to, by the path of its cgroup.

Who makes the paths: kubelet and the container runtimes (systemd driver: `kubepods-QOS-podUID.slice/
RUNTIME-ID.scope`; cgroupfs driver: `kubepods/QOS/podUID/ID`), Docker and Podman on their own, and
slurmd (slurm.schedmd.com/cgroup_v2.html; v1: `slurm/uid_U/job_J/step_S/task_T`). Lines are those
of man 7 cgroups.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

# A pod's name in cgroups has `_` for the `-` of its uid where systemd made it; uids of static pods
# have neither. A guaranteed pod stands directly in kubepods.
_POD = re.compile(
    r"(?:(?P<in>kubepods|besteffort|burstable)(?:\.slice/|-|/))?"
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)
_CONTAINER = re.compile(
    r"[/:](?:(?P<by>[a-z][a-z-]*)[-:])?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=[/:]|$)"
)
_RUNTIMES = {
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
}
_SLURM = re.compile(
    r"/(?:(?:[^/]+_)?slurmstepd\.scope|slurm(?:_[^/]+)?/uid_(?P<uid>\d+))/job_(?P<job>\d+)"
    r"(?:/step_(?P<step>[^/]+))?(?:/user)?(?:/task_(?P<task>\d+))?"
)


class Workload(NamedTuple):
    """What a process belongs to; each part is "" where the path does not tell.

    Attributes:
        container: Its id, 64 hexadecimal digits.
        runtime: containerd, cri-o, docker or podman.
        pod: The uid of the Kubernetes pod.
        qos: The pod's class: guaranteed, burstable or besteffort.
        job: The id of the Slurm job.
        step: Its step: a number, or batch, extern, interactive.
        task: The task within the step.
        user: The uid of the job's owner, which cgroup v1 alone tells.
    """

    container: str = ""
    runtime: str = ""
    pod: str = ""
    qos: str = ""
    job: str = ""
    step: str = ""
    task: str = ""
    user: str = ""


def parse(text: str) -> Workload:
    """Read the lines of `/proc/<pid>/cgroup`.

    Of several hierarchies (cgroup v1) the first that tells a part counts. `0::/` tells nothing: a
    reader in the same cgroup namespace sees no more of the path.
    """
    found = Workload()
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            one = _path(fields[2])
            found = Workload(*(known or new for known, new in zip(found, one, strict=True)))
    return found


def read(root: Path, pid: int) -> Workload:
    """Read what a process belongs to; all empty if it is gone."""
    try:
        return parse((root / "proc" / str(pid) / "cgroup").read_text(errors="replace"))
    except OSError:
        return Workload()


def _path(path: str) -> Workload:
    pod, slurm = _POD.search(path), _SLURM.search(path)
    # Containers within containers: that of the pod, else the outermost, which the host knows.
    container = _CONTAINER.search(path, pod.end() if pod else 0)
    runtime, name = "", ""
    if container:
        by = container["by"] or ("docker" if "/docker/" in path[: container.end("id")] else "")
        runtime = _RUNTIMES.get(by.removesuffix("-conmon"), "")
        name = "" if by.endswith("-conmon") else container["id"]  # a helper beside the container
    qos = pod["in"] if pod else None
    return Workload(
        container=name,
        runtime=runtime,
        pod=pod["uid"].replace("_", "-") if pod else "",
        qos="guaranteed" if qos == "kubepods" else qos or "",
        job=slurm["job"] if slurm else "",
        step=(slurm["step"] or "") if slurm else "",
        task=(slurm["task"] or "") if slurm else "",
        user=(slurm["uid"] or "") if slurm else "",
    )
