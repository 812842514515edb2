"""Decoding, scales, energy counters and profiles, without a network."""

import re
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch
from collector.catalog import power
from collector.read.snmp.device import SYS_UPTIME, Device, number, text
from collector.read.snmp.energy import Energy
from collector.read.snmp.plan import prepare
from collector.read.snmp.profile import METRICS, Profile
from collector.read.snmp.profiles import find, load, rank, shipped
from collector.read.snmp.record import Recorder
from collector.read.snmp.session import Value
from collector.read.snmp.units import UNITS
from plugins.power.pdu_snmp import PduSnmp
from tests.fakes.snmp import read_snmprec
from tests.plugins.power.pdus import HOST, PDU2, samples

RAW = st.one_of(
    st.integers(-(2**63), 2**64),
    st.binary(max_size=40),
    st.text(max_size=40),
    st.none(),
    st.floats(),
)


def raritan(value: object, digits: object) -> Device:
    walks = {
        f"{PDU2}.5.4.3.1.4": {(1, 1, 5): value},
        f"{PDU2}.3.5.4.1.7": {(1, 1, 5): digits},
    }
    return prepare(find("raritan_pdu2", PduSnmp.profiles)[0], "pdu1", walks, {})  # type: ignore[arg-type]


def read(device: Device, value: object) -> tuple[Batch, float | None]:
    batch = Batch(HOST, 0.0, PduSnmp.metrics)
    device.read(batch, {f"{PDU2}.5.4.3.1.4.1.1.5": value}, set(), 0.0)  # type: ignore[dict-item]
    return batch, samples(batch).get(("outlet.power", "pdu1", "1"))


@given(raw=st.integers(0, 40_000), digits=st.integers(0, 6))
def test_digits_scale_exactly(raw, digits):
    _, value = read(raritan(raw, digits), raw)
    assert value == float(Fraction(raw, 10**digits)), "rounded once, not twice"


@given(value=RAW)
def test_no_value_gets_out_that_cannot_be(value):
    batch, found = read(raritan(1, 0), value)
    if found is None:
        assert batch.errors
    else:
        assert 0 <= found <= 50_000
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):  # agents pad text with what cannot be seen
            value = "".join(filter(str.isprintable, value))
        assert float(found) == float(value)


@given(digits=RAW)
def test_a_row_that_does_not_tell_its_digits_is_absent(digits):
    device = raritan(1, digits)
    if isinstance(digits, int) and 0 <= digits <= 12:
        assert len(device.readings) == 1
    else:
        assert not device.readings


@given(data=st.one_of(st.binary(max_size=600), st.text(max_size=600)))
def test_texts_are_printable_and_short(data):
    found = text(data)
    assert found.isprintable()
    assert len(found) <= 255


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_text(value):
    assert number(repr(value).encode(), frozenset()) == value
    assert number(f" {value!r}\x00", frozenset([repr(value)])) is None


@pytest.mark.parametrize(
    ("unit", "count", "metric_unit", "value"),
    [
        ("kWh", Fraction(35128, 10), "J", 12_646_080_000),
        ("Wh", 74_057_676, "J", 266_607_633_600),
        ("mA", 2971, "A", Fraction(2971, 1000)),
        ("%", 39, "1", Fraction(39, 100)),
        ("degF", 212, "Cel", 100),
        ("degF", 32, "Cel", 0),
    ],
)
def test_units(unit, count, metric_unit, value):
    base, factor, offset = UNITS[unit]
    assert base == metric_unit
    assert count * factor + offset == value


class TestEnergy:
    def test_starts_at_what_the_device_counted_before(self):
        assert Energy(1000, 360).update(7.2e6, 0) == 7.2e6

    @given(st.lists(st.integers(0, 10_000), max_size=50))
    def test_follows_a_counter_that_rises(self, steps):
        energy, raw = Energy(1000, 0), 0.0
        for now, step in enumerate(steps):
            raw += step
            assert energy.update(raw, 10.0 * now) == raw

    @given(st.lists(st.floats(0, 1e12), max_size=60), st.floats(1, 1e5))
    def test_never_falls_and_never_rises_more_than_it_can(self, readings, watts):
        energy, last, since = Energy(watts, 3600), None, 0.0
        for step, raw in enumerate(readings):
            now = 10.0 * step
            try:
                total = energy.update(raw, now)
            except ValueError:
                continue
            if total is None:
                continue
            if last is not None:
                assert last <= total <= (last + watts * (now - since) + 7200) * (1 + 1e-12)
            last, since = total, now

    def test_one_wrong_reading_leaves_no_trace(self):
        energy = Energy(1000, 360)
        assert energy.update(1e9, 0) == 1e9
        assert energy.update(5.0, 10) is None
        assert energy.update(1e9 + 3600, 20) == 1e9 + 3600
        with pytest.raises(ValueError, match="rose by"):
            energy.update(4e15, 30)
        assert energy.update(1e9 + 7200, 40) == 1e9 + 7200

    def test_what_is_counted_after_a_reset_is_added(self):
        energy = Energy(1000, 360)
        energy.update(1e9, 0)
        assert energy.update(3600, 10) is None
        assert energy.update(7200, 20) == 1e9 + 7200
        assert energy.update(10_800, 30) == 1e9 + 10_800

    def test_the_past_of_another_device_is_not_added(self):
        energy = Energy(1000, 360)
        energy.update(1e9, 0)
        assert energy.update(4e8, 10) is None
        assert energy.update(4e8 + 3600, 20) == 1e9 + 3600
        with pytest.raises(ValueError, match="rose"):
            energy.update(9e12, 30)
        assert energy.update(9e12 + 3600, 40) == 1e9 + 7200


class TestProfiles:
    @pytest.mark.parametrize("name", shipped(PduSnmp.profiles))
    def test_shipped(self, name):
        [profile] = find(name, PduSnmp.profiles)
        assert profile.name == name
        assert profile.match.sys_object_id
        for pattern in (profile.match.sys_descr, profile.info.sys_descr):
            re.compile(pattern or "")
        groups = set(re.compile(profile.info.sys_descr or "").groupindex)
        assert groups <= {"model", "serial", "firmware"}

    def test_example_in_the_documentation_is_one(self, tmp_path):
        from collector.read.snmp import profile as module

        lines = (module.__doc__ or "").splitlines()
        example = [line[4:] for line in lines if line.startswith("    ") or not line.strip()]
        path = tmp_path / "example.toml"
        path.write_text("\n".join(example).replace('"OID"', '"1.3.6.1.4.1.318.9"'))
        assert load(path).table[0].entity == "outlet"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("outlet.power", "outlet.powr", "no metric outlet.powr"),
            ('unit = "W"', 'unit = "V"', "V does not fit"),
            ('entity = "outlet"', 'entity = "phase"', "not a metric of an phase"),
            ('entity = "outlet"', 'entity = "toaster"', "toaster"),
            ("column = 7", "colum = 7", "colum"),
            ("probe = ", "prob = ", "prob"),
            ('"1.3.6.1.4.1.1"', '"enterprises.1"', "entry"),
            ("[[table]]", "[[table", "mine.toml"),
        ],
    )
    def test_mistakes_are_named(self, old, new, message, tmp_path):
        path = tmp_path / "mine.toml"
        right = """
            source = "manual"
            match = { probe = "1.3.6.1.4.1.1.1" }
            info = { vendor = "ACME" }
            [[table]]
            entity = "outlet"
            entry = "1.3.6.1.4.1.1"
            index = "number"
            values = [{ metric = "outlet.power", column = 7, unit = "W" }]
            """
        path.write_text(right)
        assert load(path).name == "mine"
        load.cache_clear()
        path.write_text(right.replace(old, new, 1))
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            load(path)
        assert "mine.toml" in str(caught.value)

    def test_longest_prefix_of_sys_object_id_wins(self):
        def profile(name: str, *ids: str, descr: str | None = None) -> Profile:
            return Profile.model_validate(
                {
                    "name": name,
                    "source": "",
                    "info": {"vendor": ""},
                    "match": {"sys_object_id": ids, "sys_descr": descr, "probe": "1.3"},
                    "table": (),
                }
            )

        short, long = profile("short", "1.3.6.1.4.1.318"), profile("long", "1.3.6.1.4.1.318.1.3")
        words, other = profile("words", "1.9", descr="PDU"), profile("other", "1.3.6.1.4.1.31")
        ranked = rank([other, words, short, long], "1.3.6.1.4.1.318.1.3.4", "a PDU")
        assert [profile.name for profile in ranked] == ["long", "short", "words", "other"]

    def test_per_row_exponent_of_entity_sensor_mib(self, tmp_path):
        """RFC 3433: value * 10^(3 * (scale - 9)) / 10^precision."""
        path = tmp_path / "sensors.toml"
        path.write_text(
            """
            source = "ENTITY-SENSOR-MIB"
            match = { probe = "1.3.6.1.2.1.99.1.1.1.4" }
            info = { vendor = "" }
            [[table]]
            entity = "environment"
            entry = "1.3.6.1.2.1.99.1.1.1"
            index = "number"
            fields = { type = 1 }
            digits = "1.3.6.1.2.1.99.1.1.1.3"
            available = { column = 5, is = [1] }
            where = { type = [8] }
            [[table.values]]
            metric = "environment.temperature"
            column = 4
            unit = "Cel"
            prefix = "1.3.6.1.2.1.99.1.1.1.2"
            """
        )
        entry = "1.3.6.1.2.1.99.1.1.1"
        walks: dict[str, dict[tuple[int, ...], Value]] = {
            f"{entry}.1": {(1,): 8, (2,): 8, (3,): 6},
            f"{entry}.2": {(1,): 9, (2,): 8, (3,): 9},
            f"{entry}.3": {(1,): 1, (2,): 0, (3,): 0},
            f"{entry}.4": {(1,): 235, (2,): 24_500, (3,): 7},
            f"{entry}.5": {(1,): 1, (2,): 2, (3,): 1},
        }
        device = prepare(load(path), "pdu1", walks, {SYS_UPTIME: 1})
        values = {
            f"{entry}.{c}.{n}": v for c in (4, 5) for (n, *_), v in walks[f"{entry}.{c}"].items()
        }
        batch = Batch(HOST, 0.0, PduSnmp.metrics)
        device.read(batch, values, set(), 0.0)
        assert samples(batch)["environment.temperature", "pdu1", "1"] == 23.5
        assert ("environment.temperature", "pdu1", "2") not in samples(batch), "not operational"
        values[f"{entry}.5.2"] = 1
        batch = Batch(HOST, 0.0, PduSnmp.metrics)
        device.read(batch, values, set(), 0.0)
        assert samples(batch)["environment.temperature", "pdu1", "2"] == 24.5

    def test_metrics_of_pdus(self):
        assert power.OUTLET_POWER in METRICS.values()
        assert power.CPU_ENERGY not in METRICS.values()


@given(
    st.dictionaries(
        st.tuples(st.just(1), st.just(3), st.integers(0, 2**32 - 1)),
        st.one_of(st.integers(-(2**31), 2**64 - 1), st.binary(max_size=20)),
        max_size=20,
    )
)
def test_recordings_hold_what_was_read(seen):
    recorder = Recorder(None)  # type: ignore[arg-type]
    recorder._seen = {".".join(map(str, oid)): value for oid, value in seen.items()}
    with tempfile.TemporaryDirectory() as folder:
        recorder.save(Path(folder, "input", "x.snmprec"))
        objects = read_snmprec(Path(folder, "input", "x.snmprec"))
    assert list(objects) == sorted(seen)
    for oid, value in seen.items():
        content = objects[oid][2:]
        found = content if isinstance(value, bytes) else int.from_bytes(content, "big", signed=True)
        assert found == value
