"""What a metric is, and the one rule by which it is named everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from collector.entity import Kind

NAMESPACE = "w2t"


class Instrument(Enum):
    """How a metric's value behaves: Prometheus's types, OpenTelemetry's data points."""

    GAUGE = "gauge"
    COUNTER = "counter"  # cumulative, monotonic
    __hash__ = object.__hash__


GAUGE = Instrument.GAUGE
COUNTER = Instrument.COUNTER

# Prometheus's words for UCUM units, as its OTLP endpoint translates them
# (github.com/prometheus/otlptranslator, metric_namer.go: unitMap and perUnitMap).
_UNITS = {
    "1": "",
    "%": "percent",
    "A": "amperes",
    "By": "bytes",
    "Cel": "celsius",
    "Hz": "hertz",
    "J": "joules",
    "V": "volts",
    "W": "watts",
    "d": "days",
    "g": "grams",
    "h": "hours",
    "m": "meters",
    "min": "minutes",
    "s": "seconds",
}
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True, eq=False)
class Metric:
    """One declaration that serves the store, both exporters, the docs and the checks.

    Args:
        name: Dotted, without the namespace: `gpu.power`.
        instrument: `GAUGE` or `COUNTER`.
        unit: UCUM: `W`, `J`, `Cel`, `s`, `By`, `1` for a ratio 0..1, `{token}` for a count.
        kind: The kind of entity that it is measured on.
        help: One sentence, with what a reader would otherwise get wrong.
        labels: Names of further labels, in the order in which `Batch.add` takes their values.
    """

    name: str
    instrument: Instrument
    unit: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @cached_property
    def otlp(self) -> str:
        """The name on the OTLP route: `w2t.gpu.power`."""
        return f"{NAMESPACE}.{self.name}"

    @cached_property
    def prometheus(self) -> str:
        """The name on a scraped page: `w2t_gpu_power_watts`.

        Prometheus makes the same name of `otlp` and `unit` when it takes OTLP in.
        """
        tokens = re.findall(r"[A-Za-z0-9:]+", self.otlp)
        main, _, per = self.unit.partition("/")
        if main and "{" not in main:
            word = _UNITS.get(main, main)
            tokens += [word] if word and word not in tokens else []
        if per and "{" not in per:
            tokens.append(f"per_{_PER_UNITS.get(per, per)}")
        if self.instrument is COUNTER:
            tokens.append("total")
        elif self.unit == "1":
            tokens.append("ratio")
        return "_".join(tokens)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """All label names of a sample: the entity's identity, then the metric's own."""
        return self.kind.labels + self.labels


def prometheus_label(name: str) -> str:
    """Give Prometheus's form of an attribute name: `host.name` becomes `host_name`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
