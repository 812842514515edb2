r"""Profiles: which SNMP objects of a family of devices mean what, as data.

A profile is one TOML file: those in a plugin's `profiles/`, and any that a user names by its path.

    source = "PowerNet-MIB, rPDU2 tables"   # where the objects are documented
    device = "pdu"          # what the device is: pdu (the default) or cooling_unit
    max_repetitions = 20    # of a GETBULK, lowered by itself; 0 is GETNEXT, for old agents
    batch = 40              # objects in one GET; halved by itself where an agent says tooBig
    first_unit = 1          # the unit of a daisy chain that answers; others are NAME/UNIT
    get_only = false        # the agent answers GET alone, so that all its objects are scalars

    [match]                 # which devices; the longest sysObjectID wins, then the rank
    sys_object_id = ["1.3.6.1.4.1.318.1.3.4.6"]
    sys_descr = "regular expression"        # for agents whose sysObjectID is wrong
    probe = "1.3.6.1.4.1.318.1.1.26.4.3.1.5"  # or a list: one must have a row; tried on unknown
                            # devices too
    rank = 0                # below 0: a general MIB, tried after those of the makers

    [info]                  # labels of pdu.info or cooling_unit.info
    vendor = "APC"
    model = "1.3.6.1.4.1.318.1.1.26.2.1.8"  # also serial, firmware: an object
    sys_descr = 'MN:(?P<model>\S+)'         # groups model, serial, firmware where objects lack

    [sum]                   # where the device states no total: of which parts it is the sum
    "pdu.power" = ["inlet.power", "phase.power"]    # the first that the device has

    [[table]]
    entity = "outlet"       # the device itself or a part of it, one of `KINDS`
    entry = "1.3.6.1.4.1.318.1.1.26.9.4.3.1"
    index = "row"           # names of the instance's sub-identifiers, dotted: "unit.number.sensor"
    fields = { unit = 2, number = 4, name = 3 }     # further names, each a column or an OID
    key = "{number}"        # the entity's key, made of these names
    unit = "{bus}.{address}"    # the unit, where it is no name of its own
    where = { number = [1, 2] }     # rows that count; unless = {...} names those that do not
    missing = [-1, "n/a"]   # raw values that mean "not available"
    digits = "OID"          # an object with the decimal digits of the row: value / 10^digits
    available = { column = 3, not = [-1], when = [0] }  # see Available
    values = [
      { metric = "outlet.power", column = 7, unit = "W" },
      { metric = "outlet.energy", column = 11, unit = "kWh", scale = 0.1 },
    ]

`unit` and `name` are special: the unit makes the device of which the row is a part, the name goes
to outlet.info or environment.info. A value may have `sensor` (it stands in rows whose sub-
identifier `sensor` is this), `basis` (for pdu.power: measured or estimated), `states` (raw value to
state, for metrics with the label state), `label` (for metrics with another label, as position), and
its own `where`, `unless`, `missing`, `digits`, `prefix` (an object holding ENTITY-SENSOR-MIB's
EntitySensorDataScale, RFC 3433), `divisor` (an object holding what to divide by) or `signed_scale`
(one as RITTAL-CMC-III-MIB's cmcIIIVarScale: -10 divides by 10, 10 multiplies). `unit` is one of
`units.UNITS`, or depends on the row or on a setting of the device: `{ oid = "OID", is = { 7 =
"Cel", 14 = "degF" } }`; it is asked with each poll. Ratings, `*.limit`, are taken at discovery;
where one is a text, `pattern` is a regular expression whose first group is the number. Objects in
other tables are looked up by the row's instance or the leading part of it that they have; a scalar
is named without its `.0`. Rows whose instance has not as many parts as `index` do not count. Where
two values give the same metric of an entity, the first counts.

A device that has another's tables below another OID is `like` it: `like = "panduit_g5"` takes all
that the file does not say itself from that profile, with OIDs that begin as `replace` has them put
in place: `replace = { "1.3.6.1.4.1.19536.10.1" = "1.3.6.1.4.1.232.165.11" }`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from collector.catalog import metering, power, thermal
from collector.entity import Kind
from collector.metric import Metric
from collector.read.snmp.units import UNITS

INFOS = {Kind.PDU: power.PDU_INFO, Kind.COOLING_UNIT: thermal.COOLING_UNIT_INFO}
RATING = ".limit"  # in the name of a metric that stays as long as the device does
KINDS = (
    *INFOS,
    Kind.INLET,
    Kind.PHASE,
    Kind.BREAKER,
    Kind.OUTLET,
    Kind.ENVIRONMENT,
    Kind.POWER_SUPPLY,
    Kind.COOLANT_LOOP,
    Kind.PUMP,
    Kind.FAN,
    Kind.LEAK_DETECTOR,
)
METRICS = {
    metric.name: metric
    for module in (power, metering, thermal)
    for metric in vars(module).values()
    if isinstance(metric, Metric) and metric.kind in KINDS
}

Oid = Annotated[str, StringConstraints(pattern=r"^[012](\.\d+)+$")]
Raw = int | str
Names = dict[str, Raw]


class Strict(BaseModel):
    """A part of a profile; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(Strict):
    """Which devices a profile is for."""

    sys_object_id: tuple[Oid, ...] = ()
    sys_descr: str | None = None
    probe: Oid | tuple[Oid, ...]
    rank: int = 0

    @property
    def probes(self) -> tuple[str, ...]:
        """The columns of which one must have a row."""
        return (self.probe,) if isinstance(self.probe, str) else self.probe


class Info(Strict):
    """Where the labels of pdu.info stand."""

    vendor: str
    model: Oid | None = None
    serial: Oid | None = None
    firmware: Oid | None = None
    sys_descr: str | None = None


class Unit(Strict):
    """A unit that another object tells, row by row."""

    oid: Oid
    units: dict[int, str] = Field(alias="is")


class Available(Strict):
    """A column that says whether the row's value is a reading at all.

    It is one if the column is one of `is` (where given) and none of `not`. The column is asked with
    each value, or only for values that read one of `when`.
    """

    column: int
    good: frozenset[int] = Field(default=frozenset(), alias="is")
    bad: frozenset[int] = Field(default=frozenset(), alias="not")
    when: frozenset[int] = frozenset()


class Value(Strict):
    """One value of each row of a table."""

    metric: str
    column: int
    unit: str | Unit = "1"
    scale: float = 1
    pattern: str | None = None
    sensor: int | None = None
    basis: str | None = None
    label: str | None = None
    states: dict[int, str] | None = None
    where: dict[str, tuple[Raw, ...]] = {}
    unless: dict[str, tuple[Raw, ...]] = {}
    missing: tuple[Raw, ...] | None = None
    digits: Oid | None = None
    prefix: Oid | None = None
    divisor: Oid | None = None
    signed_scale: Oid | None = None

    @model_validator(mode="after")
    def _known(self) -> Value:
        if self.metric not in METRICS:
            raise ValueError(
                f"no metric {self.metric} of such a device; there are {', '.join(METRICS)}"
            )
        metric = METRICS[self.metric]
        if ("basis" in metric.labels) != (self.basis is not None):
            raise ValueError(f"{self.metric}: basis goes with metrics that have this label")
        if ("state" in metric.labels) != (self.states is not None):
            raise ValueError(f"{self.metric}: states go with metrics that have the label state")
        if bool({*metric.labels} - {"basis", "state"}) != (self.label is not None):
            raise ValueError(f"{self.metric}: label goes with metrics that have another label")
        if self.states is None:
            for unit in [self.unit] if isinstance(self.unit, str) else self.unit.units.values():
                if unit not in UNITS or UNITS[unit][0] != metric.unit:
                    raise ValueError(f"{self.metric} is in {metric.unit}: {unit} does not fit it")
        return self


class Table(Strict):
    """A table, or a group of scalars, with the values to take from it."""

    entity: str
    entry: Oid
    index: str = ""
    fields: dict[str, int | Oid] = {}
    key: str = "{number}"
    unit: str | None = None
    where: dict[str, tuple[Raw, ...]] = {}
    unless: dict[str, tuple[Raw, ...]] = {}
    missing: tuple[Raw, ...] = ()
    digits: Oid | None = None
    available: Available | None = None
    values: tuple[Value, ...]

    @model_validator(mode="after")
    def _fits(self) -> Table:
        if self.entity not in {kind.word for kind in KINDS}:
            raise ValueError(f"{self.entity}: not one of {', '.join(k.word for k in KINDS)}")
        for value in self.values:
            if METRICS[value.metric].kind is not self.kind:
                raise ValueError(f"{value.metric} is not a metric of an {self.entity}")
        return self

    @property
    def kind(self) -> Kind:
        """The kind of entity that a row is."""
        return next(kind for kind in KINDS if kind.word == self.entity)

    def oid(self, column: int | str) -> str:
        """The OID of a column of this table; an OID of another table stays itself."""
        return f"{self.entry}.{column}" if isinstance(column, int) else column


class Profile(Strict):
    """One family of devices."""

    name: str
    source: str
    device: Literal["pdu", "cooling_unit"] = "pdu"
    max_repetitions: int = Field(default=20, ge=0, le=100)
    batch: int = Field(default=40, ge=1, le=120)
    first_unit: int = 1
    get_only: bool = False
    match: Match
    info: Info
    sum: dict[str, tuple[str, ...]] = {}
    table: tuple[Table, ...]

    @model_validator(mode="after")
    def _sums(self) -> Profile:
        for total, parts in self.sum.items():
            for name in (total, *parts):
                if name not in METRICS:
                    raise ValueError(f"sum: no metric {name} of such a device")
        return self

    @property
    def kind(self) -> Kind:
        """The kind of entity that the device is."""
        return next(kind for kind in INFOS if kind.word == self.device)

    def columns(self) -> list[str]:
        """All columns to walk once, none twice."""
        found: list[str | None] = [self.info.model, self.info.serial, self.info.firmware]
        for table in self.table:
            found += [table.oid(column) for column in table.fields.values()]
            found.append(table.digits)
            found.append(table.oid(table.available.column) if table.available else None)
            for value in table.values:
                found += [table.oid(value.column), value.digits, value.prefix]
                found += [value.divisor, value.signed_scale]
                found.append(value.unit.oid if isinstance(value.unit, Unit) else None)
        return list(dict.fromkeys(oid for oid in found if oid is not None))


def fill(template: str, names: Names) -> str | None:
    """Put names in the place of `{name}`; None where a row has not all of them."""
    if any(name not in names for name in re.findall(r"\{(\w+)\}", template)):
        return None
    return re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), template)
