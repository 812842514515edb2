"""The config file: TOML in, checked settings out, every error at once."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from collector import plugin, toml
from collector.plugin import Plugin, PluginError
from collector.settings import Settings

log = logging.getLogger(__name__)


class Configured(NamedTuple):
    """One plugin instance that is to run."""

    name: str
    plugin: Plugin


class Config(NamedTuple):
    """A checked config; `detectable` are the plugins that run where they find something."""

    settings: Settings
    plugins: list[Configured]
    detectable: frozenset[str] = frozenset()


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
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    return parse(text, str(path), only=only)


def parse(text: str, name: str, *, only: str | None = None) -> Config:
    """Check the text of a config; `name` is what errors call it. See `load`."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    checker = _Checker(name, toml.lines(text))
    plugins = tables.pop("plugins", {})
    settings = checker.check(Settings, tables, (), extra=("plugins",))
    detect = settings is None or settings.daemon.detect
    configured = checker.plugins(plugins, detect=detect, only=only)
    if checker.problems or settings is None:
        raise ConfigError([text for _, text in sorted(checker.problems)])
    names = plugin.names() if detect and only is None else []
    return Config(settings, configured, frozenset(names) - frozenset(plugins))


def found(names: Iterable[str]) -> list[Configured]:
    """Make the instances of those plugins that find something on this host; never raises."""
    made: list[Configured] = []
    for name in sorted(names):
        try:
            kind = plugin.load(name)
            made += [Configured(name, kind.model_validate(config)) for config in kind.detect()]
        except Exception as error:  # noqa: BLE001 - nobody asked for this plugin: the others go on
            log.warning("plugin %s cannot look at this host: %s", name, error)
    return made


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
        for name in names if only is None else {only} & set(names):
            here = found([name]) if name not in tables and (detect or only) else []
            if name in tables or (only and not here):
                here = self._configured(name, tables.get(name, {}), only=only)
            made += here
        return made

    def _configured(self, name: str, table: object, only: str | None) -> list[Configured]:
        try:
            kind = plugin.load(name)
        except PluginError as error:
            self.problem(("plugins", name), str(error))
            return []
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
                instance
                for index, one in enumerate(table)
                for instance in self._instances((*path, index), one)
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


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}"
