import psutil
import pytest

from collector.batch import Batch, Link
from collector.catalog import host
from collector.entity import Kind
from plugins.host.numa import Numa
from tests.fakes.tree import HOST, node_exporter, node_exporter_says, plant, read, values

NODE = "sys/devices/system/node"
FILES = {
    f"{NODE}/node0/meminfo": "Node 0 MemTotal:  100 kB\nNode 0 MemFree:  40 kB\n",
    f"{NODE}/node0/numastat": "numa_hit 5\nnuma_miss 1\n",
    f"{NODE}/online": "0\n",
}


def test_agrees_with_node_exporter(tmp_path):
    """Not published by us: meminfo of a node but for total and free."""
    batch = read(Numa(root=node_exporter(tmp_path, NODE)))
    assert batch.errors == []
    limit = node_exporter_says(r'node_memory_numa_MemTotal\{node="(\d)"\}')
    assert len(limit) == 3
    assert values(batch, host.NUMA_MEMORY_LIMIT) == limit
    assert values(batch, host.NUMA_MEMORY_FREE) == node_exporter_says(
        r'node_memory_numa_MemFree\{node="(\d)"\}'
    )
    allocations = values(batch, host.NUMA_ALLOCATIONS)
    for outcome in (
        "numa_hit",
        "numa_miss",
        "numa_foreign",
        "interleave_hit",
        "local_node",
        "other_node",
    ):
        pages = node_exporter_says(rf'node_memory_numa_{outcome}_total\{{node="(\d)"\}}')
        assert len(pages) == 3
        for (node,), count in pages.items():
            # The page gives some counts in 12 digits.
            assert allocations[node, outcome] == pytest.approx(count, rel=1e-11)


def test_nodes_belong_to_the_host(tmp_path):
    batch = read(Numa(root=plant(tmp_path, FILES)))
    assert batch.links == [Link(Kind.NUMA_NODE("node1", "0"), HOST, 1.0)]


def test_a_node_that_comes_is_found(tmp_path):
    plugin = Numa(root=plant(tmp_path, FILES))
    assert set(values(read(plugin), host.NUMA_MEMORY_FREE)) == {("0",)}
    plant(tmp_path, {f"{NODE}/node12/meminfo": "Node 12 MemFree: 7 kB"})
    batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
    assert values(batch, host.NUMA_MEMORY_FREE) == {("0",): 40 * 1024, ("12",): 7 * 1024}
    assert set(values(batch, host.NUMA_ALLOCATIONS)) == {("0", "numa_hit"), ("0", "numa_miss")}
    plugin.close()


def test_one_bad_node_does_not_cost_the_others(tmp_path):
    plant(tmp_path, FILES | {f"{NODE}/node1/numastat": "numa_hit\n"})
    batch = read(Numa(root=tmp_path))
    assert [entity for entity, _ in batch.errors] == [Kind.NUMA_NODE("node1", "1")]
    assert values(batch, host.NUMA_MEMORY_LIMIT) == {("0",): 102400}


def test_no_nodes_is_a_failure(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no nodes"):
        read(Numa(root=tmp_path))


def test_of_this_host_adds_up():
    if not Numa.detect():
        pytest.skip("this kernel has no NUMA nodes")
    batch = read(Numa())
    assert batch.errors == []
    free = sum(values(batch, host.NUMA_MEMORY_FREE).values())
    assert 0 < free <= psutil.virtual_memory().total


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    Numa(root=plant(tmp_path / "source", FILES)).record(tmp_path / "case")
    original = read(Numa(root=tmp_path / "source"))
    copy = read(Numa(root=tmp_path / "case/input/root"))
    assert (copy.keys, copy.values) == (original.keys, original.values)
