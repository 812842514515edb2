import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.read import cgroup
from collector.read.cgroup import Workload, parse
from tests.data import data

ID = "ab" * 32
UID = "11111111-2222-3333-4444-555555555555"
SLICE = UID.replace("-", "_")
KEYS = {
    "runtime": "runtime",
    "pod_uid": "pod",
    "container_id": "container",
    "qos": "qos",
    "slurm_job": "job",
    "slurm_step": "step",
    "slurm_task": "task",
    "slurm_uid": "user",
}


def test_every_known_format():
    cases = json.loads(data("host/cgroup_formats.json").read_text())["cases"]
    assert len(cases) == 18
    for case in cases:
        found = parse(case["line"] + "\n")
        told = {ours: case[theirs] for theirs, ours in KEYS.items() if theirs in case}
        told = {name: "" if value == "any" else value for name, value in told.items()}
        assert {name: getattr(found, name) for name in told} == told, case["line"]
        identity = {"pod", "container", "job"} - set(told)
        if "conmon" in case.get("comment", ""):
            identity.remove("pod")  # the helper is charged to the pod
        assert {getattr(found, name) for name in identity} <= {""}, case["line"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0::/", Workload()),
        ("0::/user.slice/user-1000.slice/session-3.scope", Workload()),
        # kubelet with the systemd driver over a runtime with cgroupfs
        (
            f"4:cpu:/system.slice/containerd.service/kubepods-burstable-pod{SLICE}.slice"
            f":cri-containerd:{ID}",
            Workload(ID, "containerd", UID, "burstable"),
        ),
        # a node of kind is a container itself
        (
            f"0::/docker/{'cd' * 32}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort"
            f".slice/kubelet-kubepods-besteffort-pod{SLICE}.slice/cri-containerd-{ID}.scope",
            Workload(ID, "containerd", UID, "besteffort"),
        ),
        # Docker in Docker
        (f"0::/docker/{ID}/docker/{'cd' * 32}", Workload(ID, "docker")),
        (f"0::/kubepods/pod{UID}/{ID}/extra", Workload(ID, "", UID, "guaranteed")),
        ("0::/system.slice/slurmstepd.scope/job_7", Workload(job="7")),
        # named like a job's, in a place where users name cgroups
        ("0::/user.slice/user-1000.slice/job_7/step_0", Workload()),
        # longer or shorter than an id
        (f"0::/docker/{ID}0", Workload()),
        (f"0::/docker/{ID[1:]}", Workload()),
    ],
)
def test_paths(line, expected):
    assert parse(line) == expected


def test_lines_of_several_hierarchies_add_up():
    text = (
        "11:cpuset:/\n10:memory:/slurm/uid_1000/job_211/step_0/task_2\n"
        f"9:devices:/docker/{ID}\n0::/\n"
    )
    assert parse(text) == Workload(ID, "docker", job="211", step="0", task="2", user="1000")


@given(
    st.uuids(),
    st.sampled_from(["burstable", "besteffort", "guaranteed"]),
    st.sampled_from([("cri-containerd", "containerd"), ("crio", "cri-o"), ("docker", "docker")]),
    st.binary(min_size=32, max_size=32),
    st.booleans(),
)
def test_what_a_kubelet_writes_is_read_back(uid, qos, runtime, container, systemd):
    of, name = ("", "") if qos == "guaranteed" else (f"-{qos}", f"/{qos}")
    identity = str(uid).replace("-", "_")
    if systemd:
        line = (
            f"0::/kubepods.slice{f'/kubepods{of}.slice' if of else ''}/kubepods{of}-pod{identity}"
        )
        line += f".slice/{runtime[0]}-{container.hex()}.scope"
    else:
        line = f"3:memory:/kubepods{name}/pod{uid}/{container.hex()}"
    found = parse(line)
    assert found == Workload(container.hex(), runtime[1] if systemd else "", str(uid), qos)


@given(st.text())
def test_any_text_is_read(text):
    assert isinstance(parse(text), Workload)
    assert isinstance(parse(f"0::{text}"), Workload)


def test_a_process_that_is_gone_belongs_to_nothing(tmp_path):
    assert cgroup.read(tmp_path, 7) == Workload()
