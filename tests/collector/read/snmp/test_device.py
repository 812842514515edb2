"""Texts and numbers as devices send them."""

from hypothesis import given
from hypothesis import strategies as st

from collector.read.snmp.device import number, text


@given(data=st.one_of(st.binary(max_size=600), st.text(max_size=600)))
def test_texts_are_printable_and_short(data):
    found = text(data)
    assert found.isprintable()
    assert len(found) <= 255


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_text(value):
    assert number(repr(value).encode(), frozenset()) == value
    assert number(f" {value!r}\x00", frozenset([repr(value)])) is None
