from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Batch, Link
from collector.catalog import fabric
from collector.entity import Kind
from plugins.fabric import _inspector
from plugins.fabric._inspector import GIGA, Dropped, Follower, Lines, Record, bandwidths
from plugins.fabric.nccl_inspector import NcclInspector
from tests.data import data
from tests.fakes.tree import HOST, plant, values

NOW = 1_760_000_000.0
FOLDER = "var/lib/node_exporter/nccl_inspector"


def header(rank: int = 0, hostname: str = "node1", pid: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "header": {"id": "0x0ab", "rank": rank, "n_ranks": 8, "nnodes": 1},
        "metadata": {"dump_timestamp_us": int(NOW * 1e6), "hostname": hostname, "pid": pid},
        **more,
    }


def perf(collective: str = "AllReduce", size: int = 1000, us: int = 10) -> dict[str, Any]:
    return {
        "coll_perf": {
            "coll": collective,
            "coll_msg_size_bytes": size,
            "coll_exec_time_us": us,
            "coll_busbw_gbs": size / us / 1e3,
        }
    }


def stats(records: int, dropped: int = 0) -> dict[str, Any]:
    return {
        "dump_stats": {
            "coll_records": records, "coll_dropped_total": dropped,
            "p2p_records": 0, "p2p_dropped_total": 0,
        }
    }  # fmt: skip


def lines(*entries: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def records(content: bytes) -> list[Record]:
    reader = Lines()
    found = [reader.take(line) for line in content.splitlines()]
    assert reader.malformed == 0
    return [one for one in found if isinstance(one, Record)]


class Job:
    """Files of a job, and the plugin that follows them."""

    def __init__(self, root: Path, **fields: Any) -> None:
        self.folder = root / FOLDER
        self.folder.mkdir(parents=True)
        self.plugin = NcclInspector(root=root, **fields)

    def write(self, content: bytes, name: str = "node1-pid7.log", at: float = NOW) -> Path:
        path = self.folder / name
        with path.open("ab") as file:
            file.write(content)
        os.utime(path, (at, at))
        return path

    def poll(self, at: float = NOW) -> Batch:
        batch = Batch(HOST, at, self.plugin.metrics)
        self.plugin.poll(batch)
        return batch

    def completed(self) -> dict[tuple[str, ...], float]:
        return values(self.poll(), fabric.RANK_COMPLETED)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


class TestLines:
    def test_the_recorded_lines(self) -> None:
        first, second = records(data("nccl/inspector_v4.0.jsonl").read_bytes())
        assert (first.header.communicator, first.header.rank, first.header.ranks) == (
            "0x7f8c496ae9f661", 2, 8,
        )  # fmt: skip
        assert (first.collective, first.size, first.time) == ("AllReduce", 17179869184, 0.061974)
        assert first.header.at == pytest.approx(1748030377.748202, abs=1e-5)
        assert second.collective == "ReduceScatter"
        assert second.header.pid == 438776

    def test_bus_bandwidth_follows_from_size_time_and_ranks(self) -> None:
        """The file's own values are those of the rule; gbs is 10^9 bytes a second."""
        for line in data("nccl/inspector_v4.0.jsonl").read_bytes().splitlines():
            (one,) = records(line)
            own = json.loads(line)["coll_perf"]
            algorithm, bus = bandwidths(one.collective, one.size, one.time, one.header.ranks)
            assert algorithm / GIGA == pytest.approx(own["coll_algobw_gbs"], rel=1e-6)
            assert bus / GIGA == pytest.approx(own["coll_busbw_gbs"], rel=1e-6)
            assert bus == pytest.approx(one.bus, rel=1e-6)

    def test_it_is_worked_out_where_the_file_does_not_say(self) -> None:
        entry = header() | perf("AllGather", 8000, 2)
        del entry["coll_perf"]["coll_busbw_gbs"]
        (one,) = records(lines(entry))
        assert one.bus == pytest.approx(8 * 8000 / 2e-6 * 7 / 8)

    @pytest.mark.parametrize(
        ("collective", "ranks", "expected"),
        [("AllReduce", 8, (1, 1.75)), ("AllReduce", 1, (1, 0)), ("AllGather", 4, (4, 3)),
         ("ReduceScatter", 4, (4, 3)), ("Broadcast", 8, (1, 1)), ("Send", 8, (1, 1))],
    )  # fmt: skip
    def test_rules(self, collective: str, ranks: int, expected: tuple[float, float]) -> None:
        assert bandwidths(collective, 1, 1.0, ranks) == expected

    def test_a_header_holds_for_as_many_lines_as_it_says(self) -> None:
        marked = lines(header(rank=3) | stats(2), perf(), perf(), perf())
        assert [one.header.rank for one in records(marked)] == [3, 3]

    def test_records_of_4_2_have_both(self) -> None:
        marked = lines(header(rank=3) | stats(1), header(rank=3) | perf(), perf())
        assert len(records(marked)) == 1

    def test_what_was_dropped_is_told(self) -> None:
        told = Lines().take(json.dumps(header() | stats(2, dropped=9)).encode())
        assert isinstance(told, Dropped)
        assert (told.collectives, told.p2p) == (9, 0)

    @pytest.mark.parametrize(
        "line",
        [b"{", b"[]", b"1", b'"x"', b'{"header": 1}', b'{"header": {}, "metadata": {}}',
         json.dumps(header() | perf(size=-1)).encode(),
         json.dumps(header() | perf() | {"coll_perf": {"coll": "x"}}).encode()],
    )  # fmt: skip
    def test_lines_that_cannot_be_read_are_counted(self, line: bytes) -> None:
        reader = Lines()
        assert reader.take(line) is None
        assert reader.malformed == 1

    @given(st.binary())
    def test_any_bytes_are_taken(self, line: bytes) -> None:
        Lines().take(line)


class TestFollower:
    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 400), max_size=12))
    def test_pieces_of_any_size_make_the_same_records(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
    ) -> None:
        content = lines(header(rank=1) | stats(2), perf(), perf("AllGather"), header() | perf())
        path = tmp_path_factory.mktemp("follow") / "f.log"
        follower, found, start = Follower(path), [], 0
        for size in [*sizes, len(content)]:
            with path.open("ab") as file:
                file.write(content[start : start + size])
            start += size
            found += follower.read(1 << 20)
        assert len(found) == 4
        assert follower.lines.malformed == 0

    def test_a_file_that_was_written_anew_is_read_from_its_start(self, tmp_path: Path) -> None:
        path = tmp_path / "f.log"
        path.write_bytes(lines(header() | perf(), header() | perf()))
        follower = Follower(path)
        assert len(follower.read(1 << 20)) == 2
        path.write_bytes(lines(header(rank=5) | perf()))
        assert [told.header.rank for told in follower.read(1 << 20)] == [5]

    def test_a_file_that_was_rotated_too(self, tmp_path: Path) -> None:
        path, other = tmp_path / "f.log", tmp_path / "new"
        path.write_bytes(lines(header() | perf()))
        follower = Follower(path)
        follower.read(1 << 20)
        other.write_bytes(lines(header(rank=1) | perf(), header(rank=2) | perf()))
        os.replace(other, path)
        assert [told.header.rank for told in follower.read(1 << 20)] == [1, 2]

    def test_of_too_much_the_newest_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "f.log"
        path.write_bytes(lines(*(header(rank=n) | perf() for n in range(100))))
        follower = Follower(path)
        found = follower.read(2000)
        assert 0 < len(found) < 10
        assert found[-1].header.rank == 99
        assert follower.skipped > 0
        assert follower.lines.malformed == 0

    def test_after_a_skip_lines_wait_for_their_header(self, tmp_path: Path) -> None:
        path = tmp_path / "f.log"
        path.write_bytes(
            lines(header() | stats(100), *[perf()] * 100, header(rank=1) | stats(1), perf())
        )
        found = Follower(path).read(1500)
        assert [told.header.rank for told in found] == [1, 1]

    def test_a_line_without_an_end_takes_no_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_inspector, "_LONGEST", 100)
        path = tmp_path / "f.log"
        path.write_bytes(b"x" * 10_000)
        follower = Follower(path)
        assert follower.read(1 << 20) == []
        assert (follower.lines.malformed, follower._rest) == (1, b"")


class TestPlugin:
    def test_operations_add_up(self, job: Job) -> None:
        job.write(lines(header() | perf(size=1000, us=10), header() | perf(size=3000, us=30)))
        batch = job.poll()
        key = ("0xab", "0", "AllReduce")
        assert values(batch, fabric.RANK_COMPLETED) == {key: 2}
        assert values(batch, fabric.RANK_DATA) == {key: 4000}
        assert values(batch, fabric.RANK_TIME)[key] == pytest.approx(40e-6)
        assert values(batch, fabric.RANK_BUS_BANDWIDTH)[key] == pytest.approx(1e8)
        assert values(batch, fabric.COMMUNICATOR_RANKS) == {("0xab",): 8}
        job.write(lines(header() | perf(size=8000, us=10)))
        batch = job.poll()
        assert values(batch, fabric.RANK_COMPLETED) == {key: 3}
        assert values(batch, fabric.RANK_BUS_BANDWIDTH)[key] == pytest.approx(8e8)

    def test_bandwidth_is_weighted_by_time(self, job: Job) -> None:
        slow, fast = perf(us=30), perf(us=10)
        slow["coll_perf"]["coll_busbw_gbs"], fast["coll_perf"]["coll_busbw_gbs"] = 100.0, 500.0
        job.write(lines(header() | slow, header() | fast))
        (bus,) = values(job.poll(), fabric.RANK_BUS_BANDWIDTH).values()
        assert bus == pytest.approx(200e9)

    def test_no_new_operations_no_new_bandwidth_but_the_counts_stay(self, job: Job) -> None:
        job.write(lines(header() | perf()))
        job.poll()
        batch = job.poll()
        assert values(batch, fabric.RANK_BUS_BANDWIDTH) == {}
        assert len(values(batch, fabric.RANK_COMPLETED)) == 1

    def test_ranks_are_linked_to_communicator_and_process(self, job: Job) -> None:
        plant(job.plugin.root, {"proc/900/status": "NSpid:\t900\t7\n"})
        job.write(lines(header() | perf()))
        batch = job.poll()
        rank, communicator = Kind.RANK("node1", "0xab", "0"), Kind.COMMUNICATOR("node1", "0xab")
        assert Link(rank, communicator, 1.0) in batch.links
        assert Link(rank, Kind.PROCESS("node1", "900"), 1.0) in batch.links

    def test_records_of_other_hosts_are_left_out(self, job: Job) -> None:
        job.write(lines(header(hostname="node2") | perf(), header(1, "node1.example.org") | perf()))
        assert set(job.completed()) == {("0xab", "1", "AllReduce")}

    def test_names_that_this_host_has_in_containers_can_be_given(self, tmp_path: Path) -> None:
        for name, hosts in (("one", ["pod-1"]), ("all", ["*"])):
            job = Job(tmp_path / name, hosts=hosts)
            job.write(lines(header(hostname="pod-1") | perf()))
            assert len(job.completed()) == 1

    def test_old_files_are_left_alone_and_forgotten(self, job: Job) -> None:
        path = job.write(lines(header() | perf()))
        assert len(job.completed()) == 1
        os.utime(path, (NOW - 4000, NOW - 4000))
        assert job.completed() == {}

    def test_a_file_that_is_gone_is_forgotten(self, job: Job) -> None:
        path = job.write(lines(header() | perf()))
        assert len(job.completed()) == 1
        path.unlink()
        assert job.completed() == {}

    def test_what_is_wrong_with_a_file_is_said_and_the_rest_read(self, job: Job) -> None:
        job.write(b"nonsense\n" + lines(header() | perf()))
        (job.folder / "broken.log").symlink_to("/nonexistent")
        (job.folder / "folder.log").mkdir()
        os.utime(job.folder / "folder.log", (NOW, NOW))
        batch = job.poll()
        assert len(values(batch, fabric.RANK_COMPLETED)) == 1
        errors = [str(error) for _, error in batch.errors]
        assert [one for one in errors if "1 lines cannot be read" in one]
        assert len(errors) == 2

    def test_what_is_skipped_later_is_said(self, tmp_path: Path) -> None:
        job = Job(tmp_path, max_bytes=1000)
        job.write(lines(*[header() | perf()] * 100))
        assert job.poll().errors == [], "what was there before is not counted"
        job.write(lines(*[header() | perf()] * 100))
        ((_, error),) = job.poll().errors
        assert "raise max_bytes" in str(error)

    def test_no_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="NCCL_INSPECTOR_DUMP_DIR"):
            NcclInspector(root=tmp_path).poll(Batch(HOST, NOW, NcclInspector.metrics))

    def test_the_recorded_textfile(self, tmp_path: Path) -> None:
        job = Job(tmp_path, hosts=["nvl72004-T01"])
        name = "nccl_inspector_metrics_11111111222233334444555555555555.prom"
        shutil.copy(data("nccl/nccl_inspector_metrics.prom"), job.folder / name)
        os.utime(job.folder / name, (NOW, NOW))
        batch = job.poll()
        uuid = "GPU-11111111-2222-3333-4444-555555555555"
        collective = (uuid, "DP Group 0", "AllReduce", "4-5GB", "Ring_ll", "")
        send = (uuid, "DP Group 0", "Send", "512-513MB", "", "")
        assert {key[-6:]: v for key, v in values(batch, fabric.GPU_BUS_BANDWIDTH).items()} == {
            collective: pytest.approx(678.263e9), send: pytest.approx(464.9e9),
        }  # fmt: skip
        assert {key[-6:]: v for key, v in values(batch, fabric.GPU_COLLECTIVE_TIME).items()} == {
            collective: pytest.approx(9498.47e-6), send: pytest.approx(1154.87e-6),
        }  # fmt: skip
        assert values(job.poll(NOW + 200), fabric.GPU_BUS_BANDWIDTH) == {}, "it is old by then"

    @pytest.mark.parametrize(
        ("name", "uuid"),
        [
            ("nccl_inspector_metrics_GPU-1-2.prom", "GPU-1-2"),
            ("nccl_inspector_metrics_MIG-1-2.prom", "MIG-1-2"),
            ("nccl_inspector_metrics_job17_GPU-1-2.prom", "GPU-1-2"),
            ("other.prom", None),
        ],
    )
    def test_the_gpu_is_in_the_files_name(self, name: str, uuid: str | None, job: Job) -> None:
        job.write(b'nccl_bus_bandwidth_gbs{node="node1",collective="x"} 1\n', name)
        found = values(job.poll(), fabric.GPU_BUS_BANDWIDTH)
        assert [key[0] for key in found] == ([uuid] if uuid else [])

    def test_a_textfile_in_the_midst_of_being_written_is_no_error(self, job: Job) -> None:
        name = "nccl_inspector_metrics_GPU-1.prom"
        job.write(b'nccl_bus_bandwidth_gbs{node="node1"} 1\nnccl_bus_bandwi', name)
        batch = job.poll()
        assert batch.errors == []
        assert len(values(batch, fabric.GPU_BUS_BANDWIDTH)) == 1

    def test_what_is_recorded_reads_back(self, job: Job, tmp_path: Path) -> None:
        path = job.write(lines(*[header() | perf()] * 500))
        os.utime(path)
        job.plugin.record(tmp_path / "case")
        saved = tmp_path / "case/input/root" / FOLDER / "node1-pid7.log"
        assert 0 < saved.stat().st_size <= 1 << 16
        assert len(records(saved.read_bytes())) > 100
