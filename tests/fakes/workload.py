"""Processes and GPUs in a planted /proc and /sys."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.tree import plant

NO_FIELDS = "0 " * 30


def uuid(minor: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{minor:012x}"


def gpu(root: Path, minor: int, node: int, cpus: str) -> str:
    """Plant a GPU and return its PCI address."""
    address = f"0000:{0x10 + minor:02x}:00.0"
    plant(
        root,
        {
            f"proc/driver/nvidia/gpus/{address}/information": f"GPU UUID: \t {uuid(minor)}\n"
            f"Device Minor: \t {minor}\n",
            f"sys/bus/pci/devices/{address}/numa_node": f"{node}\n",
            f"sys/bus/pci/devices/{address}/local_cpulist": f"{cpus}\n",
        },
    )
    return address


def stat(pid: int, name: str, state: str, start: int = 500) -> str:
    """Make a stat line; it has 11 minor and 3 major faults."""
    return f"{pid} ({name}) {state} 1 1 1 0 -1 4194304 11 0 3 0 {'0 ' * 8}{start} {NO_FIELDS}\n"


def process(
    root: Path,
    pid: int,
    name: str = "python",
    *,
    state: str = "S",
    start: int = 500,
    cpus: str = "0-63",
    nodes: str = "0-1",
    cgroup: str = "0::/",
    opened: tuple[int, ...] = (),
    mapped: tuple[int, ...] = (),
    switches: int = 7,
    threads: dict[int, tuple[str, str]] | None = None,
) -> None:
    """Plant a process; `threads` are more than its main one: state, and where it waits."""
    base = f"proc/{pid}"
    status = (
        f"Name:\t{name}\nNSpid:\t{pid}\nUid:\t1000\t1000\t1000\t1000\nCpus_allowed_list:\t{cpus}\n"
        f"Mems_allowed_list:\t{nodes}\nvoluntary_ctxt_switches:\t{switches}\n"
        "nonvoluntary_ctxt_switches:\t1\n"
    )
    files = {
        f"{base}/stat": stat(pid, name, state, start),
        f"{base}/status": status,
        f"{base}/cgroup": f"{cgroup}\n",
        f"{base}/cmdline": f"/usr/bin/{name}\0--api-key=secret\0",
        f"{base}/maps": "".join(f"7f00-7f01 rw-s 0 00:05 9 /dev/nvidia{n}\n" for n in mapped),
        f"{base}/task/{pid}/status": status,
    }
    for tid, (of, place) in (threads or {}).items():
        files[f"{base}/task/{tid}/stat"] = stat(tid, f"{name}-{tid}", of, start + 1)
        files[f"{base}/task/{tid}/status"] = status
        files[f"{base}/task/{tid}/wchan"] = place
    plant(root, files)
    descriptors = root / base / "fd"
    descriptors.mkdir(exist_ok=True)
    for number, target in enumerate(
        ["/dev/null", *(["/dev/nvidiactl"] if opened else []), *(f"/dev/nvidia{n}" for n in opened)]
    ):
        link = descriptors / str(number)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
