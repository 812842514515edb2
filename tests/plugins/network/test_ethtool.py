import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link
from collector.catalog import network
from collector.entity import Kind
from plugins.network.ethtool import Ethtool
from tests.fakes.ethtool import Kernel
from tests.fakes.tree import HOST, plant, read, values

FOLDER = "sys/class/net"


def nic(root, name, driver="mlx5_core"):
    return plant(root, {
        f"{FOLDER}/{name}/device/driver": f"-> ../../../../bus/pci/drivers/{driver}",
        f"sys/bus/pci/drivers/{driver}/bind": "",
    })  # fmt: skip


@pytest.fixture
def kernel(monkeypatch):
    return Kernel({"driver": {}, "standard": {}}).install(monkeypatch)


def again(plugin, at):
    return read(plugin, Batch(HOST, at, plugin.metrics))


def test_durations_are_seconds_and_percents_are_shares(tmp_path, kernel):
    kernel.tables["driver"]["eth0"] = {
        "rx_prio3_pause_duration": 1_500_000,
        "tx_global_pause_duration": 1,
        "outbound_pci_stalled_rd": 25,
        "outbound_pci_stalled_wr": 101,
    }
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    batch = read(plugin)
    assert values(batch, network.PAUSE_TIME) == {
        ("eth0", "receive", "3"): 1.5,
        ("eth0", "transmit", ""): 1e-6,
    }
    assert values(batch, network.PCI_STALLED) == {("eth0", "read"): 0.25}, "101 % is no share"
    assert batch.links == [Link(Kind.INTERFACE("node1", "eth0"), HOST, 1.0)]
    plugin.close()


def test_bit_error_rate_is_of_the_time_between_two_polls(tmp_path, kernel):
    def count(corrected, bits):
        found = {"rx_corrected_bits_phy": corrected, "rx_bits_phy": bits}
        kernel.tables["driver"]["eth0"] = found

    count(1_000_000, 10**15)
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    assert values(read(plugin), network.BIT_ERROR_RATE) == {}
    count(1_000_400, 10**15 + 4 * 10**12)
    assert values(again(plugin, 10.0), network.BIT_ERROR_RATE) == {("eth0",): 1e-10}
    assert values(again(plugin, 20.0), network.BIT_ERROR_RATE) == {}, "no bits, no rate"
    count(1_000_400, 10**15 + 8 * 10**12)
    batch = again(plugin, 30.0)
    assert values(batch, network.BIT_ERROR_RATE) == {("eth0",): 0.0}
    assert values(batch, network.FEC_BITS_CORRECTED) == {("eth0",): 1_000_400}
    plugin.close()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=6))
def test_a_bit_error_rate_is_a_share_whatever_is_counted(tmp_path_factory, readings):
    with pytest.MonkeyPatch.context() as patch:
        kernel = Kernel({"driver": {}, "standard": {}}).install(patch)
        plugin = Ethtool(root=nic(tmp_path_factory.mktemp("net"), "eth0"))
        plugin.open()
        for at, (corrected, bits) in enumerate(readings):
            found = {"rx_corrected_bits_phy": corrected, "rx_bits_phy": bits}
            kernel.tables["driver"]["eth0"] = found
            rates = values(again(plugin, at), network.BIT_ERROR_RATE)
            assert all(0 <= rate <= 1 for rate in rates.values())
        plugin.close()


def test_what_the_driver_names_itself_goes_before_the_standard(tmp_path, kernel):
    kernel.tables["driver"]["eth0"] = {"rx_bytes_phy": 1000}
    kernel.tables["standard"]["eth0"] = {"1.12": 900, "1.6": 800}
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    assert values(read(plugin), network.PHY_IO) == {
        ("eth0", "receive"): 1000,
        ("eth0", "transmit"): 800,
    }
    plugin.close()


def test_names_without_a_metric_are_passed_on_only_where_the_config_says_so(tmp_path, kernel):
    odd = {"rx0_packets": 5, "rx1_packets": 6, "rx_bytes_phy": 7}
    kernel.tables["driver"]["eth0"] = odd
    nic(tmp_path, "eth0")
    plain = Ethtool(root=tmp_path)
    assert values(read(plain), network.DRIVER_STATISTIC) == {}
    full = Ethtool(root=tmp_path, all=True)
    batch = read(full)
    assert values(batch, network.DRIVER_STATISTIC) == {
        ("eth0", "rx0_packets"): 5,
        ("eth0", "rx1_packets"): 6,
    }
    assert values(batch, network.PHY_IO) == {("eth0", "receive"): 7}
    kernel.tables["driver"]["eth0"] = {f"q{n}": n for n in range(6000)}
    assert len(values(again(full, 1.0), network.DRIVER_STATISTIC)) == 4096
    plain.close()
    full.close()


def test_a_value_that_is_not_set_is_absent(tmp_path, kernel):
    kernel.tables["driver"]["eth0"] = {"rx_bytes_phy": 2**64 - 1, "tx_bytes_phy": 0}
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    assert values(read(plugin), network.PHY_IO) == {("eth0", "transmit"): 0}
    plugin.close()


def test_one_nic_that_fails_does_not_harm_the_others(tmp_path, kernel):
    for name in ("eth0", "eth1", "eth2"):
        kernel.tables["driver"][name] = {"rx_bytes_phy": 1}
        nic(tmp_path, name)
    plugin = Ethtool(root=tmp_path)
    read(plugin)
    del kernel.tables["driver"]["eth1"]
    batch = again(plugin, 1.0)
    ((entity, error),) = batch.errors
    assert (str(entity), error.errno) == ("interface:node1/eth1", errno.ENODEV)
    assert {name for name, _ in values(batch, network.PHY_IO)} == {"eth0", "eth2"}
    plugin.close()


def test_a_counter_goes_on_when_the_driver_starts_anew(tmp_path, kernel):
    kernel.tables["driver"]["eth0"] = {"link_down_events_phy": 5}
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    read(plugin)
    kernel.tables["driver"]["eth0"] = {"rx0_bytes": 1, "link_down_events_phy": 1}
    assert values(again(plugin, 1.0), network.LINK_DOWN_EVENTS) == {("eth0",): 6}
    plugin.close()


def test_a_kernel_without_netlink_still_has_the_drivers_statistics(tmp_path, kernel, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOENT, "no family ethtool")

    monkeypatch.setattr("plugins.network.ethtool.Netlink", refuse)
    kernel.tables["driver"]["eth0"] = {"rx_bytes_phy": 1}
    kernel.tables["standard"]["eth0"] = {"1.6": 800}
    plugin = Ethtool(root=nic(tmp_path, "eth0"))
    assert values(read(plugin), network.PHY_IO) == {("eth0", "receive"): 1}
    plugin.close()


def test_no_interface_is_a_failure_that_names_the_mend(tmp_path, kernel):
    plugin = Ethtool(root=plant(tmp_path, {f"{FOLDER}/lo/mtu": ""}))
    with pytest.raises(FileNotFoundError, match="by include"):
        read(plugin)
    plugin.close()


def test_record_gives_a_case_that_reads_the_same(tmp_path, kernel, monkeypatch):
    kernel.tables["driver"]["eth0"] = {"rx_bytes_phy": 2**63, 'odd "name" \\': 1}
    kernel.tables["standard"]["eth0"] = {"1.6": 800, "21.2": 3}
    root = nic(tmp_path / "source", "eth0")
    Ethtool(root=root).record(tmp_path / "case")
    source, copy = (
        Ethtool(root=root, all=True),
        Ethtool(root=tmp_path / "case/input/root", all=True),
    )
    original = read(source)
    Kernel(tmp_path / "case/input/statistics.toml").install(monkeypatch)
    again_ = read(copy)
    assert (again_.keys, again_.values) == (original.keys, original.values)
    source.close()
    copy.close()


def test_live():
    """The drivers of this host, whatever they are."""
    if not Ethtool.detect():
        pytest.skip("this host has no physical interface")
    plugin = Ethtool(all=True)
    batch = read(plugin)
    assert batch.errors == []
    assert batch.links
    plugin.close()
