import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link
from collector.catalog import host
from collector.entity import Kind
from collector.read.files import Files
from plugins.host._gpus import Gpus
from plugins.host._pod_resources_api import messages
from plugins.host.pod_resources import PodResources, _uuid
from tests.fakes.tree import HOST, read, values
from tests.fakes.workload import gpu, uuid

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from tests.fakes.kubelet import Kubelet  # noqa: E402 - needs grpc

ANSWER = """
pod_resources { name: "llm-0" namespace: "prod" containers {
  name: "server"
  devices { resource_name: "nvidia.com/gpu" device_ids: "%s" }
  devices { resource_name: "rdma/hca" device_ids: "mlx5_0" }
} }
pod_resources { name: "web" namespace: "prod" containers { name: "nginx" } }
"""


def pod(name, resource, *ids):
    devices = " ".join(f'device_ids: "{one}"' for one in ids)
    return (
        f'pod_resources {{ name: "{name}" namespace: "prod" containers {{ name: "c" '
        f'devices {{ resource_name: "{resource}" {devices} }} }} }}'
    )


def poll(root, answer):
    with Kubelet(answer) as kubelet:
        plugin = PodResources(root=root, socket=kubelet.socket)
        try:
            return read(plugin)
        finally:
            plugin.close()


def test_a_gpu_goes_to_a_container(tmp_path):
    (tmp_path / "var/log/pods/prod_llm-0_u-1").mkdir(parents=True)
    batch = poll(tmp_path, ANSWER % uuid(0))
    assert values(batch, host.DEVICE_ALLOCATION) == {
        ("nvidia.com/gpu", uuid(0), uuid(0), "prod", "llm-0", "server"): 1
    }
    assert batch.links == [Link(Kind.POD("u-1"), Kind.GPU("node1", uuid(0)), 1.0)]


def test_a_pod_whose_uid_is_not_known_is_not_linked(tmp_path):
    batch = poll(tmp_path, ANSWER % uuid(0))
    assert len(batch.keys) == 1
    assert batch.links == []


def test_pods_that_share_a_gpu_in_time_share_it(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"var/log/pods/prod_{name}_u-{name}").mkdir(parents=True)
    shared = f"{uuid(0)}::"
    answer = pod("a", "nvidia.com/gpu.shared", shared + "0", shared + "1")
    batch = poll(tmp_path, answer + pod("b", "nvidia.com/gpu.shared", shared + "7"))
    assert {key[1:3] for key in values(batch, host.DEVICE_ALLOCATION)} == {
        (shared + n, uuid(0)) for n in "017"
    }
    device = Kind.GPU("node1", uuid(0))
    assert batch.links == [Link(Kind.POD(f"u-{name}"), device, 0.5) for name in "ab"]


def test_devices_of_dynamic_resources(tmp_path):
    gpu(tmp_path, 1, 0, "0-31")
    answer = """
    pod_resources { name: "a" namespace: "prod" containers { name: "c" dynamic_resources {
      claim_name: "gpu" claim_namespace: "prod"
      claim_resources { driver_name: "gpu.nvidia.com" pool_name: "node1" device_name: "gpu-1"
        cdi_devices { name: "k8s.gpu.nvidia.com/device=gpu-1" } }
      claim_resources { cdi_devices { name: "k8s.gpu.nvidia.com/claim=gpu-0" } }
      claim_resources { driver_name: "dra.example.com" device_name: "fpga-0" }
    } } }
    """
    assert {key[:3] for key in values(poll(tmp_path, answer), host.DEVICE_ALLOCATION)} == {
        ("gpu.nvidia.com", "gpu-1", uuid(1)),
        ("gpu", "gpu-0", ""),
    }


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (uuid(3), uuid(3)),
        (f"{uuid(3)}::12", uuid(3)),
        ("MIG-11111111-2222-3333-4444-555555555555", "MIG-11111111-2222-3333-4444-555555555555"),
        ("MIG-GPU-11111111-2222-3333-4444-555555555555/1/0::3",
         "MIG-GPU-11111111-2222-3333-4444-555555555555/1/0"),
        ("nvidia3", uuid(3)),
        ("nvidia3/vgpu2", uuid(3)),
        ("nvidia3/gi1", ""),
        ("nvidia3/gi1/vgpu2", ""),
        ("gpu-3", uuid(3)),
        ("gpu-3-mig-1g10gb-19-0", ""),
        ("nvidia4", ""),
        ("mlx5_0", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_what_a_device_id_means(name, told, tmp_path):
    gpu(tmp_path, 3, 0, "0-31")
    minors = {one.minor: one for one in Gpus(Files(tmp_path)).read().values()}
    assert _uuid(name, minors) == told


def test_a_kubelet_that_refuses_is_a_failure(tmp_path):
    def refuse(context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")

    with pytest.raises(ConnectionError, match="RESOURCE_EXHAUSTED: rejected by rate limit"):
        poll(tmp_path, refuse)


def test_a_kubelet_that_hangs_is_a_failure(tmp_path):
    ended = threading.Event()

    def hang(_):
        ended.wait(30)
        return messages()[1]()

    with Kubelet(hang) as kubelet:
        plugin = PodResources(root=tmp_path, socket=kubelet.socket, timeout=0.05)
        with pytest.raises(TimeoutError, match=r"no answer within 0.05 s"):
            read(plugin)
        ended.set()
        plugin.close()


def test_a_kubelet_that_went_away_is_a_failure(tmp_path):
    with Kubelet(ANSWER % uuid(0)) as kubelet:
        plugin = PodResources(root=tmp_path, socket=kubelet.socket)
        plugin.open()
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        read(plugin, Batch(HOST, 0.0, plugin.metrics))
    plugin.close()


def test_no_socket_and_no_grpcio_say_so(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no kubelet runs here"):
        PodResources(root=tmp_path).open()
    (tmp_path / "k").touch()
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ImportError, match=r"watts-to-tokens\[grpc\]"):
        PodResources(root=tmp_path, socket=tmp_path / "k").open()


def test_the_messages_are_those_of_the_published_api():
    """By hand: {1: {1: "p", 2: "n", 3: {1: "c", 2: {1: "r", 2: "d", 3: {1: {1: 7}}}, 3: 5}}}."""
    devices = b"\x0a\x01r" + b"\x12\x01d" + b"\x1a\x04\x0a\x02\x08\x07"
    container = b"\x0a\x01c" + b"\x12" + bytes([len(devices)]) + devices + b"\x1a\x01\x05"
    one = b"\x0a\x01p\x12\x01n\x1a" + bytes([len(container)]) + container
    answer: Any = messages()[1].FromString(b"\x0a" + bytes([len(one)]) + one)
    (found,) = answer.pod_resources
    assert (found.name, found.namespace, found.containers[0].name) == ("p", "n", "c")
    assert list(found.containers[0].devices[0].device_ids) == ["d"]


@given(st.text())
def test_any_device_id_is_read(name):
    assert isinstance(_uuid(name, {}), str)


def test_record_gives_what_reads_the_same(tmp_path):
    gpu(tmp_path, 0, 0, "0-31")
    answer = pod("a", "nvidia.com/gpu", "nvidia0")
    with Kubelet(answer) as kubelet:
        PodResources(root=tmp_path, socket=kubelet.socket).record(tmp_path / "case")
    original = poll(tmp_path, answer)
    saved = (tmp_path / "case/input/kubelet.textproto").read_text()
    copy = poll(tmp_path / "case/input/root", saved)
    assert copy.keys == original.keys
    assert len(original.keys) == 1
