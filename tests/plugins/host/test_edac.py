import pytest

from collector.catalog import host
from plugins.host.edac import Edac
from tests.fakes.tree import node_exporter, node_exporter_says, plant, read, values


def test_agrees_with_node_exporter(tmp_path):
    """Not published here: counts by row and of unknown row; by channel see test_dimm.py."""
    batch = read(Edac(root=node_exporter(tmp_path, "sys/devices/system/edac")))
    corrected = node_exporter_says(r'node_edac_correctable_errors_total\{controller="0"\}')
    uncorrected = node_exporter_says(r'node_edac_uncorrectable_errors_total\{controller="0"\}')
    assert values(batch, host.MEMORY_ERRORS) == {
        ("mc0", "corrected"): corrected[()],
        ("mc0", "uncorrected"): uncorrected[()],
    }
    assert uncorrected[()] == 5


def test_a_count_that_is_not_there_is_absent(tmp_path):
    plant(tmp_path, {"sys/devices/system/edac/mc/mc1/ce_count": "3\n"})
    batch = read(Edac(root=tmp_path))
    assert values(batch, host.MEMORY_ERRORS) == {("mc1", "corrected"): 3}


def test_no_controller_is_a_failure_that_names_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match="load an EDAC driver"):
        read(Edac(root=plant(tmp_path, {"sys/devices/system/edac/mc/uevent": ""})))


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    plant(tmp_path / "source", {"sys/devices/system/edac/mc/mc0/ue_count": "2\n"})
    Edac(root=tmp_path / "source").record(tmp_path / "case")
    batch = read(Edac(root=tmp_path / "case/input/root"))
    assert values(batch, host.MEMORY_ERRORS) == {("mc0", "uncorrected"): 2}
