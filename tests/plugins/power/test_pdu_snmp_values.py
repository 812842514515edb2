"""Decoding and scales of a PDU, and the profiles that come along, without a network."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch
from collector.read.snmp.device import Device
from collector.read.snmp.plan import prepare
from collector.read.snmp.profiles import find, shipped
from plugins.power.pdu_snmp import PduSnmp
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


class TestProfiles:
    @pytest.mark.parametrize("name", shipped(PduSnmp.profiles))
    def test_shipped(self, name):
        [profile] = find(name, PduSnmp.profiles)
        assert profile.name == name
        assert profile.match.sys_object_id or profile.match.rank < 0
        for pattern in (profile.match.sys_descr, profile.info.sys_descr):
            re.compile(pattern or "")
        groups = set(re.compile(profile.info.sys_descr or "").groupindex)
        assert groups <= {"model", "serial", "firmware"}
