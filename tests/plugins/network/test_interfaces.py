from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link, Severity
from collector.catalog import network
from collector.entity import Kind
from plugins.network.interfaces import Interfaces
from tests.fakes.tree import HOST, node_exporter, node_exporter_says, plant, read, values

FOLDER = "sys/class/net"


def interface(name, physical=True, **files):
    found = {f"{FOLDER}/{name}/operstate": "up\n"}
    if physical:
        found[f"{FOLDER}/{name}/device/uevent"] = ""
    return found | {
        f"{FOLDER}/{name}/{file.replace('__', '/')}": content for file, content in files.items()
    }


def again(plugin, files, at=5.0):
    plant(plugin.root, files)
    return read(plugin, Batch(HOST, at, plugin.metrics))


def test_agrees_with_node_exporter(tmp_path):
    node_exporter(tmp_path, FOLDER, "sys/devices/pci0000:00")
    batch = read(Interfaces(root=tmp_path, include=["eth0", "bond0"]))
    assert batch.errors == []
    for metric, name in (
        (network.CARRIER_CHANGES, "carrier_changes_total"),
        (network.MTU, "mtu_bytes"),
        (network.RATE, "speed_bytes"),
    ):
        says = node_exporter_says(rf'node_network_{name}\{{device="(\w+)"\}}')
        assert says
        assert values(batch, metric) == says
    up = node_exporter_says(r'node_network_up\{device="(\w+)"\}')
    assert {name for name, state in values(batch, network.STATE) if state == "up"} == {
        name for (name,) in up
    }


def test_counts_of_the_kernel(tmp_path):
    files: dict[str, str] = {}
    for number, name in enumerate(("bytes", "packets", "errors", "dropped")):
        files |= {
            f"statistics__rx_{name}": f"{number}1\n",
            f"statistics__tx_{name}": f"{number}2\n",
        }
    batch = read(Interfaces(root=plant(tmp_path, interface("eth0", **files))))
    for number, metric in enumerate((network.IO, network.PACKETS, network.ERRORS, network.DROPS)):
        assert values(batch, metric) == {
            ("eth0", "receive"): int(f"{number}1"),
            ("eth0", "transmit"): int(f"{number}2"),
        }
    assert batch.links == [Link(Kind.INTERFACE("node1", "eth0"), HOST, 1.0)]


def test_only_interfaces_with_a_device_are_read_unless_others_are_named(tmp_path):
    plant(tmp_path, interface("eth0") | interface("eth1") | interface("bond0", physical=False))
    plant(tmp_path, interface("lo", physical=False) | {f"{FOLDER}/bonding_masters": "bond0\n"})

    def names(**config):
        batch = read(Interfaces(root=tmp_path, **config))
        assert batch.errors == []
        return {name for name, *_ in values(batch, network.INFO)}

    assert names() == {"eth0", "eth1"}
    assert names(exclude=["*1"]) == {"eth0"}
    assert names(include=["bond*", "eth1"]) == {"bond0", "eth1"}
    assert names(include=["*0"], exclude=["eth*"]) == {"bond0"}


@pytest.mark.parametrize("speed", ["-1", "0", "65535", "4294967295"])
def test_an_unknown_speed_is_absent(tmp_path, speed):
    batch = read(Interfaces(root=plant(tmp_path, interface("eth0", speed=speed))))
    assert (values(batch, network.RATE), batch.errors) == ({}, [])


def test_driver_and_address(tmp_path):
    pci = "sys/devices/pci0000:00/0000:00:01.0/0000:19:00.0"
    files = {
        f"{FOLDER}/eth0": "-> ../../devices/pci0000:00/0000:00:01.0/0000:19:00.0/virtio2/net/eth0",
        f"{pci}/virtio2/net/eth0/device": "-> ../../../virtio2",
        f"{pci}/virtio2/driver": "-> ../../../../../bus/virtio/drivers/virtio_net",
        "sys/bus/virtio/drivers/virtio_net/bind": "",
        f"{FOLDER}/usb0/device/uevent": "",
    }
    batch = read(Interfaces(root=plant(tmp_path, files)))
    assert set(values(batch, network.INFO)) == {
        ("eth0", "virtio_net", "0000:19:00.0"),
        ("usb0", "", ""),
    }


def test_down_and_up_are_events(tmp_path):
    plugin = Interfaces(root=plant(tmp_path, interface("eth0")))
    assert read(plugin).events == []
    batch = again(plugin, {f"{FOLDER}/eth0/operstate": "down\n"})
    (event,) = batch.events
    assert (event.name, event.severity) == ("interface.down", Severity.ERROR)
    assert values(batch, network.STATE)["eth0", "down"] == 1
    assert again(plugin, {f"{FOLDER}/eth0/operstate": "lowerlayerdown\n"}).events == []
    (event,) = again(plugin, {f"{FOLDER}/eth0/operstate": "up\n"}).events
    assert (event.name, event.severity) == ("interface.up", Severity.INFO)
    batch = again(plugin, {f"{FOLDER}/eth0/operstate": "sideways\n"})
    assert (values(batch, network.STATE), batch.events) == ({}, [])


def test_one_bad_interface_does_not_harm_the_others(tmp_path):
    plant(tmp_path, interface("eth0", statistics__rx_bytes="x\n", statistics__tx_bytes="1\n"))
    plant(tmp_path, interface("eth1", mtu="9000\n"))
    batch = read(Interfaces(root=tmp_path))
    assert [str(entity) for entity, _ in batch.errors] == ["interface:node1/eth0"]
    assert values(batch, network.MTU) == {("eth1",): 9000}


def test_an_interface_that_leaves_is_dropped(tmp_path):
    plant(tmp_path, interface("eth0", mtu="1500\n") | interface("eth1", mtu="9000\n"))
    plugin = Interfaces(root=tmp_path)
    read(plugin)
    (tmp_path / FOLDER / "eth0").rename(tmp_path / "away")
    batch = again(plugin, {})
    assert (values(batch, network.MTU), batch.errors) == ({("eth1",): 9000}, [])


@given(raws=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
def test_a_count_goes_on_when_the_driver_starts_anew(tmp_path_factory, raws):
    root, expected, last = tmp_path_factory.mktemp("net"), 0, 0
    plugin = Interfaces(root=plant(root, interface("eth0")))
    for number, raw in enumerate(raws):
        expected, last = expected + (raw - last if raw >= last else raw), raw
        plant(root, {f"{FOLDER}/eth0/statistics/rx_bytes": f"{raw}\n"})
        batch = again(plugin, {}, number) if number else read(plugin)
        assert values(batch, network.IO) == {("eth0", "receive"): expected}
    plugin.close()


def test_no_interface_is_a_failure_that_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match="by include"):
        read(Interfaces(root=plant(tmp_path, interface("lo", physical=False))))


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    source = plant(tmp_path / "source", interface("eth0", mtu="1500\n", statistics__rx_bytes="3\n"))
    Interfaces(root=source).record(tmp_path / "case")
    copy = read(Interfaces(root=tmp_path / "case/input/root", include=["eth0"]))
    original = read(Interfaces(root=source))
    assert (copy.keys, copy.values) == (original.keys, original.values)


def test_live():
    """Where this host has a physical interface."""
    if not Interfaces.detect():
        pytest.skip("this host has no physical interface")
    batch = read(Interfaces())
    assert batch.errors == []
    names = {path.name for path in Path("/sys/class/net").iterdir() if (path / "device").exists()}
    assert {name for name, _ in values(batch, network.IO)} == names
