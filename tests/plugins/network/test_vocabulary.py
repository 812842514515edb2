import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.catalog import network
from plugins.network._netlink import FEC, MAC, PAUSE, Statistic
from plugins.network._vocabulary import _DRIVERS, _STANDARD, Meaning, of_driver, of_kernel


@pytest.mark.parametrize(
    ("driver", "name", "meaning"),
    [
        (
            "mlx5_core",
            "rx_vport_rdma_unicast_bytes",
            Meaning(network.RDMA_IO, ("receive", "unicast")),
        ),
        ("mlx5_core", "tx_prio3_pause", Meaning(network.PAUSE_PACKETS, ("transmit", "3"))),
        (
            "mlx5_core",
            "rx_prio0_pause_duration",
            Meaning(network.PAUSE_TIME, ("receive", "0"), 1e6),
        ),
        ("mlx5_core", "outbound_pci_stalled_wr", Meaning(network.PCI_STALLED, ("write",), 100)),
        ("mlx5_core", "rx_err_lane_3_phy", Meaning(network.PHY_ERRORS, ("lane_3",))),
        ("bnxt_en", "pfc_pri3_tx_duration_us", Meaning(network.PAUSE_TIME, ("transmit", "3"), 1e6)),
        ("bnxt_en", "rx_bytes", Meaning(network.PHY_IO, ("receive",))),
        ("ice", "rx_priority_7_xoff.nic", Meaning(network.PAUSE_PACKETS, ("receive", "7"))),
        ("ena", "pps_allowance_exceeded", Meaning(network.ALLOWANCE_EXCEEDED, ("pps",))),
        ("gve", "tx_timeouts", Meaning(network.TRANSMIT_TIMEOUTS, ())),
        # Names that are those of another driver, of a queue, or nearly one of ours.
        ("mlx5_core", "rx_bytes", None),
        ("mlx5_core", "rx3_ecn_mark", None),
        ("mlx5_core", "rx_prio8_bytes", None),
        ("ice", "rx_bytesXnic", None),
        ("bnxt_en", "[0]: rx_ucast_packets", None),
        ("igb", "rx_bytes_phy", None),
        ("", "rx_bytes_phy", None),
    ],
)
def test_names_of_drivers(driver, name, meaning):
    assert of_driver(driver, name) == meaning


def test_standard_statistics():
    assert of_kernel(Statistic(MAC, 12)) == Meaning(network.PHY_IO, ("receive",))
    assert of_kernel(Statistic(PAUSE, 2)) == Meaning(network.PAUSE_PACKETS, ("transmit", ""))
    assert of_kernel(Statistic(FEC, 3)) == Meaning(network.FEC_BLOCKS, ("uncorrectable",))
    assert of_kernel(Statistic(MAC, 99)) is None


def test_labels_fit_their_metrics():
    meanings = [meaning for rows in _DRIVERS.values() for _, meaning in rows]
    for meaning in [*meanings, *_STANDARD.values()]:
        assert len(meaning.labels) == len(meaning.metric.labels), meaning


def test_no_two_standard_statistics_are_one_series():
    series = [(meaning.metric, meaning.labels) for meaning in _STANDARD.values()]
    assert len(set(series)) == len(series)


@given(st.sampled_from(sorted(_DRIVERS)), st.text(max_size=40))
def test_any_name_has_a_meaning_or_none(driver, name):
    meaning = of_driver(driver, name)
    assert meaning is None or all("{" not in label for label in meaning.labels)
