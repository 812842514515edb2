"""What notifications are called and how bad they are, from `_snmp_traps.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.batch import Severity

UNKNOWN = "unknown"


class Trap(NamedTuple):
    """A known notification; `by` is an object whose value tells its severity."""

    name: str
    severity: Severity
    by: str = ""
    severities: Mapping[str, Severity] = {}


@cache
def known() -> dict[str, Trap]:
    """Return all known notifications by their OIDs; reads a file."""
    text = Path(__file__).with_suffix(".toml").read_text()
    found = {}
    for mib in tomllib.loads(text)["mib"]:
        by = mib.get("severity_by", {})
        severities = {value: Severity[word] for value, word in by.get("is", {}).items()}
        for number, (name, word) in mib["traps"].items():
            trap = Trap(name, Severity[word], by.get("oid", ""), severities)
            found[f"{mib['base']}.{number}"] = trap
    return found


def look_up(oid: str, variables: Sequence[tuple[str, str]]) -> tuple[str, Severity]:
    """Return the name and severity of a notification; unknown ones are warnings.

    A notification of version 1 is numbered below the enterprise's `.0` (RFC 3584, section 3.1),
    also where its MIB for version 2 puts it elsewhere.
    """
    above, _, number = oid.rpartition(".")
    trap = known().get(oid) or known().get(f"{above.removesuffix('.0')}.{number}")
    if trap is None:
        return UNKNOWN, Severity.WARN
    told = (value for name, value in variables if trap.by and f"{name}.".startswith(f"{trap.by}."))
    return trap.name, trap.severities.get(next(told, ""), trap.severity)
