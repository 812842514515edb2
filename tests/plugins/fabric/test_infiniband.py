import errno
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import collector.read.files
from collector.batch import Batch, Link, Severity
from collector.catalog import fabric
from collector.entity import Kind
from plugins.fabric._infiniband_flaps import Flaps
from plugins.fabric.infiniband import Infiniband
from tests.data import data
from tests.fakes.tree import HOST, node_exporter, node_exporter_says, plant, read, values

FOLDER = "sys/class/infiniband"


def device(name, port="1", **files):
    """An HCA with a port; `counters_symbol_error` is a file in the folder `counters`."""
    base = f"{FOLDER}/{name}/ports/{port}"
    found = {
        f"{FOLDER}/{name}/hca_type": "MT4129\n",
        f"{base}/rate": "400 Gb/sec (4X NDR)\n",
        f"{base}/state": "4: ACTIVE\n",
        f"{base}/phys_state": "5: LinkUp\n",
        f"{base}/link_layer": "InfiniBand\n",
    }
    for file, content in files.items():
        folder, _, rest = file.partition("__")
        found[f"{base}/{folder}/{rest}" if rest else f"{base}/{file}"] = content
    return found


def again(plugin, at, files=None):
    plant(plugin.root, files or {})
    return read(plugin, Batch(HOST, at, plugin.metrics))


def active(batch, metric):
    return {key[:-1]: key[-1] for key, value in values(batch, metric).items() if value == 1}


class Driver:
    """Counts what is read, and refuses files whose path contains a word."""

    def __init__(self, monkeypatch):
        self.read: list[str] = []
        self.refused: tuple[str, ...] = ()
        self._pread = os.pread
        monkeypatch.setattr(collector.read.files, "pread", self)

    def __call__(self, descriptor, size, offset):
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self.read.append(path)
        if any(word in path for word in self.refused):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self._pread(descriptor, size, offset)

    def count(self, word):
        number = sum(word in path for path in self.read)
        self.read.clear()
        return number


@pytest.fixture
def driver(monkeypatch):
    return Driver(monkeypatch)


class TestAgainstNodeExporter:
    @pytest.fixture
    def batch(self, tmp_path):
        batch = read(Infiniband(root=node_exporter(tmp_path, FOLDER)))
        assert batch.errors == []
        return batch

    def says(self, name):
        label = r'\{device="(\w+)",port="(\d+)"\}'
        found = node_exporter_says(rf"node_infiniband_{name}{label}")
        assert found, name
        return {(f"{device}/{port}",): value for (device, port), value in found.items()}

    def test_rate(self, batch):
        assert values(batch, fabric.PORT_RATE) == self.says("rate_bytes_per_second")

    def test_states(self, batch):
        ours = {"active": 4, "link_up": 5}
        for metric, name in (
            (fabric.PORT_STATE, "state_id"),
            (fabric.PORT_PHYS_STATE, "physical_state_id"),
        ):
            found = {key: ours[state] for key, state in active(batch, metric).items()}
            assert found == self.says(name)

    @pytest.mark.parametrize(
        ("metric", "direction", "name"),
        [
            (fabric.PORT_IO, "transmit", "data_transmitted_bytes_total"),
            (fabric.PORT_IO, "receive", "data_received_bytes_total"),
            (fabric.PORT_PACKETS, "transmit", "packets_transmitted_total"),
            (fabric.PORT_PACKETS, "receive", "packets_received_total"),
        ],
    )
    def test_traffic_is_the_larger_of_the_count_of_32_bits_and_that_of_64(
        self, batch, metric, direction, name
    ):
        short, wide = self.says(f"port_{name}"), self.says(f"legacy_{name}")
        found = {
            (port,): value for (port, to), value in values(batch, metric).items() if to == direction
        }
        assert found == {port: max(wide[port], short.get(port, 0)) for port in wide}

    @pytest.mark.parametrize("cast", ["unicast", "multicast"])
    def test_packets_by_cast(self, batch, cast):
        for to, word in (("transmit", "transmitted"), ("receive", "received")):
            wide = self.says(f"legacy_{cast}_packets_{word}_total")
            found = {
                (port,): value
                for (port, *labels), value in values(batch, fabric.PORT_CAST_PACKETS).items()
                if labels == [to, cast]
            }
            assert found == wide

    def test_errors(self, batch):
        names = {
            "link_downed": "link_downed_total",
            "link_error_recovery": "link_error_recovery_total",
            "port_rcv_errors": "port_errors_received_total",
            "port_rcv_discards": "port_discards_received_total",
            "port_xmit_discards": "port_discards_transmitted_total",
            "port_rcv_constraint_errors": "port_constraint_errors_received_total",
            "port_xmit_constraint_errors": "port_constraint_errors_transmitted_total",
        }
        expected = {
            (*port, ours): value
            for ours, theirs in names.items()
            for port, value in self.says(theirs).items()
        }
        assert values(batch, fabric.PORT_ERRORS) == expected
        wait = self.says("port_transmit_wait_total")
        assert values(batch, fabric.PORT_TRANSMIT_WAIT) == wait
        assert values(batch, fabric.PORT_ERRORS_SATURATED)["mlx4_0/1", "port_xmit_wait"] == 1

    def test_info(self, batch):
        expected = node_exporter_says(
            r'node_infiniband_info\{board_id="(.*)",device="(.*)",firmware_version="(.*)",'
            r'hca_type="(.*)"\}'
        )
        found = {
            (board, port.split("/")[0], firmware, hca)
            for port, _, firmware, board, hca, *_ in values(batch, fabric.PORT_INFO)
        }
        assert found == set(expected)


def test_the_h100_tree_flags_what_is_saturated(tmp_path):
    source = data("host/infiniband_h100/sys-class-infiniband")
    shutil.copytree(source, tmp_path / FOLDER)
    # The tree's device has two counters at their end; others of its kind were seen with these.
    seen = {"port_xmit_discards": "65535\n", "port_xmit_wait": "4294967295\n"}
    plant(tmp_path / FOLDER / "mlx5_4/ports/1/counters", seen)
    batch = read(Infiniband(root=tmp_path))
    assert batch.errors == []
    saturated = values(batch, fabric.PORT_ERRORS_SATURATED)
    assert {key for key, value in saturated.items() if value} == {
        ("mlx5_1/1", "link_downed"),
        ("mlx5_4/1", "port_xmit_discards"),
        ("mlx5_4/1", "port_xmit_wait"),
        *((f"{path.name}/1", "excessive_buffer_overrun_errors") for path in source.iterdir()),
    }
    ports = len(list(source.iterdir()))
    assert (ports, len(saturated)) == (9, 9 * 13)
    rates = values(batch, fabric.PORT_RATE)
    assert rates["mlx5_0/1",] == 50e9
    assert values(batch, fabric.PORT_RATE_EXPECTED) == rates
    data_words = int((source / "mlx5_0/ports/1/counters/port_xmit_data").read_text())
    assert values(batch, fabric.PORT_IO)["mlx5_0/1", "transmit"] == 4 * data_words
    assert values(batch, fabric.PORT_RDMA_ERRORS)["mlx5_0/1", "roce_adp_retrans"] == 3
    assert values(batch, fabric.PORT_RDMA_REQUESTS)["mlx5_0/1", "read"] == 9187392
    assert not [key for key in batch.keys if "lifespan" in key.labels]


def test_a_degraded_link_shows_beside_its_like(tmp_path):
    plant(tmp_path, device("mlx5_0") | device("mlx5_1", rate="100 Gb/sec (1X NDR)\n"))
    slow = {
        f"{FOLDER}/bf3_0/hca_type": "MT41692",
        f"{FOLDER}/bf3_0/ports/1/rate": "2.5 Gb/sec (1X SDR)",
    }
    plant(tmp_path, slow)
    batch = read(Infiniband(root=tmp_path))
    assert values(batch, fabric.PORT_RATE) == {
        ("mlx5_0/1",): 50e9,
        ("mlx5_1/1",): 12.5e9,
        ("bf3_0/1",): 0.3125e9,
    }
    assert values(batch, fabric.PORT_RATE_EXPECTED) == {
        ("mlx5_0/1",): 50e9,
        ("mlx5_1/1",): 50e9,
        ("bf3_0/1",): 0.3125e9,
    }


def test_the_expected_rate_stays_when_all_links_degrade_and_can_be_set(tmp_path):
    plugin = Infiniband(root=plant(tmp_path, device("mlx5_0")))
    read(plugin)
    slow = {f"{FOLDER}/mlx5_0/ports/1/rate": "200 Gb/sec (4X HDR)\n"}
    batch = again(plugin, 1.0, files=slow)
    assert values(batch, fabric.PORT_RATE) == {("mlx5_0/1",): 25e9}
    assert values(batch, fabric.PORT_RATE_EXPECTED) == {("mlx5_0/1",): 50e9}
    batch = read(Infiniband(root=tmp_path, expected_rate=800))
    assert values(batch, fabric.PORT_RATE_EXPECTED) == {("mlx5_0/1",): 100e9}


class TestRefusal:
    def test_counters_that_the_driver_refuses_are_left_alone_for_an_hour(self, tmp_path, driver):
        files = {"counters__symbol_error": "1\n", "counters__link_downed": "1\n"}
        plant(tmp_path, device("mlx5_0", **files) | device("mlx5_1", **files))
        plugin = Infiniband(root=tmp_path)
        driver.refused = ("mlx5_0/ports/1/counters/",)
        batch = read(plugin)
        assert driver.count("mlx5_0/ports/1/counters/") == 1, "one try, not one for each counter"
        assert batch.errors == []
        assert {port for port, _ in values(batch, fabric.PORT_ERRORS)} == {"mlx5_1/1"}
        assert ("mlx5_0/1",) in values(batch, fabric.PORT_RATE)
        (event,) = batch.events
        assert (event.name, event.entity) == ("port.refused", Kind.PORT("node1", "mlx5_0/1"))
        assert again(plugin, 3599.0).events == []
        assert driver.count("mlx5_0/ports/1/counters/") == 0
        assert again(plugin, 3600.0).events == []
        assert driver.count("mlx5_0/ports/1/counters/") == 1
        driver.refused = ()
        batch = again(plugin, 7200.0)
        assert values(batch, fabric.PORT_ERRORS)["mlx5_0/1", "symbol_error"] == 1

    def test_a_refused_rate_spares_the_counters_too(self, tmp_path, driver):
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__symbol_error="1\n", hw_counters__out_of_buffer="1\n", lid="0x1\n")))  # fmt: skip
        driver.refused = ("/rate",)
        batch = read(plugin)
        assert driver.count("counters/") == driver.count("/lid") == 0
        assert active(batch, fabric.PORT_STATE) == {("mlx5_0/1",): "active"}
        assert values(batch, fabric.PORT_RATE_EXPECTED) == {}

    def test_a_function_that_refuses_all_costs_two_tries_an_hour(self, tmp_path, driver):
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__symbol_error="1\n")))
        driver.refused = ("/rate", "state", "/counters/", "/lid")
        read(plugin)
        driver.read.clear()
        for at in range(1, 3600, 5):
            assert again(plugin, float(at)).errors == []
        assert driver.read == []
        again(plugin, 3600.0)
        assert len(driver.read) == 2

    def test_what_is_excluded_is_not_touched(self, tmp_path, driver, monkeypatch):
        plant(tmp_path, device("mlx5_0") | device("mlx5_1") | device("mlx5_2") | device("efa_0"))
        batch = read(Infiniband(root=tmp_path, include=["mlx5_[01]"], exclude=["*_1"]))
        assert values(batch, fabric.PORT_RATE) == {("mlx5_0/1",): 50e9}
        assert driver.count("mlx5_0") > 0
        read(Infiniband(root=tmp_path, include=["mlx5_[01]"], exclude=["*_1"]))
        assert not [path for path in driver.read if "mlx5_0" not in path]

    def test_a_port_without_counters_says_so(self, tmp_path):
        """`N/A (no PMA)` stands where firmware does not answer the kernel's question."""
        files = {"counters__symbol_error": "N/A (no PMA)\n", "hw_counters__out_of_buffer": "7\n"}
        batch = read(Infiniband(root=plant(tmp_path, device("i40iw0", **files))))
        assert batch.errors == []
        assert (
            values(batch, fabric.PORT_ERRORS) == values(batch, fabric.PORT_ERRORS_SATURATED) == {}
        )
        assert values(batch, fabric.PORT_RDMA_ERRORS) == {("i40iw0/1", "out_of_buffer"): 7}

    def test_what_portcounters_refuse_hw_counters_may_have(self, tmp_path, driver):
        files = {"counters__port_xmit_data": "10\n", "hw_counters__tx_bytes": "30\n"}
        plugin = Infiniband(root=plant(tmp_path, device("bnxt_re0", **files)))
        io = ("bnxt_re0/1", "transmit")
        assert values(read(plugin), fabric.PORT_IO) == {io: 40}
        driver.refused = ("/counters/",)
        again(plugin, 5.0)
        assert values(again(plugin, 10.0), fabric.PORT_IO) == {io: 30}
        driver.refused = ()
        assert values(again(plugin, 4000.0), fabric.PORT_IO) == {io: 40}

    def test_totals_outlast_a_refusal(self, tmp_path, driver):
        name = f"{FOLDER}/mlx5_0/ports/1/counters/symbol_error"
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0") | {name: "9\n"}))
        read(plugin)
        again(plugin, 5.0, {name: "2\n"})
        driver.refused = ("/counters/",)
        again(plugin, 10.0)
        driver.refused = ()
        batch = again(plugin, 4000.0, {name: "3\n"})
        assert values(batch, fabric.PORT_ERRORS) == {("mlx5_0/1", "symbol_error"): 12}


def test_one_bad_device_does_not_harm_the_others(tmp_path):
    plant(tmp_path, device("mlx5_0", counters__symbol_error="many\n", counters__link_downed="1\n"))
    plant(
        tmp_path, device("mlx5_1", rate="fast\n") | device("mlx5_2", counters__symbol_error="2\n")
    )
    (tmp_path / f"{FOLDER}/mlx5_3/ports/1/state").mkdir(parents=True)
    batch = read(Infiniband(root=tmp_path))
    assert {entity.key[1] for entity, _ in batch.errors if entity} == {
        "mlx5_0/1",
        "mlx5_1/1",
        "mlx5_3/1",
    }
    assert values(batch, fabric.PORT_ERRORS)["mlx5_2/1", "symbol_error"] == 2
    assert ("mlx5_0/1",) in values(batch, fabric.PORT_RATE)


def test_a_link_that_goes_down_shows_though_its_counters_fail(tmp_path):
    plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__link_downed="1\n")))
    read(plugin)
    port = f"{FOLDER}/mlx5_0/ports/1"
    batch = again(
        plugin, 5.0, {f"{port}/counters/link_downed": "?\n", f"{port}/state": "1: DOWN\n"}
    )
    assert [event.name for event in batch.events] == ["port.down"]
    assert active(batch, fabric.PORT_STATE) == {("mlx5_0/1",): "down"}
    assert "link_downed" in str(batch.errors[0][1])


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("1: DOWN", "down"),
        ("4: ACTIVE\n", "active"),
        ("5: ACTIVE_DEFER\n", "active_defer"),
        ("4: DOWN\n", None),
        ("9: <unknown>\n", None),
        ("ACTIVE\n", None),
        ("", None),
    ],
)
def test_a_state_whose_number_and_word_disagree_is_unknown(tmp_path, state, word):
    batch = read(Infiniband(root=plant(tmp_path, device("mlx5_0", state=state))))
    assert list(active(batch, fabric.PORT_STATE).values()) == ([word] if word else [])
    assert len(values(batch, fabric.PORT_STATE)) == (6 if word else 0)


def test_efa_has_no_state_for_its_driver_makes_it_up(tmp_path):
    files = device("rdmap1", hw_counters__tx_bytes="100\n", hw_counters__rx_pkts="3\n")
    files |= {
        "sys/bus/pci/drivers/efa/uevent": "",
        f"{FOLDER}/rdmap1/device/driver": "-> ../../../../bus/pci/drivers/efa",
    }
    batch = read(Infiniband(root=plant(tmp_path, files)))
    assert batch.errors == []
    for metric in (fabric.PORT_STATE, fabric.PORT_PHYS_STATE, fabric.PORT_RATE, fabric.PORT_FLAPS):
        assert values(batch, metric) == {}
    assert values(batch, fabric.PORT_IO) == {("rdmap1/1", "transmit"): 100}
    assert values(batch, fabric.PORT_PACKETS) == {("rdmap1/1", "receive"): 3}
    ((_, driver, *_),) = values(batch, fabric.PORT_INFO)
    assert driver == "efa"


def test_drivers_share_one_vocabulary(tmp_path):
    plant(
        tmp_path, device("mlx5_0", hw_counters__np_cnp_sent="1", hw_counters__out_of_sequence="2")
    )
    plant(
        tmp_path, device("bnxt_re0", hw_counters__tx_cnp_pkts="3", hw_counters__oos_drop_count="4")
    )
    plant(tmp_path, device("irdma0", hw_counters__cnpSent="5"))
    batch = read(Infiniband(root=tmp_path))
    assert values(batch, fabric.PORT_CONGESTION_PACKETS) == {
        ("mlx5_0/1", "cnp_sent"): 1,
        ("bnxt_re0/1", "cnp_sent"): 3,
        ("irdma0/1", "cnp_sent"): 5,
    }
    assert values(batch, fabric.PORT_RDMA_ERRORS) == {
        ("mlx5_0/1", "out_of_sequence"): 2,
        ("bnxt_re0/1", "out_of_sequence"): 4,
    }


def test_roce_is_linked_to_its_interface_and_infiniband_is_not(tmp_path):
    files = device("mlx5_0", link_layer="Ethernet\n\n", gid_attrs__ndevs="")
    del files[f"{FOLDER}/mlx5_0/ports/1/gid_attrs/ndevs"]
    files[f"{FOLDER}/mlx5_0/ports/1/gid_attrs/ndevs/0"] = "eth4\n"
    files |= device("mlx5_1") | {f"{FOLDER}/mlx5_1/device/net/ibs1/mtu": ""}
    files |= device("bnxt_re0", link_layer="Ethernet\n") | {
        f"{FOLDER}/bnxt_re0/device/net/eth5/mtu": ""
    }
    batch = read(Infiniband(root=plant(tmp_path, files)))
    info = {key[0]: (key[6], key[8]) for key in values(batch, fabric.PORT_INFO)}
    assert info == {
        "mlx5_0/1": ("Ethernet", "eth4"),
        "mlx5_1/1": ("InfiniBand", "ibs1"),
        "bnxt_re0/1": ("Ethernet", "eth5"),
    }
    ports = {name: Kind.PORT("node1", f"{name}/1") for name in ("mlx5_0", "mlx5_1", "bnxt_re0")}
    assert set(batch.links) == {
        *(Link(port, HOST, 1.0) for port in ports.values()),
        Link(ports["mlx5_0"], Kind.INTERFACE("node1", "eth4"), 1.0),
        Link(ports["bnxt_re0"], Kind.INTERFACE("node1", "eth5"), 1.0),
    }


class TestFlaps:
    PORT = f"{FOLDER}/mlx5_0/ports/1"

    def test_down_and_up_are_events_and_are_counted(self, tmp_path):
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__link_downed="7\n", lid="0x1\n")))  # fmt: skip
        batch = read(plugin)
        assert (batch.events, values(batch, fabric.PORT_FLAPS)) == ([], {("mlx5_0/1",): 0})
        down = {f"{self.PORT}/state": "1: DOWN\n", f"{self.PORT}/phys_state": "2: Polling\n", f"{self.PORT}/counters/link_downed": "8\n"}  # fmt: skip
        batch = again(plugin, 5.0, files=down)
        (event,) = batch.events
        assert (event.name, event.severity, event.at) == ("port.down", Severity.ERROR, 5.0)
        assert dict(event.attributes) == {"state": "down", "phys_state": "polling"}
        assert values(batch, fabric.PORT_FLAPS) == {("mlx5_0/1",): 1}
        up = {f"{self.PORT}/state": "4: ACTIVE\n", f"{self.PORT}/phys_state": "5: LinkUp\n", f"{self.PORT}/lid": "0x2\n"}  # fmt: skip
        batch = again(plugin, 10.0, files=up)
        assert [event.name for event in batch.events] == ["port.up"]
        assert values(batch, fabric.PORT_FLAPS) == {("mlx5_0/1",): 1}
        ((*_, lid, _),) = values(batch, fabric.PORT_INFO)
        assert lid == "0x2", "a new LID is known when the port is up again"

    def test_a_flap_between_two_polls_is_told_by_the_counter(self, tmp_path):
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__link_downed="7\n")))
        read(plugin)
        batch = again(plugin, 5.0, files={f"{self.PORT}/counters/link_downed": "9\n"})
        assert [event.name for event in batch.events] == ["port.flap"]
        assert values(batch, fabric.PORT_FLAPS) == {("mlx5_0/1",): 2}

    def test_a_saturated_counter_hides_no_flap(self, tmp_path):
        plugin = Infiniband(root=plant(tmp_path, device("mlx5_0", counters__link_downed="255\n")))
        batch = read(plugin)
        assert values(batch, fabric.PORT_ERRORS_SATURATED) == {("mlx5_0/1", "link_downed"): 1}
        for flap in range(1, 4):
            again(plugin, flap * 10.0, files={f"{self.PORT}/state": "1: DOWN\n"})
            batch = again(plugin, flap * 10.0 + 5, files={f"{self.PORT}/state": "4: ACTIVE\n"})
            assert values(batch, fabric.PORT_FLAPS) == {("mlx5_0/1",): flap}
            assert values(batch, fabric.PORT_ERRORS) == {("mlx5_0/1", "link_downed"): 255}

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=30),
        st.integers(0, 260),
    )
    def test_every_fall_is_counted_once(self, steps, before):
        """Each step: falls between two polls, whether it is down at the poll, counter is late."""
        flaps, falls, up, behind = Flaps(), 0, True, 0
        flaps.update(True, before)
        for times, down, late in steps:
            if not up:
                times, down, late = 0, False, False  # what is down comes up before it falls again
            if down and times == 0:
                times = 1
            falls += times
            behind = 1 if late and down and times else 0  # a fall that is seen before it is counted
            up = not down
            flaps.update(up, before + falls - behind)
        flaps.update(up, before + falls)
        assert flaps.total == falls

    @given(st.lists(st.booleans(), max_size=30))
    def test_without_a_counter_the_state_tells(self, ups):
        flaps, states = Flaps(), [True, *ups]
        for up in states:
            flaps.update(up, None)
        pairs = pairwise(states)
        assert flaps.total == sum(before and not after for before, after in pairs)


class TestCounters:
    @given(
        width=st.sampled_from(
            [
                ("link_downed", 8),
                ("symbol_error", 16),
                ("local_link_integrity_errors", 4),
                ("port_xmit_wait", 32),
            ]
        ),
        counts=st.lists(st.integers(0, 2**32), min_size=1, max_size=8),
    )
    def test_a_counter_is_flagged_at_its_maximum_only(self, tmp_path_factory, width, counts):
        name, bits = width
        root, true = tmp_path_factory.mktemp("ib"), 0
        plugin = Infiniband(root=plant(root, device("mlx5_0")))
        for at, count in enumerate(counts):
            true += count
            raw = min(true, 2**bits - 1)  # it stops, and does not wrap
            plant(root, {f"{FOLDER}/mlx5_0/ports/1/counters/{name}": f"{raw}\n"})
            batch = again(plugin, float(at)) if at else read(plugin)
            flag = values(batch, fabric.PORT_ERRORS_SATURATED)["mlx5_0/1", name]
            assert flag == (true >= 2**bits - 1)
        plugin.close()

    @given(raws=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
    def test_a_total_never_falls_and_goes_on_after_a_reset(self, tmp_path_factory, raws):
        root, last, expected = tmp_path_factory.mktemp("ib"), 0, 0
        plugin = Infiniband(
            root=plant(root, device("mlx5_0", counters__unicast_xmit_packets="0\n"))
        )
        for at, raw in enumerate(raws):
            expected += raw - last if raw >= last else raw
            last = raw
            plant(root, {f"{FOLDER}/mlx5_0/ports/1/counters/port_rcv_data": f"{raw}\n"})
            batch = again(plugin, float(at)) if at else read(plugin)
            assert values(batch, fabric.PORT_IO) == {("mlx5_0/1", "receive"): 4 * expected}
        plugin.close()

    def test_data_of_32_bits_stops_on_old_hcas_and_is_flagged(self, tmp_path):
        old = read(Infiniband(root=plant(tmp_path / "a", device("mlx4_0", counters__port_xmit_data="4294967295\n"))))  # fmt: skip
        assert values(old, fabric.PORT_ERRORS_SATURATED) == {("mlx4_0/1", "port_xmit_data"): 1}
        new = device("mlx5_0", counters__port_xmit_data="4294967295\n", counters__unicast_xmit_packets="1\n")  # fmt: skip
        batch = read(Infiniband(root=plant(tmp_path / "b", new)))
        assert values(batch, fabric.PORT_ERRORS_SATURATED) == {}

    def test_the_count_of_64_bits_goes_on_where_that_of_32_stopped(self, tmp_path):
        files = {"counters__port_rcv_data": "4294967295\n", "counters_ext__port_rcv_data_64": "9000000000\n"}  # fmt: skip
        batch = read(Infiniband(root=plant(tmp_path, device("mlx4_0", **files))))
        assert values(batch, fabric.PORT_IO) == {("mlx4_0/1", "receive"): 36_000_000_000}


def test_a_device_that_leaves_and_comes_back_is_no_error(tmp_path):
    plant(tmp_path, device("mlx5_0", counters__symbol_error="1\n") | device("mlx5_1"))
    plugin = Infiniband(root=tmp_path)
    read(plugin)
    (tmp_path / f"{FOLDER}/mlx5_0").rename(tmp_path / "away")
    batch = again(plugin, 5.0)
    assert batch.errors == []
    ((name, entity, at, severity, text, _),) = batch.events
    assert (name, entity.key[1], at, severity) == ("port.lost", "mlx5_0/1", 5.0, Severity.ERROR)
    assert text == "mlx5_0/1 is no longer among the ports that the kernel lists"
    assert set(values(batch, fabric.PORT_RATE)) == {("mlx5_1/1",)}
    (tmp_path / "away").rename(tmp_path / f"{FOLDER}/mlx5_0")
    batch = again(plugin, 10.0)
    assert set(values(batch, fabric.PORT_RATE)) == {("mlx5_0/1",), ("mlx5_1/1",)}


def test_no_device_is_a_failure_that_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match="load an RDMA driver"):
        read(Infiniband(root=tmp_path))
    plant(tmp_path, device("mlx5_0"))
    with pytest.raises(FileNotFoundError, match="include and exclude"):
        read(Infiniband(root=tmp_path, exclude=["*"]))


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    files = device("mlx5_0", counters__symbol_error="1\n", hw_counters__out_of_buffer="2\n")
    files[f"{FOLDER}/mlx5_0"] = "-> ../../devices/pci/mlx5_0"
    files = {key.replace(f"{FOLDER}/mlx5_0/", "sys/devices/pci/mlx5_0/"): content for key, content in files.items()}  # fmt: skip
    source = Infiniband(root=plant(tmp_path / "source", files))
    source.record(tmp_path / "case")
    copy = read(Infiniband(root=tmp_path / "case/input/root"))
    original = read(Infiniband(root=tmp_path / "source"))
    assert (copy.keys, copy.values) == (original.keys, original.values)
    assert values(copy, fabric.PORT_RDMA_ERRORS) == {("mlx5_0/1", "out_of_buffer"): 2}
