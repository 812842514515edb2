"""What an Xid of NVIDIA's driver means: its name, what to do, how bad it is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.batch import Severity

# What an action says of the damage. A restarted application has lost work; a GPU that is to be
# reset serves nobody.
_BY_ACTION = {
    "IGNORE": Severity.INFO,
    "XID_154": Severity.WARN,
    "WORKFLOW_XID_45": Severity.WARN,
    "RESET_GPU": Severity.FATAL,
    "RESTART_BM": Severity.FATAL,
    "RESTART_VM": Severity.FATAL,
}
# The catalogue's action does not tell these: a GPU that wears out (92, 93, 162 to 164), retirement
# that failed (157, 161).
_BY_XID = dict.fromkeys((92, 93, 157, 161, 162, 163, 164), Severity.WARN)


class Xid(NamedTuple):
    """One Xid.

    `name` is the driver's, `action` what NVIDIA's catalogue says to do at once, in its own word
    (`RESET_GPU`, `RESTART_APP`); both are empty where it says nothing. `severity` is ours, and
    that of a message which says nothing else: an Xid of NVLink can be nonfatal.
    """

    name: str
    action: str
    severity: Severity


def lookup(xid: int) -> Xid:
    """Say what an Xid means; one that is not in the catalogue is an error without a name."""
    name, action = _catalogue().get(str(xid), ("", ""))
    severity = _BY_XID.get(xid) or _BY_ACTION.get(action, Severity.ERROR)
    return Xid(name, action, severity)


@cache
def _catalogue() -> Mapping[str, tuple[str, str]]:
    text = Path(__file__).with_name("xid.toml").read_text(encoding="utf-8")
    return {number: (name, action) for number, (name, action) in tomllib.loads(text).items()}
