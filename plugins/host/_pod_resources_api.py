"""The messages of kubelet's pod resources API, v1, as far as we read them.

They are declared here by field number and type, as api.proto of k8s.io/kubelet, in
pkg/apis/podresources/v1, publishes them; protobuf passes over what is not declared.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

METHOD = "/v1.PodResourcesLister/List"

_Field = descriptor_pb2.FieldDescriptorProto
# Message: field: number, and the message it repeats, or else whether it is a list of strings.
_MESSAGES: dict[str, dict[str, tuple[int, str | bool]]] = {
    "ListPodResourcesRequest": {},
    "ListPodResourcesResponse": {"pod_resources": (1, "PodResources")},
    "PodResources": {
        "name": (1, False),
        "namespace": (2, False),
        "containers": (3, "ContainerResources"),
    },
    "ContainerResources": {
        "name": (1, False),
        "devices": (2, "ContainerDevices"),
        "dynamic_resources": (5, "DynamicResource"),
    },
    "ContainerDevices": {"resource_name": (1, False), "device_ids": (2, True)},
    "DynamicResource": {
        "claim_name": (2, False),
        "claim_namespace": (3, False),
        "claim_resources": (4, "ClaimResource"),
    },
    "ClaimResource": {
        "cdi_devices": (1, "CDIDevice"),
        "driver_name": (2, False),
        "pool_name": (3, False),
        "device_name": (4, False),
    },
    "CDIDevice": {"name": (1, False)},
}


def messages() -> tuple[type[Message], type[Message]]:
    """Make the classes of request and response of `METHOD`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="pod_resources.proto", package="v1", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = _Field.LABEL_REPEATED if kind else _Field.LABEL_OPTIONAL
            made.type = _Field.TYPE_MESSAGE if isinstance(kind, str) else _Field.TYPE_STRING
            if isinstance(kind, str):
                made.type_name = f".v1.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}"))
        for name in ("ListPodResourcesRequest", "ListPodResourcesResponse")
    )
    return request, response
