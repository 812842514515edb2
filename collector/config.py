"""The config file: TOML in, checked settings out, every error at once."""

from __future__ import annotations

import difflib
import logging
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from collector import plugin, toml
from collector.plugin import Plugin, PluginError
from collector.secret import Secret

log = logging.getLogger(__name__)

DEFAULT_LISTEN = "0.0.0.0:9842"


class Section(BaseModel):
    """A table of the config whose keys are all known."""

    model_config = ConfigDict(extra="forbid")


class Daemon(Section):
    """The daemon itself."""

    host_name: str = Field(
        default_factory=socket.gethostname, description="`host.name` of what is read on this host."
    )
    detect: bool = Field(
        default=True, description="Also run the plugins that find something on this host."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Web(Section):
    """The HTTP endpoint."""

    listen_address: list[str] = Field(
        default=[DEFAULT_LISTEN], description="host:port; several are allowed."
    )
    enable_lifecycle: bool = Field(default=False, description="Allow POST /-/reload.")


class History(Section):
    """How much is remembered."""

    resolution: float = Field(default=1.0, gt=0, description="Seconds of one slot.")
    history: float = Field(default=3600.0, gt=0, description="Seconds that are kept.")


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
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    headers: dict[str, Secret] = Field(
        default={}, description='Sent along; each `"text"`, `{ file = "…" }` or `{ env = "…" }`.'
    )
    interval: float = Field(default=10.0, gt=0, description="Seconds between two pushes.")
    timeout: float = Field(default=5.0, gt=0, description="Seconds that one attempt may take.")
    compression: Literal["gzip", "none"] | None = Field(
        default=None, description="gzip or none; by default gzip over HTTP and none over gRPC."
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        from collector.otlp_transport import transport

        transport(self.protocol, self.endpoint, {}, False)
        return self


class Exporters(Section):
    """Where samples are sent; the scrape endpoint is under [web]."""

    otlp: Otlp | None = None


class Host(Section):
    """What only people know of a host."""

    rack: str | None = None
    outlets: list[Annotated[str, Field(pattern="^.+/[^/]+$")]] = Field(
        default=[], description="Outlets that feed it, all of its feeds: `pdu/outlet`."
    )


class Engine(Section):
    """What cannot be seen of an engine that runs on another host."""

    host: str | None = None
    rank: str = Field(default="0", description="The rank of data parallelism.")
    gpus: list[str] = Field(default=[], description="UUIDs of the GPUs that it uses.")


class Placement(Section):
    """What only people know of racks, PDUs, hosts and engines."""

    hosts: dict[str, Host] = {}
    pdus: dict[str, str] = Field(default={}, description="PDU to rack.")
    racks: dict[str, str] = Field(default={}, description="Rack to site.")
    engines: dict[Annotated[str, Field(pattern="^.+:[0-9]+$")], Engine] = Field(
        default={}, description="By `address:port`."
    )


class Settings(Section):
    """All of the config but the plugins, which each check their own tables."""

    daemon: Daemon = Field(default_factory=Daemon)
    web: Web = Web()
    store: History = History()
    attribution: Attribution = Attribution()
    exporters: Exporters = Exporters()
    topology: Placement = Placement()


class Configured(NamedTuple):
    """One plugin instance that is to run."""

    name: str
    plugin: Plugin


class Config(NamedTuple):
    """A checked config."""

    settings: Settings
    plugins: list[Configured]


Checked = TypeVar("Checked", bound=BaseModel)


class ConfigError(Exception):
    """A config that cannot be used; `problems` holds every one, `file:line: key: what`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path | None, *, only: str | None = None) -> Config:
    """Read and check the config.

    Args:
        path: The file, or None for the defaults and what is found on this host.
        only: Check and make the plugin of this name alone, running or not.

    Raises:
        ConfigError: With all that is wrong.
    """
    if path is None:
        return parse("", "defaults", only=only)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    return parse(text, str(path), only=only)


def parse(text: str, name: str, *, only: str | None = None) -> Config:
    """Check the text of a config; `name` is what errors call it. See `load`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    checker = _Checker(name, toml.lines(text))
    plugins = tables.pop("plugins", {})
    settings = checker.check(Settings, tables, (), extra=("plugins",))
    detect = settings is None or settings.daemon.detect
    configured = checker.plugins(plugins, detect=detect, only=only)
    if checker.problems or settings is None:
        raise ConfigError([text for _, text in sorted(checker.problems)])
    return Config(settings, configured)


class _Checker:
    """Collects problems with their lines."""

    def __init__(self, name: str, lines: dict[toml.Path, int]) -> None:
        self.problems: set[tuple[int, str]] = set()
        self._name = name
        self._lines = lines

    def problem(self, path: toml.Path, what: str) -> None:
        line = toml.line(self._lines, path)
        key = ".".join(str(part) for part in path if not isinstance(part, int))
        self.problems.add((line, f"{self._name}:{line}: {key}: {what}"))

    def check(
        self,
        model: type[Checked],
        table: object,
        path: toml.Path,
        extra: tuple[str, ...] = (),
    ) -> Checked | None:
        """Validate a table; None if it has problems."""
        try:
            return model.model_validate(table)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                where = tuple(part for part in one["loc"])
                if one["type"] == "extra_forbidden":
                    known = [*_fields(model, where[:-1]), *extra]
                    self.problem(path + where, f"unknown key{_nearest(str(where[-1]), known)}")
                else:
                    self.problem(path + where, one["msg"].removeprefix("Value error, "))
            return None

    def plugins(self, tables: object, *, detect: bool, only: str | None) -> list[Configured]:
        """Make the plugin instances that the config or this host asks for."""
        made: list[Configured] = []
        if not isinstance(tables, dict):
            self.problem(("plugins",), "must be a table: [plugins.NAME]")
            return made
        names = plugin.names()
        for name in [*tables, *([only] if only else [])]:
            if name not in names:
                self.problem(("plugins", name), f"no such plugin{_nearest(name, names)}")
        for name in names if detect or only else [name for name in names if name in tables]:
            if only is not None and name != only:
                continue
            try:
                kind = plugin.load(name)
            except PluginError as error:
                if name in tables:
                    self.problem(("plugins", name), str(error))
                continue
            if name in tables:
                made += self._configured(name, kind, tables[name], only=only)
            else:
                found = _detect(name, kind) or ([{}] if only else [])
                instances = [self.check(kind, config, ("plugins", name)) for config in found]
                made += [Configured(name, instance) for instance in instances if instance]
        return made

    def _configured(
        self, name: str, kind: type[Plugin], table: object, only: str | None
    ) -> list[Configured]:
        made: dict[str, Configured] = {}
        for path, config in self._instances(("plugins", name), table):
            if not config.pop("enabled", True) and only is None:
                continue
            instance = self.check(kind, config, path, extra=("enabled", "targets"))
            if instance is None:
                continue
            if instance.target in made:
                self.problem(path, f"target {instance.target!r} is there twice")
            made[instance.target] = Configured(name, instance)
        return list(made.values())

    def _instances(self, path: toml.Path, table: object) -> list[tuple[toml.Path, dict[str, Any]]]:
        """Give the config of each target: a table, its `targets`, or an array of tables."""
        if isinstance(table, list):
            return [
                found
                for index, one in enumerate(table)
                for found in self._instances((*path, index), one)
            ]
        if not isinstance(table, dict):
            self.problem(path, "must be a table")
            return []
        common = {key: value for key, value in table.items() if key != "targets"}
        if "targets" not in table:
            return [(path, common)]
        if not isinstance(table["targets"], list):
            self.problem((*path, "targets"), "must be a list of targets or of tables")
            return []
        return [
            ((*path, "targets"), common | one)
            if isinstance(one, dict)
            else (path, common | {"target": one})
            for one in table["targets"]
        ]


def _fields(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """List the keys that are known at a path inside a model."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if nested:
            model = nested[-1]
    return list(model.model_fields)


def _detect(name: str, kind: type[Plugin]) -> list[dict[str, Any]]:
    try:
        return kind.detect()
    except Exception as error:  # noqa: BLE001 - nobody asked for this plugin: the others go on
        log.warning("plugin %s cannot look at this host: %s", name, error)
        return []


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}"
