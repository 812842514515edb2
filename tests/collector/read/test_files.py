import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.read.files import Files, field
from tests.fakes.tree import as_nobody, plant, public_folder


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_reads_what_is_there_now(tmp_path):
    files = Files(plant(tmp_path, {"a/b": "1\n"}))
    assert files.number("a/b") == 1
    plant(tmp_path, {"a/b": "-23"})
    assert files.number("a/b") == -23
    files.close()


def test_keeps_one_descriptor_per_file_and_closes_it(tmp_path):
    files = Files(plant(tmp_path, {str(n): "1" for n in range(20)}))
    before = descriptors()
    for _ in range(3):
        for n in range(20):
            files.read(str(n))
    assert descriptors() == before + 20
    files.close()
    assert descriptors() == before
    assert files.number("3") == 1
    files.close()


def test_descriptors_are_bounded(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * before + 20, hard))
    try:
        files = Files(plant(tmp_path, {str(n): str(n) for n in range(200)}))
        for _ in range(2):
            assert [files.number(str(n)) for n in range(200)] == list(range(200))
        assert descriptors() <= before + 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files.close()
    assert descriptors() == before


def test_absent_is_none_and_can_come(tmp_path):
    files = Files(tmp_path)
    assert files.read("a") is None
    assert files.number("a/b") is None
    assert files.text("a") == ""
    assert files.names("a") == []
    assert files.resolve("a") is None
    plant(tmp_path, {"a": "7"})
    assert files.number("a") == 7
    files.close()


def test_long_files_are_read_to_their_end(tmp_path):
    text = "".join(f"cpu{n} {n}\n" for n in range(20_000))
    files = Files(plant(tmp_path, {"stat": text}))
    assert files.read("stat") == text.encode()
    plant(tmp_path, {"stat": "short"})
    assert files.read("stat") == b"short"
    files.close()


def test_kernel_files_longer_than_a_page_are_read_to_their_end():
    # A file of many records, which the kernel hands out a page at a time.
    # Neighbours that may not be joined: pages with other rights than the ones beside them.
    program = (
        "import mmap\n"
        "kept = [mmap.mmap(-1, 4096, prot=1 + 2 * (i % 2)) for i in range(400)]\n"
        "print(flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        path = f"proc/{child.pid}/maps"
        files = Files(Path("/"))
        text = files.read(path)
        again = files.read(path)
        whole = Path("/", path).read_bytes()
        files.close()
        child.communicate(b"\n")
    assert len(whole) > 2 * 4096
    assert text == again == whole


def test_a_process_that_ends_is_absent_and_its_descriptor_is_closed():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        files = Files(Path("/"))
        assert files.changed("proc/self")
        path = f"proc/{child.pid}/stat"
        assert files.read(path)
        before = descriptors()
    assert files.read(path) is None  # ESRCH from the descriptor that was kept
    assert descriptors() < before
    assert files.changed("proc/self"), "what vanished must be looked for anew"
    files.close()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENODATA, errno.EINVAL, errno.EOPNOTSUPP])
def test_no_value_now_is_absent_and_asked_for_again(tmp_path, monkeypatch, number):
    # No file that a test may make answers so.
    files = Files(plant(tmp_path, {"a": "1"}))
    assert files.number("a") == 1
    with monkeypatch.context() as patch:
        patch.setattr("collector.read.files.pread", fails(number))
        assert files.number("a") is None
    assert files.number("a") == 1
    assert files.changed("")
    assert not files.changed("")
    files.close()


def test_another_error_names_the_file(tmp_path, monkeypatch):
    files = Files(plant(tmp_path, {"a": "1"}))
    monkeypatch.setattr("collector.read.files.pread", fails(errno.EIO))
    with pytest.raises(OSError, match=rf"Input/output error: '{tmp_path}/a'"):
        files.read("a")
    files.close()


def test_a_real_error_of_the_kernel_names_the_file(tmp_path):
    (tmp_path / "a").mkdir()
    files = Files(tmp_path)
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}/a"):
        files.read("a")
    assert files.text("a") == ""
    files.close()


def test_forbidden_says_what_is_missing():
    with public_folder() as root:
        files = Files(plant(root, {"energy_uj": "1"}))
        (root / "energy_uj").chmod(0)
        with as_nobody():
            with pytest.raises(PermissionError, match=r"mode 0000.*CAP_DAC_READ_SEARCH") as caught:
                files.read("energy_uj")
            assert files.text("energy_uj") == ""
        assert caught.value.filename == f"{root}/energy_uj"


def test_a_file_that_holds_no_number_is_an_error(tmp_path):
    files = Files(plant(tmp_path, {"a": "N/A (no PMA)\n", "b": ""}))
    for name in "ab":
        with pytest.raises(ValueError, match=f"{tmp_path}/{name} holds no number"):
            files.number(name)
    files.close()


def test_text_is_not_kept_open_and_may_be_broken(tmp_path):
    files = Files(tmp_path)
    (tmp_path / "label").write_bytes(b"Core \xff 0\0\n")
    before = descriptors()
    assert files.text("label") == "Core \ufffd 0"
    assert descriptors() == before


def test_names_are_in_the_order_of_their_numbers(tmp_path):
    plant(tmp_path, {f"hwmon{n}/name": "x" for n in (10, 2, 0, 1)})
    assert Files(tmp_path).names("") == ["hwmon0", "hwmon1", "hwmon2", "hwmon10"]


def test_changed_when_names_change(tmp_path):
    files = Files(plant(tmp_path, {"a/0/x": "1"}))
    assert files.changed("a")
    assert not files.changed("a")
    plant(tmp_path, {"a/1/x": "1"})
    assert files.changed("a")
    assert not files.changed("a")


def test_save_copies_what_was_read_and_the_links_on_the_way(tmp_path):
    root = plant(
        tmp_path / "root",
        {
            "sys/devices/pci0/nvme/nvme0/hwmon3/temp1_input": "41850\n",
            "sys/devices/pci0/nvme/nvme0/hwmon3/other": "1\n",
            "sys/devices/pci0/nvme/nvme0/hwmon3/device": "-> ../../nvme0",
            "sys/class/hwmon/hwmon3": "-> ../../devices/pci0/nvme/nvme0/hwmon3",
        },
    )
    files = Files(root)
    device = files.resolve("sys/class/hwmon/hwmon3/device")
    assert device == "sys/devices/pci0/nvme/nvme0"
    assert files.number("sys/class/hwmon/hwmon3/temp1_input") == 41850
    assert files.number("sys/class/hwmon/hwmon3/temp2_input") is None
    files.save(tmp_path / "copy")
    files.save(tmp_path / "copy")
    files.close()
    copy = Files(tmp_path / "copy")
    assert copy.resolve("sys/class/hwmon/hwmon3/device") == device
    assert copy.number("sys/class/hwmon/hwmon3/temp1_input") == 41850
    copy.close()
    found = {p.name for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    assert found == {"temp1_input"}
    assert not any(str(tmp_path) in os.readlink(p) for p in tmp_path.rglob("*") if p.is_symlink())


def test_field_takes_whole_names_at_the_start_of_a_line():
    text = b"MemTotal:  10 kB\nActive(file): 3 kB\nFree: 4 kB\nSwapFree: 5"
    assert field(text, b"MemTotal:") == 10
    assert field(text, b"Free:") == 4
    assert field(text, b"SwapFree:") == 5  # no newline at the end
    assert field(text, b"Total:") is None
    with pytest.raises(ValueError, match="field Free: holds no number"):
        field(b"Free:\nSwapFree: 5", b"Free:")


@given(st.dictionaries(st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True), st.integers(0, 2**64)))
def test_field_finds_each_of_many(fields):
    text = "\n".join(f"{name}: {number} kB" for name, number in fields.items()).encode()
    for name, number in fields.items():
        assert field(text, f"{name}:".encode()) == number


def fails(number):
    def pread(descriptor, size, offset):
        raise OSError(number, os.strerror(number))

    return pread
