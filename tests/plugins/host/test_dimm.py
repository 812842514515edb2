import pytest

from collector.catalog import host
from plugins.host.dimm import Dimm
from tests.fakes.tree import node_exporter, node_exporter_says, plant, read, values

MC = "sys/devices/system/edac/mc/mc0"
DIMM = {
    f"{MC}/dimm3/dimm_ce_count": "7\n",
    f"{MC}/dimm3/dimm_ue_count": "0\n",
    f"{MC}/dimm3/dimm_label": "CPU_SrcID#0_MC#0_Chan#1_DIMM#0\n",
    f"{MC}/dimm3/dimm_location": "channel 1 slot 0 \n",
}


def test_agrees_with_node_exporter(tmp_path):
    """Its fixture has no counts of DIMMs; a row's own count is the sum of its channels or wrong."""
    batch = read(Dimm(root=node_exporter(tmp_path, "sys/devices/system/edac")))
    assert batch.errors == []
    found = values(batch, host.DIMM_ERRORS)
    compared = 0
    for word, severity in (("correctable", "corrected"), ("uncorrectable", "uncorrected")):
        says = node_exporter_says(
            rf'node_edac_channel_{word}_errors_total\{{channel="(\d)",controller="(\d)",'
            rf'csrow="(\d)",dimm_label="([^"]*)"\}}'
        )
        for (channel, controller, row, label), count in says.items():
            slot = (f"mc{controller}", f"csrow{row}/ch{channel}")
            assert found.pop((*slot, severity)) == count
            compared += 1
            (told,) = [key for key in values(batch, host.DIMM_INFO) if key[:2] == slot]
            assert told[2:] == (label.replace("_", ""), ""), "it tells labels with _ added"
    assert (compared, found) == (10, {})


def test_dimms_go_before_rows(tmp_path):
    plant(tmp_path, DIMM | {f"{MC}/csrow0/ch1_ce_count": "7\n", f"{MC}/ce_count": "9\n"})
    batch = read(Dimm(root=tmp_path))
    assert values(batch, host.DIMM_ERRORS) == {
        ("mc0", "dimm3", "corrected"): 7,
        ("mc0", "dimm3", "uncorrected"): 0,
    }
    assert set(values(batch, host.DIMM_INFO)) == {
        ("mc0", "dimm3", "CPU_SrcID#0_MC#0_Chan#1_DIMM#0", "channel 1 slot 0")
    }


def test_a_count_that_is_broken_is_a_failure_and_one_that_is_not_there_absent(tmp_path):
    plant(tmp_path, {f"{MC}/dimm0/dimm_ce_count": "x\n"} | DIMM)
    (tmp_path / MC / "dimm3/dimm_ue_count").unlink()
    batch = read(Dimm(root=tmp_path))
    assert values(batch, host.DIMM_ERRORS) == {("mc0", "dimm3", "corrected"): 7}
    assert len(batch.errors) == 1


def test_no_slots_are_a_failure(tmp_path):
    with pytest.raises(FileNotFoundError, match="load an EDAC driver"):
        read(Dimm(root=plant(tmp_path, {f"{MC}/ce_count": "1\n"})))


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    Dimm(root=plant(tmp_path / "source", DIMM)).record(tmp_path / "case")
    original, copy = (
        read(Dimm(root=tmp_path / "source")),
        read(Dimm(root=tmp_path / "case/input/root")),
    )
    assert (copy.keys, copy.values) == (original.keys, original.values)
