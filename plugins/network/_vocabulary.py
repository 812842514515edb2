"""What the statistics of NIC drivers, and the kernel's standard ones, become.

In a name `{d}` stands for rx or tx and `{p}` for a priority; in the labels they stand for what was
found there. Names of a driver mean nothing for another driver: `rx_bytes` is of the queues here and
of the port there. What is not in its table has no metric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collector.catalog import network
from collector.metric import Metric
from plugins.network._netlink import CONTROL, FEC, MAC, PAUSE, PHY, RMON, Statistic

_DIRECTIONS = {"rx": "receive", "tx": "transmit"}
_PARTS = {"{d}": "(?P<d>rx|tx)", "{p}": "(?P<p>[0-7])", "{n}": r"(?P<n>\d{1,2})"}
_MICRO = 1e6  # durations of pauses are in µs: mlx5's counters.rst, bnxt's names
_PERCENT = 100.0

_Rows = Iterable[tuple[str, Metric, tuple[str, ...], float]]


class Meaning(NamedTuple):
    """A metric, its labels, and by what to divide."""

    metric: Metric
    labels: tuple[str, ...]
    divisor: float = 1.0


# Documentation/networking/device_drivers/ethernet/mellanox/mlx5/counters.rst
_MLX5: _Rows = (
    ("{d}_vport_rdma_unicast_bytes", network.RDMA_IO, ("{d}", "unicast"), 1),
    ("{d}_vport_rdma_multicast_bytes", network.RDMA_IO, ("{d}", "multicast"), 1),
    ("{d}_vport_rdma_unicast_packets", network.RDMA_PACKETS, ("{d}", "unicast"), 1),
    ("{d}_vport_rdma_multicast_packets", network.RDMA_PACKETS, ("{d}", "multicast"), 1),
    ("{d}_bytes_phy", network.PHY_IO, ("{d}",), 1),
    ("{d}_packets_phy", network.PHY_PACKETS, ("{d}",), 1),
    ("{d}_mac_control_phy", network.CONTROL_PACKETS, ("{d}",), 1),
    ("{d}_prio{p}_bytes", network.PRIORITY_IO, ("{d}", "{p}"), 1),
    ("{d}_prio{p}_packets", network.PRIORITY_PACKETS, ("{d}", "{p}"), 1),
    ("{d}_pause_ctrl_phy", network.PAUSE_PACKETS, ("{d}", ""), 1),
    ("{d}_prio{p}_pause", network.PAUSE_PACKETS, ("{d}", "{p}"), 1),
    ("{d}_global_pause_duration", network.PAUSE_TIME, ("{d}", ""), _MICRO),
    ("{d}_prio{p}_pause_duration", network.PAUSE_TIME, ("{d}", "{p}"), _MICRO),
    ("tx_pause_storm_warning_events", network.PAUSE_STORMS, ("warning",), 1),
    ("tx_pause_storm_error_events", network.PAUSE_STORMS, ("error",), 1),
    ("{d}_discards_phy", network.DISCARDS, ("{d}", "port", ""), 1),
    ("rx_prio{p}_discards", network.DISCARDS, ("receive", "port", "{p}"), 1),
    ("rx_prio{p}_buf_discard", network.DISCARDS, ("receive", "host_buffer", "{p}"), 1),
    ("rx_prio{p}_cong_discard", network.DISCARDS, ("receive", "host_congestion", "{p}"), 1),
    ("rx_out_of_buffer", network.DISCARDS, ("receive", "receive_queue", ""), 1),
    ("rx_steer_missed_packets", network.DISCARDS, ("receive", "no_flow", ""), 1),
    ("rx_if_down_packets", network.DISCARDS, ("receive", "interface_down", ""), 1),
    ("outbound_pci_buffer_overflow", network.DISCARDS, ("receive", "pci", ""), 1),
    ("rx_ecn_mark", network.ECN_MARKED, ("received", ""), 1),
    ("rx_prio{p}_marked", network.ECN_MARKED, ("host", "{p}"), 1),
    ("link_down_events_phy", network.LINK_DOWN_EVENTS, (), 1),
    ("rx_bits_phy", network.LINE_IO, (), 8),
    ("rx_corrected_bits_phy", network.FEC_BITS_CORRECTED, (), 1),
    ("rx_pcs_symbol_err_phy", network.PHY_ERRORS, ("symbol",), 1),
    ("rx_symbol_err_phy", network.PHY_ERRORS, ("symbol_during_carrier",), 1),
    ("rx_crc_errors_phy", network.PHY_ERRORS, ("crc",), 1),
    ("rx_err_lane_{n}_phy", network.PHY_ERRORS, ("lane_{n}",), 1),
    ("outbound_pci_stalled_rd", network.PCI_STALLED, ("read",), _PERCENT),
    ("outbound_pci_stalled_wr", network.PCI_STALLED, ("write",), _PERCENT),
    ("outbound_pci_stalled_rd_events", network.PCI_STALL_TIME, ("read",), 1),
    ("outbound_pci_stalled_wr_events", network.PCI_STALL_TIME, ("write",), 1),
    ("{d}_pci_signal_integrity", network.PCI_ERRORS, ("{d}_signal_integrity",), 1),
    ("module_high_temp", network.MODULE_EVENTS, ("high_temperature",), 1),
    ("module_unplug", network.MODULE_EVENTS, ("unplugged",), 1),
    ("module_bus_stuck", network.MODULE_EVENTS, ("bus_stuck",), 1),
    ("module_bad_shorted", network.MODULE_EVENTS, ("shorted",), 1),
)
# drivers/net/ethernet/broadcom/bnxt/bnxt_ethtool.c
_BNXT: _Rows = (
    ("{d}_bytes", network.PHY_IO, ("{d}",), 1),
    ("{d}_total_frames", network.PHY_PACKETS, ("{d}",), 1),
    ("{d}_bytes_pri{p}", network.PRIORITY_IO, ("{d}", "{p}"), 1),
    ("{d}_packets_pri{p}", network.PRIORITY_PACKETS, ("{d}", "{p}"), 1),
    ("{d}_pause_frames", network.PAUSE_PACKETS, ("{d}", ""), 1),
    ("{d}_pfc_ena_frames_pri{p}", network.PAUSE_PACKETS, ("{d}", "{p}"), 1),
    ("pfc_pri{p}_{d}_duration_us", network.PAUSE_TIME, ("{d}", "{p}"), _MICRO),
    ("{d}_stat_discard", network.DISCARDS, ("{d}", "port", ""), 1),
    ("link_down_events", network.LINK_DOWN_EVENTS, (), 1),
    ("rx_bits", network.LINE_IO, (), 8),
    ("rx_corrected_bits", network.FEC_BITS_CORRECTED, (), 1),
    ("rx_pcs_symbol_err", network.PHY_ERRORS, ("symbol",), 1),
    ("rx_fcs_err_frames", network.PHY_ERRORS, ("crc",), 1),
    ("pcie_pl_signal_integrity", network.PCI_ERRORS, ("physical_layer",), 1),
    ("pcie_dl_signal_integrity", network.PCI_ERRORS, ("data_link_layer",), 1),
    ("pcie_tl_signal_integrity", network.PCI_ERRORS, ("transaction_layer",), 1),
    ("pcie_link_integrity", network.PCI_ERRORS, ("link",), 1),
)
# drivers/net/ethernet/intel/ice/ice_ethtool.c; those in ".nic" are of the port
_ICE: _Rows = (
    ("{d}_bytes.nic", network.PHY_IO, ("{d}",), 1),
    ("link_xoff_{d}.nic", network.PAUSE_PACKETS, ("{d}", ""), 1),
    ("{d}_priority_{p}_xoff.nic", network.PAUSE_PACKETS, ("{d}", "{p}"), 1),
    ("rx_dropped.nic", network.DISCARDS, ("receive", "port", ""), 1),
    ("tx_dropped_link_down.nic", network.DISCARDS, ("transmit", "link_down", ""), 1),
    ("rx_crc_errors.nic", network.PHY_ERRORS, ("crc",), 1),
    ("mac_local_faults.nic", network.PHY_ERRORS, ("local_fault",), 1),
    ("mac_remote_faults.nic", network.PHY_ERRORS, ("remote_fault",), 1),
    ("tx_timeout.nic", network.TRANSMIT_TIMEOUTS, (), 1),
)
# drivers/net/ethernet/amazon/ena/ena_ethtool.c
_ENA: _Rows = (
    *(
        (f"{name}_allowance_exceeded", network.ALLOWANCE_EXCEEDED, (name,), 1)
        for name in ("bw_in", "bw_out", "pps", "conntrack", "linklocal")
    ),
    ("tx_timeout", network.TRANSMIT_TIMEOUTS, (), 1),
)
# drivers/net/ethernet/google/gve/gve_ethtool.c
_GVE: _Rows = (
    ("rx_desc_err_dropped_pkt", network.DISCARDS, ("receive", "descriptor", ""), 1),
    ("rx_buf_alloc_fail", network.DISCARDS, ("receive", "host_buffer", ""), 1),
    ("tx_timeouts", network.TRANSMIT_TIMEOUTS, (), 1),
)


def _compiled(rows: _Rows) -> list[tuple[re.Pattern[str], Meaning]]:
    found = []
    for name, metric, labels, divisor in rows:
        pattern = re.escape(name).replace(r"\{", "{").replace(r"\}", "}")
        for part, expression in _PARTS.items():
            pattern = pattern.replace(part, expression)
        found.append((re.compile(pattern), Meaning(metric, labels, divisor)))
    return found


_DRIVERS = {
    "mlx5_core": _compiled(_MLX5),
    "bnxt_en": _compiled(_BNXT),
    "ice": _compiled(_ICE),
    "ena": _compiled(_ENA),
    "gve": _compiled(_GVE),
}


def of_driver(driver: str, name: str) -> Meaning | None:
    """Say what a driver's statistic is; None where it has no metric."""
    for pattern, (metric, labels, divisor) in _DRIVERS.get(driver, ()):
        if match := pattern.fullmatch(name):
            found = {key: _DIRECTIONS.get(part, part) for key, part in match.groupdict().items()}
            return Meaning(metric, tuple(label.format(**found) for label in labels), divisor)
    return None


# include/uapi/linux/ethtool_netlink.h, ETHTOOL_A_STATS_*, by number; those of half duplex are left
# out.
_MAC = {
    4: "crc",
    5: "alignment",
    10: "transmit_internal",
    11: "carrier_sense",
    13: "receive_internal",
    19: "length_in_range",
    20: "length_out_of_range",
    21: "too_long",
}
_RMON = ("undersize", "oversize", "fragment", "jabber")
_STANDARD: Mapping[Statistic, Meaning] = {
    Statistic(PHY, 0): Meaning(network.PHY_ERRORS, ("symbol_during_carrier",)),
    Statistic(MAC, 0): Meaning(network.PHY_PACKETS, ("transmit",)),
    Statistic(MAC, 3): Meaning(network.PHY_PACKETS, ("receive",)),
    Statistic(MAC, 6): Meaning(network.PHY_IO, ("transmit",)),
    Statistic(MAC, 12): Meaning(network.PHY_IO, ("receive",)),
    **{Statistic(MAC, n): Meaning(network.PHY_ERRORS, (name,)) for n, name in _MAC.items()},
    Statistic(CONTROL, 0): Meaning(network.CONTROL_PACKETS, ("transmit",)),
    Statistic(CONTROL, 1): Meaning(network.CONTROL_PACKETS, ("receive",)),
    Statistic(CONTROL, 2): Meaning(network.PHY_ERRORS, ("control_opcode",)),
    **{Statistic(RMON, n): Meaning(network.PHY_ERRORS, (name,)) for n, name in enumerate(_RMON)},
    Statistic(PAUSE, 2): Meaning(network.PAUSE_PACKETS, ("transmit", "")),
    Statistic(PAUSE, 3): Meaning(network.PAUSE_PACKETS, ("receive", "")),
    Statistic(FEC, 2): Meaning(network.FEC_BLOCKS, ("corrected",)),
    Statistic(FEC, 3): Meaning(network.FEC_BLOCKS, ("uncorrectable",)),
    Statistic(FEC, 4): Meaning(network.FEC_BITS_CORRECTED, ()),
}


def of_kernel(statistic: Statistic) -> Meaning | None:
    """Say what a standard statistic is; None where it has no metric."""
    return _STANDARD.get(statistic)
