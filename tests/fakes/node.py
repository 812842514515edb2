"""A GPU node as its daemon sees it: NVML, /sys, /proc, the kernel's log, and a config for all."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fakes import nvml, workload
from tests.fakes.tree import plant

HCA_COUNTERS = """
    excessive_buffer_overrun_errors link_downed link_error_recovery local_link_integrity_errors
    multicast_rcv_packets multicast_xmit_packets port_rcv_constraint_errors port_rcv_data
    port_rcv_errors port_rcv_packets port_rcv_remote_physical_errors port_rcv_switch_relay_errors
    port_xmit_constraint_errors port_xmit_data port_xmit_discards port_xmit_packets port_xmit_wait
    symbol_error unicast_rcv_packets unicast_xmit_packets VL15_dropped
"""
HW_COUNTERS = """
    duplicate_request implied_nak_seq_err lifespan local_ack_timeout_err np_cnp_sent
    np_ecn_marked_roce_packets out_of_buffer out_of_sequence packet_seq_err req_cqe_error
    req_cqe_flush_error req_remote_access_errors req_remote_invalid_request resp_cqe_error
    resp_cqe_flush_error resp_local_length_error resp_remote_access_errors rnr_nak_retry_err
    roce_adp_retrans roce_adp_retrans_to roce_slow_restart roce_slow_restart_cnps
    roce_slow_restart_trans rp_cnp_handled rp_cnp_ignored rx_atomic_requests rx_icrc_encapsulated
    rx_read_requests rx_write_requests
"""
LINKS = 18
_GPM = (1, 2, 3, 5, 10, 12, 13, 20, 21, 60, 61)  # NVML_GPM_METRIC_*
_LINK_FIELDS = {164: 26562, 165: 1, 138: 1 << 40, 139: 1 << 40, 161: 0, 162: 0, 163: 0}


class Node:
    """Eight H100 with their NVLinks, eight HCAs, interfaces, a kernel log, processes with GPUs.

    Args:
        folder: Where it is built.
        others: How many processes there are beside those with a GPU.
    """

    def __init__(self, folder: Path, others: int = 300) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.scenario = nvml.Scenario(folder / "scenario.conf")
        self.environment = os.environ | nvml.environment(
            nvml.build(folder / "nvml"), self.scenario.path
        )
        self.kmsg = self.root / "dev/kmsg"
        self._sequence = 0
        for slot in range(8):
            self.gpu(slot)
            self.hca(slot)
            self.interface(f"eth{slot}", slot)
            workload.process(self.root, 5000 + slot, opened=(slot,), mapped=(slot,))
        for pid in range(10_000, 10_000 + others):
            workload.process(self.root, pid, "sh")
        plant(
            self.root,
            {
                "dev/kmsg": "",
                "proc/uptime": "1000.00 1.00\n",
                "proc/net/fib_trie": "  |-- 127.0.0.1\n     /32 host LOCAL\n",
                "proc/sys/kernel/random/boot_id": "0d5ebc24-63f4-4d1c-b2a2-8c6ffb7be4d5\n",
            },
        )
        self.scenario.write()

    def gpu(self, slot: int) -> None:
        """Put a GPU with its links into a slot."""
        self.scenario.gpu(slot, bus_id=f"00000000:{0x10 + slot:02X}:00.0")
        self.scenario.draw(slot, 500)
        self.scenario.process(slot, 5000 + slot, 40 << 30, 90.0)
        self.scenario.set(f"gpu.{slot}.utilization.gpu", 99)
        self.scenario.set(f"gpu.{slot}.field.91", LINKS)
        for metric in _GPM:
            self.scenario.set(f"gpu.{slot}.gpm.{metric}", 12.5)
        for link in range(LINKS):
            scope = f".{link}" if link else ""
            for field, value in _LINK_FIELDS.items():
                self.scenario.set(f"gpu.{slot}.field.{field}{scope}", value)
        workload.gpu(self.root, slot, slot // 4, "0-63")
        information = f"proc/driver/nvidia/gpus/0000:{0x10 + slot:02x}:00.0/information"
        text = f"GPU UUID: \t {nvml.uuid(slot)}\nDevice Minor: \t {slot}\n"
        plant(self.root, {information: text})

    def hca(self, number: int, state: str = "4: ACTIVE", phys: str = "5: LinkUp") -> None:
        """Plant an HCA with one port of 400 Gb/s, or set the state of its link."""
        base = f"sys/class/infiniband/mlx5_{number}"
        port = f"{base}/ports/1"
        files = {
            f"{base}/fw_ver": "28.39.1002\n",
            f"{base}/board_id": "MT_0000000838\n",
            f"{base}/hca_type": "MT4129\n",
            f"{base}/node_guid": f"a088:c203:00d6:{number:04x}\n",
            f"{port}/state": f"{state}\n",
            f"{port}/phys_state": f"{phys}\n",
            f"{port}/rate": "400 Gb/sec (4X NDR)\n",
            f"{port}/link_layer": "InfiniBand\n",
            f"{port}/lid": f"0x{number:x}\n",
        }
        for kind, names in (("counters", HCA_COUNTERS), ("hw_counters", HW_COUNTERS)):
            files |= {f"{port}/{kind}/{name}": "7919\n" for name in names.split()}
        plant(self.root, files)

    def interface(self, name: str, number: int) -> None:
        """Plant a network interface."""
        device = f"sys/devices/pci0000:00/0000:a{number}:00.0"
        base = f"{device}/net/{name}"
        files = {f"{device}/uevent": "DRIVER=mlx5_core\n", f"{base}/operstate": "up\n"}
        files |= {f"{base}/speed": "200000\n", f"{base}/mtu": "9000\n", f"{base}/type": "1\n"}
        files |= {f"{base}/carrier_changes": "2\n", f"{base}/carrier": "1\n"}
        for side in ("rx", "tx"):
            for what in ("bytes", "packets", "errors", "dropped"):
                files[f"{base}/statistics/{side}_{what}"] = "1000\n"
        plant(self.root, files)
        link = self.root / "sys/class/net" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.root / base)
        (self.root / base / "device").symlink_to(self.root / device)

    def log(self, *texts: str, level: int = 4) -> None:
        """Let the kernel log lines."""
        with self.kmsg.open("a") as log:
            for text in texts:
                self._sequence += 1
                log.write(f"{level},{self._sequence},999000000,-;{text}\n")

    def config(self, address: str, more: str = "") -> Path:
        """Write the config of a daemon that reads all of it and listens there."""
        rooted = ("infiniband", "interfaces", "kmsg", "workloads")
        path = self.folder / "w2t.toml"
        path.write_text(
            f"[web]\nlisten_address = ['{address}']\n"
            + "".join(f"[plugins.{name}]\nroot = '{self.root}'\n" for name in rooted)
            + f"[evidence]\ndirectory = '{self.folder / 'evidence'}'\n"
            + more
        )
        return path
