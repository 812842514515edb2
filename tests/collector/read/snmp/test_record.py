"""Recordings of what was read."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from collector.read.snmp.record import Recorder
from tests.fakes.snmp import read_snmprec


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
