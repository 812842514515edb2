"""Which container was given which GPU, by kubelet's pod resources API."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import host
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, record
from plugins.host import _pods
from plugins.host._gpus import Gpu, Gpus

_SOCKET = Path("var/lib/kubelet/pod-resources/kubelet.sock")
_LARGEST = 64 << 20  # bytes of an answer; kubelet's own clients allow 16 MiB

# Ids by who makes them. NVIDIA's device plugin: the UUID, with `::N` where it shares in time or by
# MPS. GKE's: `nvidia0`, `nvidia0/gi1`, with `/vgpuN` where it shares. NVIDIA's driver of dynamic
# resources: `gpu-0`. The number is that of /dev/nvidiaN.
_UUID = re.compile(r"(GPU-[0-9a-f-]{36}|MIG-[0-9A-Za-z/-]+)(?:::\d+)?")
_MINOR = re.compile(r"(?:nvidia|gpu-)(\d+)(/gi\d+|-mig-.*)?(?:/vgpu\d+)?")
_OURS = re.compile(r"nvidia", re.IGNORECASE)


class _Device(NamedTuple):
    resource: str
    id: str
    namespace: str
    pod: str
    container: str


class PodResources(Plugin):
    """Asks kubelet which devices it gave to whom; gRPC over kubelet's socket.

    The answer names pods and not their uids, which are found by `/var/log/pods`: without it there
    are no links from pods to GPUs.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (host.DEVICE_ALLOCATION,)

    root: Path = Field(default=Path("/"), description="Where `var` and `proc` are.")
    socket: Path = Field(default=_SOCKET, description="kubelet's socket, below `root`.")

    _files: Files = PrivateAttr()
    _gpus: Gpus = PrivateAttr()
    _channel: Any = PrivateAttr(default=None)
    _list: Callable[..., Any] = PrivateAttr()
    _request: Any = PrivateAttr()

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where there is a kubelet."""
        return [{}] if Path("/", _SOCKET).exists() else []

    def open(self) -> None:
        """Make the channel; kubelet is asked with the first poll.

        Raises:
            FileNotFoundError: There is no socket.
            ImportError: grpcio is not installed.
        """
        socket = (self.root / self.socket).absolute()
        if not socket.exists():
            raise FileNotFoundError(
                f"{socket} is not there: no kubelet runs here, or its folder is not mounted"
            )
        try:
            import grpc
        except ImportError as error:
            raise ImportError(
                "grpcio is not installed: pip install watts-to-tokens[grpc]"
            ) from error
        from plugins.host._pod_resources_api import METHOD, messages

        self._files = Files(self.root)
        self._gpus = Gpus(self._files)
        request, response = messages()
        self._request = request()
        self._channel = grpc.insecure_channel(
            f"unix://{socket}",
            options=[
                # Else gRPC sends the path of the socket, which is no authority (grpc#38142).
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", _LARGEST),
            ],
        )
        self._list = self._channel.unary_unary(
            METHOD,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        ).future

    def poll(self, batch: Batch) -> None:
        """Ask once.

        Raises:
            ConnectionError: kubelet does not answer, or not in this API.
            TimeoutError: Or not in time.
        """
        answer = self._ask()
        minors = {gpu.minor: gpu for gpu in self._gpus.read().values() if gpu.uuid}
        uids = _pods.uids(self.root)
        pods: dict[str, set[str]] = defaultdict(set)
        for device in dict.fromkeys(_devices(answer)):
            uuid = _uuid(device.id, minors)
            batch.add(
                host.DEVICE_ALLOCATION, batch.host, 1.0, device.resource, device.id, uuid,
                device.namespace, device.pod, device.container,
            )  # fmt: skip
            uid = uids.get((device.namespace, device.pod))
            if uid and uuid.startswith("GPU-"):
                pods[uuid].add(uid)
        for uuid, sharers in pods.items():
            for uid in sorted(sharers):
                batch.link(Kind.POD(uid), Kind.GPU(*batch.host.key, uuid), 1 / len(sharers))

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()

    def record(self, folder: Path) -> None:
        """Save kubelet's answer as text, and the driver's files; names of pods are in it."""
        from google.protobuf import text_format

        record(self, lambda: self._files, folder)
        self.open()
        answer = self._ask()
        self.close()
        (folder / "input").mkdir(parents=True, exist_ok=True)
        (folder / "input/kubelet.textproto").write_text(text_format.MessageToString(answer))

    def _ask(self) -> Any:  # noqa: ANN401 - made at run time
        import grpc

        place, call = self.root / self.socket, self._list(self._request)
        try:
            return call.result(self.timeout)
        except grpc.FutureTimeoutError:
            call.cancel()
            raise TimeoutError(f"{place}: no answer within {self.timeout:g} s") from None
        except grpc.RpcError as error:
            code, details = (getattr(error, name)() for name in ("code", "details"))
            raise ConnectionError(f"{place}: {code.name}: {details}") from None


def _devices(answer: Any) -> Iterator[_Device]:  # noqa: ANN401 - made at run time
    """Give each NVIDIA device that a container holds."""
    for pod in answer.pod_resources:
        for container in pod.containers:
            holder = (pod.namespace, pod.name, container.name)
            for devices in container.devices:
                if _OURS.search(devices.resource_name):
                    for name in devices.device_ids:
                        yield _Device(devices.resource_name, name, *holder)
            for claim in container.dynamic_resources:
                for given in claim.claim_resources:
                    # Before Kubernetes 1.31 kubelet told the name for CDI alone.
                    for name in [given.device_name] if given.device_name else _cdi(given):
                        resource = given.driver_name or claim.claim_name
                        if _OURS.search(resource) or _MINOR.fullmatch(name):
                            yield _Device(resource, name, *holder)


def _cdi(given: Any) -> list[str]:  # noqa: ANN401 - made at run time
    """Give the devices of names like `k8s.gpu.nvidia.com/device=gpu-0`."""
    return [
        device.name.partition("=")[2]
        for device in given.cdi_devices
        if _OURS.search(device.name.partition("=")[0])
    ]


def _uuid(name: str, minors: Mapping[int | None, Gpu]) -> str:
    """Say which GPU or MIG slice a device id means; "" where that cannot be told."""
    if match := _UUID.fullmatch(name):
        return match[1]
    match = _MINOR.fullmatch(name)
    if match is None or match[2]:  # the UUID of a slice is the driver's to tell
        return ""
    gpu = minors.get(int(match[1]))
    return gpu.uuid if gpu else ""
