"""What the counters of an RDMA device's port are called, how wide they are, what they become.

A file's name is its key. Sources: Documentation/ABI/stable/sysfs-class-infiniband for meanings;
drivers/infiniband/core/sysfs.c (PORT_PMA_ATTR) for widths, which are those of InfiniBand's
PortCounters; the drivers' tables of statistics for `hw_counters`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from collector.batch import SeriesKey
from collector.catalog import fabric
from collector.entity import Entity
from collector.metric import Metric

# PortXmitData and PortRcvData count in units of four bytes.
_WORD = 4
_DIRECTIONS = {"xmit": "transmit", "rcv": "receive"}


class Count(NamedTuple):
    """What becomes of one file's number.

    Attributes:
        metric: The metric that it is.
        labels: Of that metric.
        scale: What one of the number's units is in the metric's unit.
        most: The number at which the counter stops; 0 where it has 64 bits.
        short: It has 64 bits where the HCA has counters by cast too, else 32.
    """

    metric: Metric
    labels: tuple[str, ...]
    scale: int = 1
    most: int = 0
    short: bool = False

    def key(self, entity: Entity) -> SeriesKey:
        """Name the series of a port."""
        return SeriesKey(self.metric, entity, self.labels)


_WIDTHS = {
    "symbol_error": 16,
    "link_error_recovery": 8,
    "link_downed": 8,
    "port_rcv_errors": 16,
    "port_rcv_remote_physical_errors": 16,
    "port_rcv_switch_relay_errors": 16,
    "port_xmit_discards": 16,
    "port_xmit_constraint_errors": 8,
    # The kernel's document spells this one port_rcv_contraint_errors; no file is called so.
    "port_rcv_constraint_errors": 8,
    "local_link_integrity_errors": 4,
    "excessive_buffer_overrun_errors": 4,
    "VL15_dropped": 16,
    "port_rcv_discards": 0,  # of an extension, wide
}


def _counters() -> Iterator[tuple[str, Count]]:
    for name, width in _WIDTHS.items():
        yield name, Count(fabric.PORT_ERRORS, (name,), most=(1 << width) - 1)
    yield "port_xmit_wait", Count(fabric.PORT_TRANSMIT_WAIT, (), most=(1 << 32) - 1)
    for word, direction in _DIRECTIONS.items():
        most = (1 << 32) - 1
        io = Count(fabric.PORT_IO, (direction,), _WORD, most, short=True)
        packets = Count(fabric.PORT_PACKETS, (direction,), 1, most, short=True)
        yield f"port_{word}_data", io
        yield f"port_{word}_packets", packets
        # counters_ext, up to Linux 4.4
        yield f"port_{word}_data_64", io._replace(most=0)
        yield f"port_{word}_packets_64", packets._replace(most=0)
        for cast in ("unicast", "multicast"):
            count = Count(fabric.PORT_CAST_PACKETS, (direction, cast))
            yield f"{cast}_{word}_packets", count
            yield f"port_{cast}_{word}_packets", count


COUNTERS = dict(_counters())

_MLX5 = """
    duplicate_request implied_nak_seq_err local_ack_timeout_err out_of_buffer out_of_sequence
    packet_seq_err req_cqe_error req_cqe_flush_error req_remote_access_errors
    req_remote_invalid_request resp_cqe_error resp_cqe_flush_error resp_local_length_error
    resp_remote_access_errors rnr_nak_retry_err roce_adp_retrans roce_adp_retrans_to
    roce_slow_restart roce_slow_restart_cnps roce_slow_restart_trans rx_icrc_encapsulated
"""
# bnxt_re/hw_counters.c, efa/efa_verbs.c, irdma/hw.c, mana/counters.c
_SYNONYMS = {
    "dup_req": "duplicate_request",
    "oos_drop_count": "out_of_sequence",
    "rnr_naks_rcvd": "rnr_nak_retry_err",
    "rx_out_of_buffer": "out_of_buffer",
    "seq_err_naks_rcvd": "packet_seq_err",
    "to_retransmits": "local_ack_timeout_err",
    "max_retry_exceeded": "retry_exceeded",
    "rx_roce_discards": "receive_discards",
    "tx_roce_discards": "transmit_discards",
    "rx_roce_errors": "receive_errors",
    "tx_roce_errors": "transmit_errors",
    "rx_drops": "receive_discards",
    "retrans_pkts": "retransmitted_packets",
    "retrans_timeout_events": "local_ack_timeout_err",
    "unresponsive_remote_events": "unresponsive_remote",
    "impaired_remote_conn_events": "impaired_remote",
    "rdma_read_wr_err": "read_errors",
    "rdma_write_wr_err": "write_errors",
    "RetransSegs": "retransmitted_packets",
    "requester_timeout": "local_ack_timeout_err",
    "requester_oos_nak": "packet_seq_err",
    "requester_rnr_nak": "rnr_nak_retry_err",
    "requester_implicit_nak": "implied_nak_seq_err",
    "responder_oos": "out_of_sequence",
    "responder_dup_request": "duplicate_request",
}
_CONGESTION = {
    "np_ecn_marked_roce_packets": "ecn_marked",
    "np_cnp_sent": "cnp_sent",
    "rp_cnp_handled": "cnp_handled",
    "rp_cnp_ignored": "cnp_ignored",
    "rx_ecn_marked_pkts": "ecn_marked",
    "tx_cnp_pkts": "cnp_sent",
    "rx_cnp_pkts": "cnp_handled",
    "RxECNMrkd": "ecn_marked",
    "cnpSent": "cnp_sent",
    "cnpHandled": "cnp_handled",
    "cnpIgnored": "cnp_ignored",
    "received_cnps": "cnp_handled",
}
_REQUESTS = {
    "rx_write_requests": "write",
    "rx_read_requests": "read",
    "rx_atomic_requests": "atomic",
    "rx_dct_connect": "connect",
    "rx_write_req": "write",
    "rx_read_req": "read",
    "rx_atomic_req": "atomic",
    "rx_send_req": "send",
}
# Drivers without PortCounters have these instead.
_TRAFFIC = {
    "tx_bytes": Count(fabric.PORT_IO, ("transmit",)),
    "rx_bytes": Count(fabric.PORT_IO, ("receive",)),
    "tx_pkts": Count(fabric.PORT_PACKETS, ("transmit",)),
    "rx_pkts": Count(fabric.PORT_PACKETS, ("receive",)),
}

# `lifespan` stands among these files and is how long the kernel keeps what it read, in ms.
HW_COUNTERS = {
    **{name: Count(fabric.PORT_RDMA_ERRORS, (name,)) for name in _MLX5.split()},
    **{name: Count(fabric.PORT_RDMA_ERRORS, (error,)) for name, error in _SYNONYMS.items()},
    **{name: Count(fabric.PORT_CONGESTION_PACKETS, (to,)) for name, to in _CONGESTION.items()},
    **{name: Count(fabric.PORT_RDMA_REQUESTS, (to,)) for name, to in _REQUESTS.items()},
    **_TRAFFIC,
}
