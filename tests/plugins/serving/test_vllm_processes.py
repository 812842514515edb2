"""The processes of a vLLM server on this host, from trees in the shape of /proc."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.batch import Batch, Link
from collector.catalog import serving
from collector.entity import Entity, Kind
from collector.read.http import Answer
from plugins.serving.vllm import Vllm, found
from tests.fakes.tree import plant
from tests.fakes.vllm import answered, page, value

HOST = Kind.HOST("node1")
TREES = {
    # pid: (parent, comm, command line, start)
    "default": {
        13694: (1, "vllm", "/bin/vllm serve ./llama --port 18000", 100),
        14403: (13694, "VLLM::EngineCor", "VLLM::EngineCore", 200),
        14471: (14403, "VLLM::Worker", "VLLM::Worker", 300),
    },
    "data-parallel": {
        15577: (1, "vllm", "/bin/python /bin/vllm serve --port 18000", 100),
        15971: (15577, "VLLM::DPCoordin", "VLLM::DPCoordinator", 150),
        16487: (15577, "VLLM::EngineCor", "VLLM::EngineCore_DP0", 200),
        16488: (15577, "VLLM::EngineCor", "VLLM::EngineCore_DP1", 200),
        16489: (15577, "VLLM::APIServer", "VLLM::APIServer_0", 250),
        16490: (15577, "VLLM::APIServer", "VLLM::APIServer_1", 260),
        17084: (16488, "VLLM::Worker", "VLLM::Worker_DP1_TP0", 300),
        17155: (16487, "VLLM::Worker", "VLLM::Worker_DP0_TP0", 300),
    },
    "rust": {
        30840: (1, "vllm", "/bin/python /bin/vllm serve", 100),
        30855: (30840, "VLLM::EngineCor", "VLLM::EngineCore", 200),
        30856: (30840, "vllm-rs", "vllm-rs frontend --listen-fd 3", 210),
        30870: (30855, "VLLM::Worker", "VLLM::Worker", 300),
    },
}
LISTENERS = {
    "default": (13694,),
    "data-parallel": (15577, 16489, 16490),
    "rust": (30840, 30856),
}


def plant_processes(root: Path, name: str, port: int = 8000, later: int = 0) -> Path:
    """Plant /proc with that tree, a shell above it and another engine beside it."""
    others = {
        1: (0, "systemd", "/sbin/init", 1),
        50: (1, "bash", "bash start vllm", 50),
        60: (50, "vllm", "/bin/vllm serve other --port 9000", 70),
        61: (60, "VLLM::EngineCor", "VLLM::EngineCore", 80),
    }
    tree = {
        pid + later: (parent + later if parent > 1 else 50, comm, command, start + later)
        for pid, (parent, comm, command, start) in TREES[name].items()
    }
    files = {"proc/stat": "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n"}
    for pid, (parent, comm, command, start) in {**others, **tree}.items():
        zeros = " ".join("0" * 17)
        files[f"proc/{pid}/stat"] = f"{pid} ({comm}) S {parent} {zeros} {start} 0 0\n"
        files[f"proc/{pid}/cmdline"] = "\0".join(command.split(" ")) + "\0"
        files[f"proc/{pid}/environ"] = "HOME=/root\0"
        files[f"proc/{pid}/fd/0"] = "-> /dev/null"
    for pid in LISTENERS[name]:
        files[f"proc/{pid + later}/fd/3"] = "-> socket:[777]"
    files["proc/60/fd/3"] = "-> socket:[888]"
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    row = "   {}: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000 1000 0 {} 1 0 100\n"
    files["proc/net/tcp"] = (
        head
        + row.format(0, f"0100007F:{port:04X}", "0A", 777)
        + row.format(1, f"0100007F:{port:04X}", "01", 999)  # a connection, not the listener
        + row.format(2, "00000000:2328", "0A", 888)
    )
    return plant(root, files)


def links(batch: Batch) -> dict[tuple[int, str], float]:
    return {
        (int(link.child.key[1]), link.parent.key[2]): link.share
        for link in batch.links
        if link.child.kind is Kind.PROCESS
    }


def look(
    root: Path,
    *bodies: bytes,
    apart: float = 5.0,
    between: Callable[[], object] = lambda: None,
) -> list[Batch]:
    """Poll pages of a local engine on port 8000 whose processes are in `root`."""

    class Recorded:
        url = "http://127.0.0.1:8000/metrics"

        async def get(self) -> Answer:
            i = len(batches) - 1
            return answered(bodies[i], 1000.0 + apart * i, local=True)

    batches: list[Batch] = []

    async def run() -> None:
        plugin = Vllm(root=root)
        await plugin.open()
        await plugin._endpoint.close()
        plugin._endpoint = Recorded()  # type: ignore[assignment]
        for _ in bodies:
            if batches:
                await asyncio.to_thread(between)
            batches.append(Batch(HOST, 0.0, plugin.metrics))
            await plugin.poll(batches[-1])

    asyncio.run(run())
    return batches


def engine(rank: str) -> Entity:
    return Kind.ENGINE("node1", "8000", rank)


@pytest.mark.parametrize("name", ["default", "rust"])
def test_all_processes_of_an_engine_are_linked(tmp_path, name):
    (batch,) = look(plant_processes(tmp_path, name), page(5))
    assert links(batch) == {(pid, "0"): 1.0 for pid in TREES[name]}
    assert Link(engine("0"), HOST, 1.0) in batch.links


def test_ranks_have_their_own_processes(tmp_path):
    both = page(5) + page(5, start=None, engine='engine="1",')
    (batch,) = look(plant_processes(tmp_path, "data-parallel"), both)
    assert links(batch) == {
        (16487, "0"): 1.0,
        (17155, "0"): 1.0,
        (16488, "1"): 1.0,
        (17084, "1"): 1.0,
        **{(pid, rank): 0.5 for pid in (15577, 15971, 16489, 16490) for rank in "01"},
    }


def test_ranks_that_run_elsewhere_are_not_on_this_host(tmp_path):
    pages = (page(5, start=None, engine=f'engine="{rank}",') for rank in range(4))
    (batch,) = look(plant_processes(tmp_path, "data-parallel"), b"".join(pages))
    on_host = {link.child for link in batch.links if link.parent == HOST}
    assert on_host == {engine("0"), engine("1")}


def test_start_of_the_listener(tmp_path):
    """Behind several API servers and the Rust frontend the page says nothing of the start."""
    root = plant_processes(tmp_path, "rust")
    first, same = look(root, page(100, start=None), page(150, start=None))
    assert value(first, serving.START_TIME) == pytest.approx(1700000000 + 2.1)
    assert value(same, serving.GENERATION_TOKENS) == 150


def test_restart_that_passed_the_old_value_is_seen_by_the_listener(tmp_path):
    def restart() -> None:
        shutil.rmtree(tmp_path / "proc")
        plant_processes(tmp_path, "rust", later=1000)

    plant_processes(tmp_path, "rust")
    _, after = look(tmp_path, page(100, start=None), page(150, start=None), between=restart)
    assert value(after, serving.GENERATION_TOKENS) == 250
    assert links(after) == {(pid + 1000, "0"): 1.0 for pid in TREES["rust"]}


def test_worker_that_came_later_is_found(tmp_path):
    root = plant_processes(tmp_path, "default")

    def grow() -> None:
        stat = (root / "proc/14471/stat").read_text().replace("14471", "14480")
        plant(root, {"proc/14480/stat": stat})

    pages = [page(5)] * 2
    assert (14480, "0") not in links(look(root, *pages, between=grow)[-1])  # not looked for yet
    assert (14480, "0") in links(look(root, *pages, apart=31.0)[-1])


def test_listener_is_gone(tmp_path):
    root = plant_processes(tmp_path, "default")
    (root / "proc/net/tcp").write_text("head\n")
    (batch,) = look(root, page(5, start=None))
    assert links(batch) == {}
    assert value(batch, serving.START_TIME) is None
    assert value(batch, serving.GENERATION_TOKENS) == 5


def test_counters_that_outlive_the_process(tmp_path):
    root = plant_processes(tmp_path, "default")
    (root / "proc/13694/environ").write_text("PROMETHEUS_MULTIPROC_DIR=/var/kept\0")
    (batch,) = look(root, page(5, start=None))
    assert value(batch, serving.START_TIME) is None


def test_descriptors_that_may_not_be_read_are_said_once(tmp_path, monkeypatch, caplog):
    def refuse(*_: object) -> set[int]:
        raise PermissionError(13, "Permission denied", "/proc/1/fd")

    monkeypatch.setattr("collector.read.processes.holders", refuse)
    root = plant_processes(tmp_path, "default")
    with caplog.at_level(logging.WARNING):
        batches = look(root, *[page(5)] * 3, apart=40.0)
    assert [b.errors for b in batches] == [[], [], []]
    assert [links(b) for b in batches] == [{}, {}, {}]
    assert len(caplog.records) == 1
    assert "CAP_SYS_PTRACE" in caplog.text
    assert Link(engine("0"), HOST, 1.0) in batches[0].links


def test_found(tmp_path):
    root = plant_processes(tmp_path, "default", port=18000)
    assert found(root) == ["http://127.0.0.1:9000", "http://127.0.0.1:18000"]


def test_found_on_one_address(tmp_path):
    root = plant_processes(tmp_path, "rust")
    command = "/bin/python3 -m vllm.entrypoints.openai.api_server --host=10.0.0.5"
    plant(root, {"proc/30840/cmdline": command.replace(" ", "\0") + "\0"})
    plant(
        root, {"proc/30840/stat": (root / "proc/30840/stat").read_text().replace("vllm", "python3")}
    )
    assert "http://10.0.0.5:8000" in found(root)


def test_found_without_processes(tmp_path):
    assert found(plant(tmp_path, {"proc/1/stat": "1 (a) S 0 " + "0 " * 20})) == []
