import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link
from collector.catalog import power
from collector.entity import Kind
from plugins.power.rapl import Rapl
from tests.fakes.tree import (
    HOST,
    as_nobody,
    node_exporter,
    node_exporter_says,
    plant,
    public_folder,
    read,
    values,
)

POWERCAP = "sys/class/powercap"
RANGE = 262_143_328_850  # µJ, that of most packages


def zone(path, name, energy, range_=RANGE):
    return {
        f"{POWERCAP}/{path}/name": f"{name}\n",
        f"{POWERCAP}/{path}/energy_uj": f"{energy}\n",
        f"{POWERCAP}/{path}/max_energy_range_uj": f"{range_}\n",
    }


def poll(plugin, at):
    return values(read(plugin, Batch(HOST, at, plugin.metrics)), power.CPU_ENERGY)


def test_agrees_with_node_exporter(tmp_path):
    batch = read(Rapl(root=node_exporter(tmp_path, POWERCAP)))
    says = node_exporter_says(r'node_rapl_(\w+)_joules_total\{index="0",path="[^"]+"\}')
    assert values(batch, power.CPU_ENERGY) == {
        ("package-0", "package"): says[("package",)],
        ("package-0/core", "core"): says[("core",)],
    }
    assert batch.links == [
        Link(Kind.CPU("node1", "package-0"), HOST, 1.0),
        Link(Kind.CPU("node1", "package-0/core"), HOST, 1.0),
    ]


def test_zones_have_names_of_their_own(tmp_path):
    files = (
        zone("intel-rapl:0", "package-0", 1)
        | zone("intel-rapl:0:0", "dram", 2)
        | zone("intel-rapl:1", "package-15", 3)
        | zone("intel-rapl:1:0", "dram", 4)
        | zone("intel-rapl:2", "psys", 5)
        | zone("intel-rapl:3", "package-0", 6)
        | zone("intel-rapl:3:0", "dram", 7)
        | zone("intel-rapl:10", "package-1-die-1", 8)
    )
    found = values(read(Rapl(root=plant(tmp_path, files))), power.CPU_ENERGY)
    assert found == {
        ("package-0", "package"): 1e-6,
        ("package-0/dram", "dram"): 2e-6,
        ("package-15", "package"): 3e-6,
        ("package-15/dram", "dram"): 4e-6,
        ("psys", "psys"): 5e-6,
        ("package-0#3", "package"): 6e-6,
        ("package-0#3/dram", "dram"): 7e-6,
        ("package-1-die-1", "package"): 8e-6,
    }


def test_packages_that_are_there_twice_are_read_once(tmp_path):
    mmio = zone("intel-rapl-mmio:0", "package-0", 9_000_000)
    plugin = Rapl(root=plant(tmp_path, mmio))
    assert set(values(read(plugin), power.CPU_ENERGY).values()) == {9.0}
    plant(tmp_path, zone("intel-rapl:0", "package-0", 1_000_000))
    assert poll(plugin, 1.0) == {("package-0", "package"): 1.0}
    plugin.close()


def test_a_wrap_adds_what_was_left_of_the_range(tmp_path):
    plugin = Rapl(root=plant(tmp_path, zone("intel-rapl:0", "package-0", RANGE - 2_000_000)))
    read(plugin)
    plant(tmp_path, zone("intel-rapl:0", "package-0", 3_000_000))
    (joules,) = poll(plugin, 1.0).values()
    assert joules == pytest.approx((RANGE + 3_000_000) / 1e6, abs=2e-6)
    plugin.close()


def test_a_reset_is_no_wrap(tmp_path):
    # 100 J, then 1 J a second later: a wrap would mean 262 kW.
    plugin = Rapl(root=plant(tmp_path, zone("intel-rapl:0", "package-0", 100_000_000)))
    read(plugin)
    plant(tmp_path, zone("intel-rapl:0", "package-0", 1_000_000))
    assert poll(plugin, 1.0) == {("package-0", "package"): 101.0}
    plant(tmp_path, zone("intel-rapl:0", "package-0", 1_500_000))
    assert poll(plugin, 2.0) == {("package-0", "package"): 101.5}
    plugin.close()


@given(st.lists(st.integers(0, 5_000_000_000), max_size=60), st.integers(0, RANGE))
def test_the_total_is_what_was_drawn(tmp_path_factory, steps, start):
    root = tmp_path_factory.mktemp("rapl")
    plugin = Rapl(root=plant(root, zone("intel-rapl:0", "package-0", start)))
    read(plugin)
    drawn = start
    for second, step in enumerate(steps, start=1):
        drawn += step
        plant(root, zone("intel-rapl:0", "package-0", drawn % (RANGE + 1)))
        assert poll(plugin, float(second)) == {("package-0", "package"): drawn / 1e6}
    plugin.close()


def test_totals_go_on_when_another_zone_comes(tmp_path):
    plugin = Rapl(root=plant(tmp_path, zone("intel-rapl:0", "package-0", RANGE)))
    read(plugin)
    plant(tmp_path, zone("intel-rapl:0", "package-0", 0) | zone("intel-rapl:1", "package-1", 0))
    assert poll(plugin, 1.0)["package-0", "package"] == (RANGE + 1) / 1e6
    plugin.close()


def test_counters_of_root_alone_say_what_is_missing():
    files = zone("intel-rapl:0", "package-0", 1) | zone("intel-rapl:1", "package-1", 2_000_000)
    with public_folder() as root:
        plugin = Rapl(root=plant(root, files))
        forbidden = root / POWERCAP / "intel-rapl:0/energy_uj"
        forbidden.chmod(0)
        with as_nobody():
            batch = read(plugin)
            ((entity, error),) = batch.errors
            assert entity == Kind.CPU("node1", "package-0")
            assert "mode 0000" in str(error)
            assert "CAP_DAC_READ_SEARCH" in str(error)
            assert str(forbidden) in str(error)
            assert values(batch, power.CPU_ENERGY) == {("package-1", "package"): 2.0}
        forbidden.chmod(0o444)
        with as_nobody():
            assert len(poll(plugin, 1.0)) == 2
        plugin.close()


def test_if_no_counter_may_be_read_the_source_is_down():
    with public_folder() as root:
        plugin = Rapl(root=plant(root, zone("intel-rapl:0", "package-0", 1)))
        (root / POWERCAP / "intel-rapl:0/energy_uj").chmod(0)
        with as_nobody(), pytest.raises(PermissionError, match="CAP_DAC_READ_SEARCH"):
            read(plugin)


def test_one_bad_zone_does_not_cost_the_others(tmp_path):
    files = zone("intel-rapl:0", "package-0", 1_000_000) | zone("intel-rapl:1", "package-1", "")
    batch = read(Rapl(root=plant(tmp_path, files)))
    assert [entity for entity, _ in batch.errors] == [Kind.CPU("node1", "package-1")]
    assert values(batch, power.CPU_ENERGY) == {("package-0", "package"): 1.0}


def test_no_zones_is_a_failure_that_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match="intel_rapl_msr"):
        read(Rapl(root=plant(tmp_path, {f"{POWERCAP}/intel-rapl/enabled": "1\n"})))


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    files = zone("intel-rapl:0", "package-0", 5) | zone("intel-rapl:0:0", "core", 3)
    Rapl(root=plant(tmp_path / "source", files)).record(tmp_path / "case")
    found = values(read(Rapl(root=tmp_path / "case/input/root")), power.CPU_ENERGY)
    assert found == {("package-0", "package"): 5e-6, ("package-0/core", "core"): 3e-6}
