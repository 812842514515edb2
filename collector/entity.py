"""Things that are measured: a kind and a natural key."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Entity(NamedTuple):
    """One thing that is measured, for instance a GPU on a host.

    `key` holds the parts of the natural key, in the order of `kind.keys`. Make one by calling
    its kind: `Kind.GPU("node1", "GPU-5c8f…")`.
    """

    kind: Kind
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind.word}:{'/'.join(self.key)}"

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The entity's identity as attribute names and values."""
        return tuple(zip(self.kind.labels, (*self.key, *self.kind.constants.values()), strict=True))


class Kind(Enum):
    """The kinds of entity: the word for it, the attributes that make its natural key, constants.

    Attributes are OpenTelemetry's where it has them (`host.name`, `hw.id`, `hw.type`,
    `hw.parent`, `server.address`, `gen_ai.*`); PDUs, cooling units and their parts have none there.
    `hw.parent` names the host, GPU, PDU or cooling unit of which the thing is a part.
    """

    SITE = ("site", ("site",))
    RACK = ("rack", ("rack",))
    PDU = ("pdu", ("pdu",))
    INLET = ("inlet", ("pdu", "inlet"))
    PHASE = ("phase", ("pdu", "phase"))
    BREAKER = ("breaker", ("pdu", "breaker"))
    OUTLET = ("outlet", ("pdu", "outlet"))
    ENVIRONMENT = ("environment", ("pdu", "sensor"))
    POWER_SUPPLY = ("power_supply", ("hw.parent", "hw.id"), {"hw.type": "power_supply"})
    COOLING_UNIT = ("cooling_unit", ("cooling_unit",))
    COOLANT_LOOP = ("coolant_loop", ("cooling_unit", "coolant_loop"))
    PUMP = ("pump", ("cooling_unit", "pump"))
    FAN = ("fan", ("hw.parent", "hw.id"), {"hw.type": "fan"})
    LEAK_DETECTOR = ("leak_detector", ("hw.parent", "hw.id"))
    HOST = ("host", ("host.name",))
    NUMA_NODE = ("numa_node", ("host.name", "numa.node"))
    CPU = ("cpu", ("host.name", "hw.id"), {"hw.type": "cpu"})
    SENSOR = ("sensor", ("host.name", "hw.id"))
    GPU = ("gpu", ("host.name", "hw.id"), {"hw.type": "gpu"})
    MIG = ("mig", ("host.name", "hw.parent", "hw.id"), {"hw.type": "gpu"})
    NVLINK = ("nvlink", ("host.name", "hw.parent", "nvlink"))
    PORT = ("port", ("host.name", "hw.id"), {"hw.type": "network"})
    INTERFACE = ("interface", ("host.name", "network.interface.name"))
    COMMUNICATOR = ("communicator", ("host.name", "nccl.communicator"))
    RANK = ("rank", ("host.name", "nccl.communicator", "nccl.rank"))
    PROCESS = ("process", ("host.name", "process.pid"))
    CONTAINER = ("container", ("container.id",))
    POD = ("pod", ("k8s.pod.uid",))
    JOB = ("job", ("slurm.job.id",))
    ENGINE = ("engine", ("server.address", "server.port", "engine.rank"))
    MODEL = ("model", ("gen_ai.request.model",))
    AGENT = ("agent", ("gen_ai.agent.name",))
    SOURCE = ("source", ("plugin", "target"))
    EXPORTER = ("exporter", ("exporter",))
    DAEMON = ("daemon", ())

    def __init__(
        self, word: str, keys: tuple[str, ...], constants: dict[str, str] | None = None
    ) -> None:
        self.word = word
        self.keys = keys
        self.constants = constants or {}
        self.labels = (*keys, *self.constants)

    __hash__ = object.__hash__

    def __call__(self, *key: str) -> Entity:
        """Make an entity of this kind.

        Raises:
            ValueError: The number of parts is not that of the kind's natural key.
        """
        if len(key) != len(self.keys):
            raise ValueError(f"{self.word} needs {self.keys}, not {key}")
        return Entity(self, key)
