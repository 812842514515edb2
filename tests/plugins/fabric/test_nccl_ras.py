from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link, Severity
from collector.catalog import fabric
from collector.entity import Kind
from collector.read import processes
from plugins.fabric import _nccl_host, _nccl_json, _nccl_text
from plugins.fabric._nccl_monitor import Happened, Monitor
from plugins.fabric._nccl_status import Spread, StatusError
from plugins.fabric.nccl_ras import NcclRas
from tests.data import data
from tests.fakes.nccl import Ras, rank_of, status_of
from tests.fakes.tree import HOST, plant, values

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.10
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
SIX = "20010db8000000000000000000000001 02 40 00 80     eth0\n"
COUNTS = {"AllReduce": 5, "AllGather": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, {"proc/net/fib_trie": TRIE, "proc/net/if_inet6": SIX})


def status(*ranks: dict[str, Any], hash_: str = "0x00ab") -> bytes:
    return json.dumps(status_of(hash_, ranks or [rank_of(0, "192.0.2.10", 57, COUNTS)])).encode()


def read(ras: Ras, root: Path, **fields: Any) -> Batch:
    plugin = NcclRas(target=ras.target, root=root, **fields)
    try:
        return poll(plugin)
    finally:
        plugin.close()


def poll(plugin: NcclRas) -> Batch:
    batch = Batch(HOST, 0.0, plugin.metrics)
    plugin.poll(batch)
    return batch


def recorded(name: str) -> bytes:
    return data(f"nccl/{name}").read_bytes()


class TestJson:
    def test_the_recorded_status(self) -> None:
        found = _nccl_json.parse(recorded("ras_status.json"))
        (one,) = found.communicators
        assert (one.id, one.size, dict(one.missing)) == (
            "0xae94423cfbb2ef4a", 2, {"unresponsive": 1},
        )  # fmt: skip
        (rank,) = one.ranks.values()
        assert (rank.number, rank.host, rank.pid) == (0, "172.16.64.245", 1524344)
        assert (rank.state, rank.init, rank.asynchronous) == ("running", "success", "success")
        names = ["Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce"]
        assert rank.counts == dict.fromkeys(names, 0)
        assert one.operations == dict.fromkeys(names, Spread(0, 0, 0))
        assert dict(found.groups) == {("running", "incomplete"): 1}
        assert dict(found.lost) == {"unresponsive": 1}
        assert found.timeouts == 0

    def test_the_missing_comma_of_2_28_9(self) -> None:
        broken = recorded("ras_status_2.28.9_missing_comma.synthetic.json")
        with pytest.raises(ValueError):
            json.loads(broken)
        assert _nccl_json.parse(broken) == _nccl_json.parse(recorded("ras_status.json"))

    @given(st.data())
    def test_any_line_may_lack_its_comma(self, draw: st.DataObject) -> None:
        document = status_of("0xa", [rank_of(n, "h", n, COUNTS) for n in range(2)])
        lines = json.dumps(document, indent=2).split("\n")
        inside = [
            n for n, line in enumerate(lines[:-1])
            if line.endswith(",") and lines[n + 1].lstrip().startswith('"')
        ]  # fmt: skip
        for number in draw.draw(st.sets(st.sampled_from(inside))):
            lines[number] = lines[number][:-1]
        whole = _nccl_json.parse(json.dumps(document).encode())
        assert _nccl_json.parse("\n".join(lines).encode()) == whole

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"ras": 1}', b"null", b"\xff"])
    def test_what_is_none_is_refused(self, body: bytes) -> None:
        with pytest.raises(StatusError):
            _nccl_json.parse(body)

    def test_states_and_errors_follow_nccls_rules(self) -> None:
        ranks = [rank_of(n, "h", n, {"AllReduce": 7}) for n in range(5)]
        ranks[1]["status"]["abort_flag"] = True
        ranks[2]["status"]["destroy_flag"] = True
        ranks[3]["status"]["init_state"] = 7
        ranks[4]["status"]["async_error"] = 6
        found = _nccl_json.parse(status(*ranks))
        (one,) = found.communicators
        states = [one.ranks[n].state for n in range(5)]
        assert states == ["running", "abort", "finalize", "init", "running"]
        assert one.ranks[3].init == "in_progress"
        assert one.ranks[4].asynchronous == "remote_error"
        assert dict(found.groups) == {("abort", "error,mismatch"): 1}

    def test_results_of_later_releases_have_a_name_too(self) -> None:
        rank = rank_of(0, "h", 1, {})
        rank["status"]["async_error"] = 99
        (one,) = _nccl_json.parse(status(rank)).communicators
        assert one.ranks[0].asynchronous == "other"

    def test_communicators_of_one_hash_are_told_apart(self) -> None:
        document = status_of("0xa", [])
        document["communicators"].append(
            document["communicators"][0] | {"secondary_hash": "0x3:0x4"}
        )
        found = _nccl_json.parse(json.dumps(document).encode())
        assert [one.id for one in found.communicators] == ["0xa/0x1:0x2", "0xa/0x3:0x4"]


class TestText:
    def test_healthy_communicators(self) -> None:
        found = _nccl_text.parse(recorded("ras_text_01.txt"))
        assert dict(found.groups) == {("running", "ok"): 8}
        assert found.communicators == []

    def test_a_job_without_communicators(self) -> None:
        assert not _nccl_text.parse(recorded("ras_text_00.txt")).groups

    def test_a_mismatch_in_the_summary(self) -> None:
        found = _nccl_text.parse(recorded("ras_text_02.txt"))
        assert dict(found.groups) == {("running", "mismatch"): 1}

    def test_ranks_that_lag(self) -> None:
        (one,) = _nccl_text.parse(recorded("ras_text_03.txt")).communicators
        assert one.id == "0x27a079b828ff1a75"
        assert one.operations == {"all": Spread(6649, 6650, 6650)}
        assert {n: rank.counts["all"] for n, rank in one.ranks.items()} == dict.fromkeys(
            (0, 2, 3, 4, 5, 7), 6649
        )
        assert (one.ranks[7].host, one.ranks[7].pid) == ("172.16.64.210", 483079)

    def test_states_that_differ(self) -> None:
        found = _nccl_text.parse(recorded("ras_text_04.txt"))
        assert dict(found.groups) == {
            ("finalize", "mismatch"): 1, ("running", "ok"): 7, ("init", "ok"): 1,
        }  # fmt: skip
        (one,) = found.communicators
        assert (one.size, dict(one.missing)) == (32, {"left": 26})
        assert {n: rank.state for n, rank in one.ranks.items()} == {
            0: "running", 8: "running", 16: "running", 24: "running", 4: "finalize", 20: "finalize",
        }  # fmt: skip

    def test_data_that_is_missing(self) -> None:
        found = _nccl_text.parse(recorded("ras_text_05.txt"))
        (one,) = found.communicators
        assert (one.id, one.size, dict(one.missing)) == (
            "0xcf264af53edbe986", 32, {"unresponsive": 1},
        )  # fmt: skip
        assert (dict(found.lost), found.timeouts) == ({"unresponsive": 1}, 2)

    def test_a_dead_process(self) -> None:
        found = _nccl_text.parse(recorded("ras_text_06.txt"))
        assert dict(found.lost) == {"dead": 1}
        assert dict(found.communicators[0].missing) == {"unresponsive": 1}

    def test_details_of_later_releases(self) -> None:
        found = _nccl_text.parse(
            b"""
#0-0 (0a) ERROR
  Asynchronous errors on 3 ranks
  2 ranks reported System error
  Rank 1 -- GPU 1 managed by process 11 on node h
  Rank 2 -- [process information not found]
  Rank 3 reported Remote process error -- GPU 3 (NVML 7) managed by process 13 on node h

  Initialization error on 1 rank
  Rank 4 reported Unhandled CUDA error -- GPU 4 managed by process 14 on node h

#0-0 (000000000000000a) MISMATCH
  Communicator ranks have different status
  Rank 6 has status NOCOMM -- GPU 6 managed by process 16 on node h
  Communicator ranks have different AllReduce operation counts
  6 ranks have launched up to operation 9
  2 ranks have not launched any operations
  Rank 1 -- GPU 1 managed by process 11 on node h
  Rank 5 has not launched any operations -- GPU 5 managed by process 15 on node h
  Communicator ranks have different AllGather operation counts
  Rank 3 has launched up to operation 4 -- GPU 3 managed by process 13 on node h
"""
        )
        (one,) = found.communicators
        assert one.id == "0xa"
        assert {n: rank.asynchronous for n, rank in one.ranks.items() if rank.asynchronous} == {
            1: "system_error", 3: "remote_error",
        }  # fmt: skip
        assert one.ranks[4].init == "unhandled_cuda_error"
        assert one.missing["left"] == 1
        assert one.operations == {"AllReduce": Spread(0, 9, 9), "AllGather": Spread(4, 4, 4)}
        assert one.ranks[1].counts == {"AllReduce": 0}
        assert one.ranks[3].counts == {"AllGather": 4}

    @pytest.mark.parametrize("name", ["ras_text_08.txt", "ras_text_09.txt"])
    def test_a_stream_of_events_is_no_status(self, name: str) -> None:
        with pytest.raises(StatusError):
            _nccl_text.parse(recorded(name))

    @given(st.binary(max_size=300), st.data())
    def test_a_damaged_text_is_read_or_refused(self, noise: bytes, draw: st.DataObject) -> None:
        text = b"#0-0 (0a) MISMATCH\n  Communicator ranks have different status\n"
        text += b"  2 ranks have status INIT\n  Rank 0 -- GPU 0 managed by process 4 on node h\n"
        place = draw.draw(st.integers(0, len(text)))
        try:
            _nccl_text.parse(text[:place] + noise + text[place:])
        except StatusError:
            assert place < 5 or noise


class TestMonitor:
    @pytest.mark.parametrize("name", ["ras_monitor_event.json", "ras_text_09.txt"])
    @pytest.mark.parametrize("size", [1, 7, 10_000])
    def test_the_recorded_events(self, name: str, size: int) -> None:
        stream = recorded("ras_text_08.txt") + b"\n" + recorded(name) + b"\n"
        monitor = Monitor()
        found = [
            event
            for start in range(0, len(stream), size)
            for event in monitor.feed(stream[start : start + size])
        ]
        assert found == [Happened("PEER_DEAD", 1524345, "172.16.64.245", "1")]

    def test_events_of_no_process_are_skipped(self) -> None:
        document = {"timestamp": "", "group": "TRACE", "event": "X", "details": ""}
        body = json.dumps(document, indent=2).encode() + b"\n[t] Y: \n"
        assert Monitor().feed(body) == []

    @given(st.lists(st.binary(max_size=50)))
    def test_any_bytes_are_taken(self, pieces: list[bytes]) -> None:
        monitor = Monitor()
        for piece in pieces:
            monitor.feed(piece)
        assert monitor.feed(b"\n}\n\n[t] PEER_DEAD: Process 1 on node h managing GPUs 0,1 \n")[-1:] in (
            [Happened("PEER_DEAD", 1, "h", "0,1")], [],
        )  # fmt: skip

    def test_a_stream_without_an_end_of_line_takes_no_memory(self) -> None:
        monitor = Monitor()
        for _ in range(100):
            monitor.feed(b"x" * 10_000)
        assert len(monitor._rest) <= 1 << 16


class TestHost:
    def test_addresses(self, root: Path) -> None:
        assert _nccl_host.addresses(root) == {"192.0.2.10", "2001:db8::1"}

    def test_this_hosts_own(self) -> None:
        assert "127.0.0.1" in _nccl_host.addresses(Path("/"))

    def test_a_kernel_without_ipv6(self, tmp_path: Path) -> None:
        plant(tmp_path, {"proc/net/fib_trie": TRIE})
        assert _nccl_host.addresses(tmp_path) == {"192.0.2.10"}

    def test_processes_are_known_by_what_they_call_themselves(self, tmp_path: Path) -> None:
        plant(
            tmp_path,
            {
                "proc/900/status": "Name:\ta\nNSpid:\t900\t57\n",
                "proc/901/status": "Name:\ta\nNSpid:\t901\t58\n",
                "proc/902/status": "Name:\tb\nNSpid:\t902\t58\n",
                "proc/57/status": "Name:\tb\nNSpid:\t57\t3\n",
                "proc/77/status": "Name:\tc\nNSpid:\t77\n",
                "proc/self/status": "",
            },
        )
        assert _nccl_host.pids(tmp_path, {57, 58, 77, 99}) == {57: 900, 77: 77}


class TestPlugin:
    def test_ranks_of_this_host_are_shown_and_linked(self, root: Path) -> None:
        plant(root, {"proc/900/status": "NSpid:\t900\t57\n"})
        ranks = [
            rank_of(0, "192.0.2.10", 57, COUNTS),
            rank_of(1, "192.0.2.11", 57, COUNTS | {"AllReduce": 4}),
            rank_of(2, "2001:db8::1", 58, COUNTS),
        ]
        with Ras(status(*ranks)) as ras:
            batch = read(ras, root)
        assert ras.commands[:4] == [
            "CLIENT PROTOCOL 2", "TIMEOUT 5", "SET FORMAT json", "VERBOSE STATUS",
        ]  # fmt: skip
        assert values(batch, fabric.RANK_LAUNCHED) == {
            ("0xab", rank, name): count for rank in "02" for name, count in COUNTS.items()
        }
        assert values(batch, fabric.COMMUNICATOR_RANKS) == {("0xab",): 3}
        assert values(batch, fabric.COMMUNICATOR_OPERATIONS)["0xab", "AllReduce", "least"] == 4
        assert values(batch, fabric.RANK_STATE)["0xab", "0", "running"] == 1
        rank, communicator = Kind.RANK("node1", "0xab", "0"), Kind.COMMUNICATOR("node1", "0xab")
        assert Link(rank, communicator, 1.0) in batch.links
        assert Link(rank, Kind.PROCESS("node1", "900"), 1.0) in batch.links
        assert Link(communicator, HOST, 1.0) in batch.links
        assert not [link for link in batch.links if link.parent.key[-1] == "58"]

    def test_releases_without_json_are_asked_for_text(self, root: Path) -> None:
        text = b"Group     Comms\n    0  1  1  1  2  2   RUNNING      OK\n"
        with Ras(text, json=False) as ras:
            batch = read(ras, root)
        assert values(batch, fabric.COMMUNICATORS) == {(ras.target, "running", "ok"): 1}

    def test_json_that_cannot_be_mended_is_asked_for_as_text_from_then_on(self, root: Path) -> None:
        text = b"Job summary\n    0  1  1  1  2  2   RUNNING      OK\n"
        with Ras((b'{"nccl_version": ', text)) as ras:
            plugin = NcclRas(target=ras.target, root=root)
            assert values(poll(plugin), fabric.COMMUNICATORS)
            del ras.commands[:]
            assert values(poll(plugin), fabric.COMMUNICATORS)
            plugin.close()
        assert "SET FORMAT json" not in ras.commands

    def test_garbage_is_no_reason_to_ask_for_text_from_then_on(self, root: Path) -> None:
        good = json.dumps(status_of("0x1", [rank_of(0, "10.0.0.1", 1, {"AllReduce": 1})])).encode()
        with Ras(b"\x00{", b"\x00{", good) as ras:
            plugin = NcclRas(target=ras.target, root=root)
            with pytest.raises(StatusError):
                poll(plugin)
            assert values(poll(plugin), fabric.COMMUNICATOR_RANKS) == {("0x1",): 1}
            plugin.close()

    def test_something_else_that_listens_is_named(self, root: Path) -> None:
        with Ras(b"", greeting=b"SSH-2.0-OpenSSH\n") as ras, pytest.raises(OSError) as raised:
            read(ras, root)
        assert "is no RAS of NCCL: it answers 'SSH-2.0-OpenSSH'" in str(raised.value)

    def test_an_answer_without_a_line_is_bounded(self, root: Path) -> None:
        with Ras(b"", greeting=b"x" * 100_000) as ras, pytest.raises(OSError) as raised:
            read(ras, root)
        assert "no line" in str(raised.value)

    def test_an_answer_without_an_end_is_bounded(self, root: Path) -> None:
        with Ras(b" " * 2_000_000) as ras, pytest.raises(OSError) as raised:
            read(ras, root, max_bytes=1000)
        assert "more than 1000 bytes: raise max_bytes" in str(raised.value)

    def test_one_that_does_not_answer_takes_no_longer_than_the_timeout(self, root: Path) -> None:
        with Ras(b"", greeting=b"") as ras, pytest.raises(TimeoutError):
            read(ras, root, timeout=0.1)

    def test_nobody_listens(self, root: Path) -> None:
        with Ras(b"") as ras:
            target = ras.target
        with pytest.raises(ConnectionRefusedError, match="no job listens") as raised:
            poll(NcclRas(target=target, root=root))
        assert raised.value.filename == target

    def test_a_job_that_comes_after_another_has_processes_of_its_own(self, root: Path) -> None:
        answers = [
            json.dumps(status_of(name, [rank_of(0, "192.0.2.10", 7, {})])).encode()
            for name in ("0x1", "0x2")
        ]
        plant(root, {"proc/500/status": "NSpid:\t500\t7\n"})
        with Ras(*answers) as ras:
            plugin = NcclRas(target=ras.target, root=root)
            first = poll(plugin)
            (root / "proc/500/status").unlink()
            plant(root, {"proc/600/status": "NSpid:\t600\t7\n"})
            second = poll(plugin)
            plugin.close()
        for batch, pid in ((first, "500"), (second, "600")):
            assert [
                one.parent.key[1] for one in batch.links if one.parent.kind is Kind.PROCESS
            ] == [pid]

    def test_a_process_that_dies_is_an_event(self, root: Path) -> None:
        happened = {
            "event": "PEER_DEAD",
            "peer": {"host": "192.0.2.11", "pid": 7, "cuda_devs": [1], "nvml_devs": [1]},
        }
        stream = json.dumps(happened, indent=2).encode() + b"\n"
        with Ras(status(), monitor=stream) as ras:
            plugin = NcclRas(target=ras.target, root=root)
            events = [event for _ in range(50) for event in poll(plugin).events]
            plugin.close()
        assert [(e.name, e.severity) for e in events] == [("collective.peer.dead", Severity.ERROR)]
        assert dict(events[0].attributes)["process.pid"] == "7"
        assert ras.commands.count("MONITOR lifecycle") == 1

    def test_releases_without_events_are_asked_once(self, root: Path) -> None:
        with Ras(status()) as ras:
            plugin = NcclRas(target=ras.target, root=root)
            assert [poll(plugin).errors for _ in range(3)] == [[], [], []]
        assert ras.commands.count("MONITOR lifecycle") == 1

    def test_a_lost_connection_for_events_is_made_anew(self, root: Path) -> None:
        with Ras(status(), monitor=b"") as ras:
            plugin = NcclRas(target=ras.target, root=root)
            poll(plugin)
            ras.drop()
            errors = [poll(plugin).errors for _ in range(3)]
            plugin.close()
        assert sum(map(len, errors)) == 1
        assert ras.commands.count("MONITOR lifecycle") == 2

    def test_what_is_recorded_reads_back(self, root: Path, tmp_path: Path) -> None:
        with Ras(status()) as ras:
            NcclRas(target=ras.target, root=root).record(tmp_path / "case")
        assert (tmp_path / "case/input/ras.json").read_bytes() == status()
        assert _nccl_host.addresses(tmp_path / "case/input/root") == {"192.0.2.10", "2001:db8::1"}

    @pytest.mark.parametrize(("ports", "expected"), [({28028: {"1"}}, [{}]), ({80: {"1"}}, [])])
    def test_it_is_found_by_its_port(
        self, ports: dict[int, set[str]], expected: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "listening", lambda root: ports)
        assert NcclRas.detect() == expected

    def test_a_target_needs_a_port(self) -> None:
        with pytest.raises(ValueError, match="write host:port"):
            NcclRas(target="127.0.0.1")
