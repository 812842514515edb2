"""All that the config can say but the plugins' tables; `collector.config` reads it."""

from __future__ import annotations

import socket
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collector.secret import Secret

DEFAULT_LISTEN = "0.0.0.0:9842"


class Section(BaseModel):
    """A table of the config whose keys are all known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Daemon(Section):
    """The daemon itself."""

    host_name: str = Field(
        default_factory=socket.gethostname, description="`host.name` of what is read on this host."
    )
    detect: bool = Field(
        default=True, description="Also run the plugins that find something on this host."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )


def _listen(text: str) -> str:
    from collector.web.listener import parse

    parse(text)
    return text


class Web(Section):
    """The HTTP endpoint."""

    listen_address: list[Annotated[str, AfterValidator(_listen)]] = Field(
        default=[DEFAULT_LISTEN], description="host:port; several are allowed."
    )
    enable_lifecycle: bool = Field(default=False, description="Allow POST /-/reload.")


class History(Section):
    """How much is remembered."""

    resolution: float = Field(
        default=1.0,
        gt=0,
        description="Seconds of one slot; 10 saves memory where only PDUs are polled.",
    )
    history: float = Field(
        default=3600.0, gt=0, le=366 * 86400, description="Seconds that are kept."
    )


class Attribution(Section):
    """How energy is handed down from the outlet to the agent."""

    interval: float = Field(default=5.0, gt=0, description="Seconds between two steps.")
    window: float = Field(default=60.0, gt=0, description="Seconds of the J/token gauges.")
    claim: float = Field(
        default=900.0, gt=0, description="Seconds for which a late call can still claim energy."
    )
    prompt_token_weight: float = Field(
        default=0.1, ge=0, description="Energy of a computed prompt token per generated one's."
    )


class Otlp(Section):
    """A push of all samples by OTLP."""

    endpoint: str = Field(description="http://host:4318 or, for gRPC, http://host:4317.")
    protocol: Literal["http/protobuf", "grpc"] = Field(
        default="http/protobuf", description="http/protobuf or grpc."
    )
    headers: dict[str, Secret] = Field(
        default={}, description='Sent along; each `"text"`, `{ file = "…" }` or `{ env = "…" }`.'
    )
    interval: float = Field(default=10.0, gt=0, description="Seconds between two pushes.")
    timeout: float = Field(default=5.0, gt=0, description="Seconds that one attempt may take.")
    compression: Literal["gzip", "none"] | None = Field(
        default=None, description="gzip or none; by default gzip over HTTP and none over gRPC."
    )
    events: bool = Field(
        default=False, description="Send events too, as logs; Prometheus does not take them."
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        from collector.export.otlp_transport import transport

        transport(self.protocol, self.endpoint, {}, False)
        return self


class Exporters(Section):
    """Where samples are sent; the scrape endpoint is under [web]."""

    otlp: Otlp | None = None


def _outlet(text: str) -> str:
    pdu, _, outlet = text.rpartition("/")
    if not pdu or not outlet:
        raise ValueError(f"{text!r} is no outlet: write pdu/outlet")
    return text


def _breaker(text: str) -> str:
    pdu, _, breaker = text.rpartition("/")
    if not pdu or not breaker:
        raise ValueError(f"{text!r} is no breaker: write pdu/breaker")
    return text


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{text!r} is no address of an engine: write host:port")
    return text


class Host(Section):
    """What only people know of a host."""

    rack: str | None = Field(default=None, description="The rack that it stands in.")
    outlets: list[Annotated[str, AfterValidator(_outlet)]] = Field(
        default=[], description="Outlets that feed it, all of its feeds: `pdu/outlet`."
    )


class Engine(Section):
    """What cannot be seen of an engine that runs on another host."""

    host: str | None = Field(default=None, description="The host that it runs on.")
    rank: str = Field(default="0", description="The rank of data parallelism.")
    gpus: list[str] = Field(default=[], description="UUIDs of the GPUs that it uses.")


class Placement(Section):
    """What only people know of racks, PDUs, hosts and engines."""

    hosts: dict[str, Host] = {}
    pdus: dict[str, str] = Field(default={}, description="PDU to rack.")
    racks: dict[str, str] = Field(default={}, description="Rack to site.")
    cooling_units: dict[str, list[str]] = Field(
        default={}, description="Cooling unit to the racks that it cools."
    )
    engines: dict[Annotated[str, AfterValidator(_address)], Engine] = Field(
        default={}, description="By `address:port`."
    )


Watts = Annotated[float, Field(gt=0)]
Amperes = Annotated[float, Field(gt=0)]


class Capacity(Section):
    """What may be drawn, where no device says it or less was agreed."""

    sites: dict[str, Watts] = Field(default={}, description="Watts of a site's contract.")
    racks: dict[str, Watts] = Field(default={}, description="Watts of a rack.")
    pdus: dict[str, Watts] = Field(default={}, description="Watts of a PDU.")
    breakers: dict[Annotated[str, AfterValidator(_breaker)], Amperes] = Field(
        default={}, description="Amperes of a breaker's rating, by `pdu/breaker`."
    )
    breaker_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of a breaker's rating that may flow all the time; 0.8 by NEC 210.20.",
    )


class Hangs(Section):
    """When collectives are taken to hang: no operations while GPUs are busy waiting."""

    after: float = Field(default=30.0, gt=0, description="Seconds without an operation.")
    utilization: float = Field(
        default=0.95, gt=0, le=1, description="Utilization from which on a GPU is busy."
    )
    power: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="The same as a share of the power limit, where utilization cannot be read.",
    )
    memory: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Memory utilization above which a GPU computes and does not wait; 1 for never.",
    )


class Evidence(Section):
    """What is saved at once when something goes wrong that leaves no trace later."""

    enabled: bool = Field(default=True, description="Save snapshots.")
    directory: str = Field(
        default="",
        description="Where to; by default evidence/ in $STATE_DIRECTORY or ~/.local/state/w2t.",
    )
    keep: int = Field(default=10, gt=0, description="Snapshots that are kept, the newest.")
    minutes: float = Field(default=10.0, gt=0, description="Minutes of history that are saved.")
    cooldown: float = Field(
        default=600.0, ge=0, description="Seconds between two snapshots for events of one name."
    )
    timeout: float = Field(default=20.0, gt=0, description="Seconds that one source may take.")
    max_bytes: int = Field(default=256 << 20, gt=0, description="Bytes of a snapshot at most.")


class Settings(Section):
    """All of the config but the plugins, which each check their own tables."""

    daemon: Daemon = Field(default_factory=Daemon)
    web: Web = Web()
    store: History = History()
    attribution: Attribution = Attribution()
    exporters: Exporters = Exporters()
    topology: Placement = Placement()
    capacity: Capacity = Capacity()
    hangs: Hangs = Hangs()
    evidence: Evidence = Evidence()
