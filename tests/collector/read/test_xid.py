"""The catalogue of Xids."""

import json

import pytest

from collector.batch import Severity
from collector.read.xid import lookup
from tests.data import data


@pytest.mark.parametrize(
    ("xid", "name", "action", "severity"),
    [
        (31, "ROBUST_CHANNEL_FIFO_ERROR_MMU_ERR_FLT", "RESTART_APP", Severity.ERROR),
        (63, "INFOROM_DRAM_RETIREMENT_EVENT", "IGNORE", Severity.INFO),
        (79, "ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS", "RESTART_BM", Severity.FATAL),
        (119, "GSP_RPC_TIMEOUT", "RESET_GPU", Severity.FATAL),
        (45, "ROBUST_CHANNEL_PREEMPTIVE_REMOVAL", "WORKFLOW_XID_45", Severity.WARN),
        (92, "EXCESSIVE_SBE_INTERRUPTS", "IGNORE", Severity.WARN),
        (171, "UNCORRECTABLE_DRAM_ERROR", "", Severity.ERROR),
        (999, "", "", Severity.ERROR),
    ],
)
def test_an_xid_has_a_name_an_action_and_a_severity(xid, name, action, severity):
    assert lookup(xid) == (name, action, severity)


def test_the_catalogue_is_nvidias():
    entries = json.loads(data("nvml/xid_catalog.json").read_text())["entries"]
    assert len(entries) == 172
    for entry in entries:
        found = lookup(entry["xid"])
        assert entry["mnemonic"].startswith(found.name)
        assert found.name
        assert found.action == entry["immediate"]
