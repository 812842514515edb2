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
    `server.address`, `gen_ai.*`); PDUs and their parts have none there.
    """

    SITE = ("site", ("site",))
    RACK = ("rack", ("rack",))
    PDU = ("pdu", ("pdu",))
    INLET = ("inlet", ("pdu", "inlet"))
    PHASE = ("phase", ("pdu", "phase"))
    BREAKER = ("breaker", ("pdu", "breaker"))
    OUTLET = ("outlet", ("pdu", "outlet"))
    ENVIRONMENT = ("environment", ("pdu", "sensor"))
    HOST = ("host", ("host.name",))
    NUMA_NODE = ("numa_node", ("host.name", "numa.node"))
    CPU = ("cpu", ("host.name", "hw.id"), {"hw.type": "cpu"})
    SENSOR = ("sensor", ("host.name", "hw.id"))
    GPU = ("gpu", ("host.name", "hw.id"), {"hw.type": "gpu"})
    PROCESS = ("process", ("host.name", "process.pid"))
    CONTAINER = ("container", ("container.id",))
    POD = ("pod", ("k8s.pod.uid",))
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
