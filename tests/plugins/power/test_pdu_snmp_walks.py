"""Every walk of a power device that there is: what it is taken for, and what it gives."""

import json
from collections import defaultdict
from typing import Any

import pytest

from collector.read.snmp.discovery import UnknownDeviceError
from tests.data import data
from tests.fakes.snmp import Agent, read_snmprec
from tests.plugins.power.pdus import PDU2, Samples, poll, samples

CLIENTS = ("gufo", "pysnmp")

TRUE = (
    "apc_ap7900b",
    "apc_ap8853",
    "apc_ap8959eu3",
    "cyberpower_pdu81005",
    "eatonpdu_2",
    "enlogic-pdu_v2",
    "panduit",
    "panduit_g5-p32g13m",
    "raritan-pdu",
    "raritan-pdu_px2",
    "raritan-pdu_px3",
    "sentry3",
    "sentry3_3phase",
    "sentry4",
    "vertiv-pdu_mg02e4w1",
)

# What each walk is taken for, and the watts of its pdu.power, all units and bases added up.
# The walks that are not named have no object that a profile reads, most no more than sysDescr.
KNOWN: dict[str, tuple[str, float | None]] = {
    "apc_ap7900b": ("apc_rpdu2", 312),
    "apc_ap8853": ("apc_rpdu2", 1140),
    "apc_ap8959eu3": ("apc_rpdu2", 270),
    "cyberpower_pdu81005": ("cyberpower", 216),
    "cyberpower_pr2200rt2uc": ("ups_mib", None),
    "eatonpdu_2": ("eaton_epdu", 1584),
    "enlogic-pdu_v2": ("enlogic", 1120),
    "hpe-mapdu_pdu2": ("hpe_pdu2", 97),
    "liebert": ("liebert_mph2", 2411),
    "liebert_apm": ("ups_mib", None),
    "liebert_weblbds": ("ups_mib", None),
    "panduit": ("panduit_g5", 956),
    "panduit_g5-p32g13m": ("panduit_g5", None),
    "raritan-pdu": ("raritan_px1", 580),
    "raritan-pdu_px2": ("raritan_pdu2", 138),
    "raritan-pdu_px3": ("raritan_pdu2", 1665),
    "sentry3": ("sentry3", None),
    "sentry3_3phase": ("sentry3", 279),
    "sentry4": ("sentry4", 1701 + 1265),
    "vertiv-pdu_mg02e4w1": ("vertiv", 1017),
}

# A field of the truth: metric, what its number is multiplied by, labels.
Field = tuple[str, float, tuple[str, ...]]
FIELDS: dict[str, Field] = {
    "total_w": ("pdu.power", 1, ("measured",)),
    "total_va": ("pdu.apparent_power.voltamperes", 1, ()),
    "energy_kwh": ("pdu.energy", 3.6e6, ()),
    "system_total_w": ("pdu.power", 1, ("sum",)),
    "temp_c": ("environment.temperature", 1, ()),
    "humid_pct": ("environment.humidity", 0.01, ()),
    "ocp_current_a": ("breaker.current", 1, ()),
}
PARTS = {
    "inlet": "inlet", "infeed": "inlet", "cord": "inlet", "outlet": "outlet",
    "phase": "phase", "input": "phase", "line": "phase", "load": "phase",
    "breaker": "breaker", "group": "breaker",
}  # fmt: skip
QUANTITIES = {
    ("w", "power_w"): ("power", 1),
    ("va", "apparent_va"): ("apparent_power.voltamperes", 1),
    ("a", "current_a"): ("current", 1),
    ("v", "voltage_v"): ("voltage", 1),
    ("pf",): ("power_factor", 1),
    ("freq_hz",): ("frequency", 1),
    ("energy_wh",): ("energy", 3600),
    ("kwh", "energy_kwh"): ("energy", 3.6e6),
}
for part, entity in PARTS.items():
    for names, (quantity, factor) in QUANTITIES.items():
        FIELDS |= {f"{part}_{name}": (f"{entity}.{quantity}", factor, ()) for name in names}

# Where a family has a field as something else.
OWN: dict[str, dict[str, Field]] = {
    "eaton_epdu": {
        "total_w": ("inlet.power", 1, ()),
        "total_va": ("inlet.apparent_power.voltamperes", 1, ()),
        "energy_kwh": ("inlet.energy", 3.6e6, ()),
        "pf_abs": ("phase.power_factor", -1, ()),  # it leads
    },
    "panduit_g5": {"pf": ("pdu.power_factor", 1, ())},
    "apc_rpdu2": {"pf": ("pdu.power_factor", 1, ())},
    "raritan_px1": {"pf": ("inlet.power_factor", 1, ())},
}

# What the truth has and we do not tell, and why.
PADDED = {str(n) for n in range(4, 13)}
LEFT_OUT: dict[tuple[str, str], set[str] | None] = {
    ("sentry3_3phase", "system_pf"): None,  # was set by people, not measured
    ("panduit", "total_a"): None,  # adds up the amperes of three phases
    ("vertiv-pdu_mg02e4w1", "line_a"): None,  # reads 0 beside phases of some amperes
    ("cyberpower_pdu81005", "load_w"): {"2"},  # the bank that carries the phase's load
    ("cyberpower_pdu81005", "load_a"): {"2"},
    ("cyberpower_pdu81005", "load_v"): {"2"},
    ("enlogic-pdu_v2", "breaker_a"): PADDED,
    ("panduit", "group_w"): PADDED - {"4", "5", "6"},
    ("panduit", "group_v"): PADDED - {"4", "5", "6"},
    ("panduit", "group_a"): PADDED - {"4", "5", "6"},
    ("panduit_g5-p32g13m", "outlet_w"): {"33"},
}


def expected(name: str, truth: dict[str, Any], walk: dict[str, bytes]) -> Samples:
    """Turn the truth, decoded independently of us, into our names and units."""
    fields = FIELDS | OWN.get(truth["family"], {})
    wanted: Samples = {}
    for field, rows in truth.items():
        left_out: set[str] | None = LEFT_OUT.get((name, field), set())
        for row, number in rows.items() if isinstance(rows, dict) and left_out is not None else ():
            unit, _, key = row.rpartition(".") if row.count(".") < 2 else row.partition(".")
            pdu = "pdu1" if unit in ("", "0", "1") else f"pdu1/{unit}"
            if left_out and key in left_out:
                continue
            if field == "external":
                wanted["environment.temperature", pdu, key] = number["value"]
            elif field == "rpdu1_device_w":
                basis = "measured" if "total_w" in truth else "estimated"
                wanted["pdu.power", pdu, basis] = number
            elif f"{PDU2}.5.4.3.1.3.{row}.7" in walk and field == "outlet_pf" and not number:
                # The device says of these zeros that there is no reading (state -1).
                assert walk[f"{PDU2}.5.4.3.1.3.{row}.7"] == b"\x02\x01\xff"
            else:
                metric, factor, labels = fields[field]
                part = () if metric.startswith("pdu.") else ("L" * (field == "line_a") + key,)
                wanted[(metric, pdu, *part, *labels)] = number * factor
    return wanted


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", TRUE)
def test_recorded_pdus_give_the_true_values(name: str, client: str) -> None:
    path = data(f"snmp/walks/{name}.snmprec")
    truth = json.loads(data("snmp/TRUTH.json").read_text())[name]
    walk = {".".join(map(str, oid)): value for oid, value in read_snmprec(path).items()}
    wanted = expected(name, truth, walk)
    with Agent(path) as agent:
        batch = poll(agent.target, client=client)
    found = samples(batch)
    assert not batch.errors
    assert wanted
    assert {key: found.get(key) for key in wanted} == pytest.approx(wanted, rel=1e-12, abs=5e-4)
    metrics = {key[0] for key in wanted}
    extra = {key for key in found if key[0] in metrics} - wanted.keys()
    assert {key[0] for key in extra} <= {"pdu.power"}, "no value that the truth does not have"


def test_the_truth_has_no_other_walk() -> None:
    assert set(json.loads(data("snmp/TRUTH.json").read_text())) == set(TRUE)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("sentry3_3phase", "pdu.power_factor"), ("panduit", "inlet.current")],
)
def test_what_is_no_measurement_is_absent(name: str, metric: str) -> None:
    with Agent(data(f"snmp/walks/{name}.snmprec")) as agent:
        assert metric not in {key[0] for key in samples(poll(agent.target))}


def test_each_walk_is_recognised_or_said_to_be_unknown() -> None:
    walks = sorted(data("snmp/walks").glob("*.snmprec"))
    assert {path.stem for path in walks} > KNOWN.keys()
    for path in walks:
        profile, watts = KNOWN.get(path.stem, (None, None))
        with Agent(path) as agent:
            if profile is None:
                with pytest.raises(UnknownDeviceError, match="no profile fits"):
                    poll(agent.target, timeout=30)
                continue
            batch = poll(agent.target, timeout=30)
        found = samples(batch)
        assert not batch.errors
        assert {key[-1] for key in found if key[0] == "pdu.info"} == {profile}
        assert sum(value for key, value in found.items() if key[0] == "pdu.power") == (watts or 0)
        plausible(found)


def plausible(found: Samples) -> None:
    """Check what must hold between the values of any PDU."""
    parts: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    outlets: dict[str, float] = defaultdict(float)
    totals: dict[str, list[float]] = defaultdict(list)
    for (metric, pdu, *rest), value in found.items():
        kind, _, quantity = metric.partition(".")
        parts[f"{kind} {pdu}", rest[0] if rest else ""][quantity] = value
        if metric == "outlet.power":
            outlets[pdu] += value
        elif metric == "pdu.power":
            totals[pdu].append(value)
        elif metric.endswith(".temperature"):
            assert 5 < value < 45
        elif metric.endswith("humidity"):
            assert 0.1 < value < 0.9
        elif metric.endswith("voltage"):
            assert 100 < value < 250, metric
        elif metric.endswith("frequency"):
            assert value in (50, 60)
    for row in parts.values():
        watts, volts = row.get("power", 0), row.get("voltage", 250)
        assert watts <= 1.03 * row.get("apparent_power.voltamperes", 1e9) + 1
        assert watts <= 1.03 * volts * row.get("current", 1e9) + 2
        assert row.get("current", 0) <= row.get("current.limit", 1e9)
    for pdu, values in totals.items():
        assert len(values) == 1, "each watt counts once"
        assert outlets[pdu] <= 1.02 * values[0]
