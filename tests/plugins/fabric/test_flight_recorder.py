from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Event
from collector.catalog import fabric
from collector.entity import Kind
from plugins.fabric import _pickle
from plugins.fabric._flight import DumpError, culprits, groups
from plugins.fabric._pickle import PickleError, Reader
from plugins.fabric.flight_recorder import FlightRecorder
from tests.data import data
from tests.fakes.nccl import torch_pickle
from tests.fakes.tree import HOST, values

NOW = 1_760_000_000.0


def dump(enqueued: int, completed: int, ranks: str = "[0, 1]", started: int = -1) -> dict[str, Any]:
    entries = [
        {
            "process_group": ("0", "default_pg"),
            "collective_seq_id": number,
            "profiling_name": "nccl:all_reduce",
            "state": "completed" if number <= completed else "scheduled",
            "timeout_ms": 600_000,
            "is_p2p": False,
        }
        for number in range(1, enqueued + 1)
    ]
    return {
        "version": "2.5",
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": ranks}},
        "pg_status": {
            "0": {
                "last_enqueued_collective": enqueued,
                "last_started_collective": started,
                "last_completed_collective": completed,
            }
        },
        "entries": entries,
    }


class Job:
    """Dumps in a folder, and the plugin that looks at it."""

    def __init__(self, root: Path, **fields: Any) -> None:
        self.root = root
        (root / "tmp").mkdir()
        self.plugin = FlightRecorder(root=root, **fields)

    def write(self, rank: int, content: bytes, at: float = NOW) -> Path:
        path = self.root / "tmp" / f"nccl_trace_rank_{rank}"
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def poll(self, at: float = NOW) -> Batch:
        batch = Batch(HOST, at, self.plugin.metrics)
        self.plugin.poll(batch)
        return batch


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def attributes(event: Event) -> dict[str, str]:
    return dict(event.attributes)


def test_the_recorded_dump_gives_its_known_content() -> None:
    recorded = json.loads(data("nccl/flight_recorder_v2.5.synthetic.json").read_text())
    (group,) = groups(Reader(torch_pickle(recorded)).read())
    assert (group.id, group.description, group.ranks) == ("0", "default_pg", (0, 1))
    assert group.sequence == {"enqueued": 5, "completed": 4}
    assert group.open == (5, "nccl:all_reduce", 600_000)


def test_new_dumps_become_one_event_that_names_who_held_up_the_others(job: Job) -> None:
    assert job.poll().events == []
    job.write(0, torch_pickle(dump(5, 4)))
    job.write(1, torch_pickle(dump(4, 4)))
    batch = job.poll(NOW + 1)
    (event,) = batch.events
    assert event.name == "collective.timeout"
    assert event.entity == Kind.COMMUNICATOR("node1", "torch:0:default_pg")
    assert event.at == NOW
    assert attributes(event) == {
        "group": "0",
        "operation": "nccl:all_reduce",
        "sequence": "5",
        "ranks.lagging": "1",
        "ranks.silent": "",
    }
    assert values(batch, fabric.RANK_SEQUENCE)["torch:0:default_pg", "1", "enqueued"] == 4
    assert ("torch:0:default_pg", "1", "started") not in values(batch, fabric.RANK_SEQUENCE)


def test_a_dump_is_told_once_and_again_when_it_is_written_anew(job: Job) -> None:
    job.poll()
    job.write(0, torch_pickle(dump(5, 4)))
    assert [attributes(e)["ranks.silent"] for e in job.poll().events] == ["1"]
    assert job.poll().events == []
    job.write(0, torch_pickle(dump(9, 8)), at=NOW + 700)
    assert [attributes(e)["sequence"] for e in job.poll(NOW + 700).events] == ["9"]


def test_dumps_from_long_before_the_start_are_no_news(job: Job) -> None:
    job.write(0, torch_pickle(dump(5, 4)), at=NOW - 600)
    batch = job.poll()
    assert batch.events == []
    assert values(batch, fabric.RANK_SEQUENCE)


def test_dumps_just_before_the_start_are_news(job: Job) -> None:
    """The daemon starts the plugin when it finds the first dump."""
    job.write(0, torch_pickle(dump(5, 4)), at=NOW - 30)
    assert len(job.poll().events) == 1


def test_a_dump_of_another_incident_lays_no_blame(job: Job) -> None:
    job.poll()
    job.write(1, torch_pickle(dump(2, 2)), at=NOW - 3000)
    job.poll()
    job.write(0, torch_pickle(dump(5, 4)))
    (event,) = job.poll().events
    assert attributes(event)["ranks.lagging"] == ""


def test_a_dump_without_anything_open_is_no_timeout(job: Job) -> None:
    job.poll()
    job.write(0, torch_pickle(dump(5, 5)))
    assert job.poll().events == []


def test_old_dumps_are_no_longer_shown(job: Job) -> None:
    job.write(0, torch_pickle(dump(5, 4)), at=NOW - 4000)
    assert job.poll().keys == []


def test_an_unfinished_dump_is_tried_again_and_a_bad_one_is_said_once(job: Job) -> None:
    job.poll()
    content = torch_pickle(dump(5, 4))
    job.write(0, content[:100])
    assert job.poll(NOW + 10).errors == []
    (error,) = job.poll(NOW + 70).errors
    assert "nccl_trace_rank_0: it is cut off" in str(error[1])
    assert job.poll(NOW + 80).errors == []
    job.write(0, content, at=NOW + 90)
    assert len(job.poll(NOW + 90).events) == 1


def test_one_bad_dump_keeps_no_other_from_being_read(job: Job) -> None:
    job.write(0, b"no pickle", at=NOW - 100)
    job.write(1, torch_pickle([1, 2]), at=NOW - 100)
    job.write(2, torch_pickle(dump(5, 4)))
    batch = job.poll()
    assert len(batch.errors) == 2
    assert {rank for _, rank, _ in values(batch, fabric.RANK_SEQUENCE)} == {"2"}


def test_links_pipes_and_large_files_are_left_alone(tmp_path: Path) -> None:
    job = Job(tmp_path, max_bytes=1000)
    (tmp_path / "secret").write_bytes(torch_pickle(dump(1, 1)))
    (tmp_path / "tmp/nccl_trace_rank_0").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "tmp/nccl_trace_rank_1")
    (tmp_path / "tmp/nccl_trace_rank_2").mkdir()
    job.write(3, torch_pickle(dump(99, 98)), at=NOW - 100)
    batch = job.poll()
    assert batch.keys == []
    errors = "\n".join(str(error) for _, error in batch.errors)
    assert len(batch.errors) == 4
    assert "symbolic links" in errors
    assert "more than 1000 bytes" in errors


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ({0: {"completed": 4, "enqueued": 5}, 1: {"completed": 4, "enqueued": 4}}, [1]),
        ({0: {"completed": 5, "enqueued": 5}, 1: {"completed": 4, "enqueued": 5}}, [1]),
        ({0: {"completed": 4, "enqueued": 5}, 1: {"enqueued": 5}}, [1]),
        ({0: {"completed": 4, "enqueued": 5}, 1: {"completed": 4, "enqueued": 5}}, []),
        (
            {
                0: {"completed": 4, "enqueued": 5, "started": 5},
                1: {"completed": 4, "enqueued": 5, "started": 4},
            },
            [1],
        ),
        (
            {0: {"completed": 4, "enqueued": 5, "started": 5}, 1: {"completed": 4, "enqueued": 5}},
            [],
        ),
        ({}, []),
    ],
)
def test_who_lags(sequences: dict[int, dict[str, int]], expected: list[int]) -> None:
    assert culprits(sequences) == expected


RAN: list[object] = []


def ran(*arguments: object) -> str:
    RAN.append(arguments)
    return "ran"


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class State:
    def __setstate__(self, state: object) -> None:
        ran(state)

    def __getstate__(self) -> object:
        return {"a": 1}


def hostile() -> list[bytes]:
    calls = [
        Evil(ran),
        Evil(os.system, "touch /nonexistent/pwned"),
        Evil(eval, "ran()"),
        Evil(exec, "import os"),
        {"pg_status": {"0": Evil(ran)}},
        [Evil(map, ran, [1, 2])],
        Evil(getattr, Evil(__import__, "os"), "system"),
        State(),
        {1, 2},
        b"bytes",
        bytearray(b"x"),
        complex(1, 2),
        Path("x"),
    ]
    made = [pickle.dumps(call, protocol) for call in calls for protocol in (0, 2, 5)]
    here = f"c{__name__}\nran\n".encode()
    return [
        *made,
        here + b"(tR.",
        b"(i" + here[1:] + b".",
        b"(" + here + b"o.",
        here + b")\x81.",
        here + b")}\x92.",
        here + b")b.",
        b"P1\n.",
        b"(Nt\x51.",
        b"\x82\x01.",
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"\x97.",
        b"I1\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"F1e400\n.",
        b"S'x'\n.",
        b"Vx\n.",
        b"p0\n.",
        b"g0\n.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x8a\xff" + b"\x7f" * 255 + b".",
        b"B\xff\xff\xff\xff.",
        b"\x8e" + b"\xff" * 8 + b".",
        b"\x8d" + b"\xff" * 8 + b"x.",
        b"X\xff\xff\xff\xffx.",
        b"\x8c\x05x.",
        b"]2.",
        b"]0.",
        b"(1.",
        b".",
        b"",
        b"(.",
        b"NN.",
        b"]",
        b"(]t",
        b"a.",
        b"(e.",
        b"Na.",
        b"]Ns.",
        b"}(Nu.",
        b"}(NNu.",
        b"}]Ns.",
        b"}(K\x01tNs.",
        b"u.",
        b"t.",
        b"\x85.",
        b"(\x85.",
        b"K\x01(K\x02\x86.",
        b"q\x00.",
        b"h\x00.",
        b"(q\x00.",
        b"j\xff\xff\xff\x7f.",
        b"\x95\xff",
        b"J\x00.",
    ]


@pytest.mark.parametrize("content", hostile())
def test_a_hostile_pickle_runs_nothing(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was run")

    for module, name in ((os, "system"), (pickle, "Unpickler"), (pickle, "loads")):
        monkeypatch.setattr(module, name, refuse)
    RAN.clear()
    with pytest.raises((PickleError, DumpError)):
        groups(Reader(content).read())
    assert RAN == []


def test_an_index_makes_no_table_of_its_size() -> None:
    """The standard reader makes one of 32 GB of these nine bytes."""
    assert Reader(b"Nr\xff\xff\xff\x7f.").read() is None


def test_deep_nesting_harms_nobody() -> None:
    depth = 300_000
    value = Reader(b"]" + b"\x85" * depth + b".").read()
    assert type(value) is tuple
    with pytest.raises(DumpError):
        groups(value)
    del value  # freeing it must not recurse
    with pytest.raises(PickleError, match="a name that is a tuple"):
        Reader(b"})" + b"\x85" * depth + b"Ns.").read()


def test_a_value_that_holds_itself_harms_nobody() -> None:
    value = Reader(b"]q\x00h\x00a.").read()
    assert value[0] is value
    with pytest.raises(DumpError):
        groups({"pg_config": {}, "pg_status": {"0": value}})


def test_values_that_are_shared_take_no_time() -> None:
    """2**200 references, but 400 values."""
    bomb = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(1, 200))
    assert len(Reader(b"(" + bomb + b"t.").read()) == 200
    with pytest.raises(PickleError, match="a name that is a tuple"):
        Reader(b"})" + b"q\x00h\x00\x86" * 64 + b"Ns.").read()


def test_what_is_read_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickle, "_CONTAINERS", 100)
    monkeypatch.setattr(_pickle, "_STEPS", 202)
    assert Reader(b"(" + b"]" * 99 + b"t.").read() == ([],) * 99
    with pytest.raises(PickleError, match="more than 100 lists"):
        Reader(b"(" + b"]" * 100 + b"t.").read()
    with pytest.raises(PickleError, match="more than 202 opcodes"):
        Reader(b"(" + b"N" * 201 + b"t.").read()
    with pytest.raises(PickleError, match="more than 202 opcodes"):
        Reader(b"(" * 203 + b".").read()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(-100, 100), inner)
    ),
)


@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_data_reads_back_as_it_was(value: Any, protocol: int) -> None:
    assert Reader(pickle.dumps(value, protocol)).read() == value


@given(st.binary())
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    with contextlib.suppress(PickleError, DumpError):
        groups(Reader(content).read())


@given(PLAIN, st.data())
def test_a_damaged_pickle_does_no_more_than_be_refused(value: Any, draw: st.DataObject) -> None:
    content = bytearray(pickle.dumps(value, 2))
    place = draw.draw(st.integers(0, len(content) - 1))
    content[place] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(PickleError, DumpError):
        groups(Reader(bytes(content)).read())


def test_numbers_have_torchs_forms() -> None:
    content = b"(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\x08" + struct.pack("<q", -(2**62))
    content += b"G" + struct.pack(">d", 0.5) + b"t."
    assert Reader(content).read() == (255, 65535, -1, -(2**62), 0.5)
