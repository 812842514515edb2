import errno
import shutil
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.network._driver import Table, names
from tests.fakes.ethtool import Kernel

VETH = """
from plugins.network._driver import Table
from plugins.network._netlink import Netlink
table = Table("w2t0")
values = table.read()
print(dict(zip(table.names, values))["peer_ifindex"], open("/sys/class/net/w2t1/ifindex").read())
print(Netlink().read("w2t0"))
"""


@given(st.binary(max_size=500))
def test_any_bytes_are_a_table_of_names(data):
    found = names(data)
    assert len(found) == len(data) // 32
    for name in found:
        assert name.isascii()
        assert "\0" not in name


@given(st.lists(st.text("abcdefghij_0123456789.[]: ", min_size=1, max_size=31).map(str.strip)))
def test_names_come_out_as_they_went_in(given_names):
    table = b"".join(name.encode().ljust(32, b"\0") for name in given_names)
    assert names(table) == given_names


def test_a_name_of_32_characters_and_one_of_no_ascii():
    assert names(b"x" * 32 + b"caf\xc3\xa9\xff\n".ljust(32, b"\0")) == [
        "x" * 32,
        r"caf\xc3\xa9\xff",
    ]


@pytest.fixture
def kernel(monkeypatch):
    table = {"rx_bytes": 2**64 - 2, "tx_bytes": 7}
    return Kernel({"driver": {"eth0": table, "lo": {}}}).install(monkeypatch)


def test_reads_names_and_numbers(kernel):
    table = Table("eth0")
    assert table.read() == [2**64 - 2, 7]
    assert table.names == ["rx_bytes", "tx_bytes"]
    table.close()


def test_names_follow_the_driver(kernel):
    """A queue more, or another order, must not give numbers under the wrong names."""
    table = Table("eth0")
    table.read()
    kernel.tables["driver"]["eth0"] = {"tx_bytes": 8, "rx_bytes": 1, "rx0_bytes": 1}
    assert dict(zip(table.read(), table.names, strict=False))[8] == "tx_bytes"
    assert len(table.names) == 3
    table.close()


def test_a_table_that_grows_while_it_is_read_is_an_error_and_stays_in_its_buffer(
    kernel, monkeypatch
):
    """The kernel writes as many as there are by now, not as many as were asked for."""
    before = kernel.ioctl

    def grow(descriptor, request, ifreq):
        answer = before(descriptor, request, ifreq)
        kernel.tables["driver"]["eth0"] |= {f"rx{n}_bytes": n for n in range(900)}
        return answer

    monkeypatch.setattr("plugins.network._driver.ioctl", grow)
    table = Table("eth0")
    with pytest.raises(OSError, match="while they were read"):
        table.read()
    assert len(table.read()) == len(table.names) == 902
    table.close()


def test_an_absurd_number_of_statistics_is_refused(kernel, monkeypatch):
    def claim(_, request, ifreq):
        import ctypes

        (address,) = struct.unpack_from("P", ifreq, 16)
        ctypes.memmove(address, struct.pack("=IIQI", 0x37, 0, 2, 2**31), 20)

    monkeypatch.setattr("plugins.network._driver.ioctl", claim)
    table = Table("eth0")
    with pytest.raises(ValueError, match="claims 2147483648"):
        table.read()
    table.close()


def test_a_driver_without_statistics_has_none(kernel):
    table = Table("lo")
    assert (table.read(), table.names) == ([], [])
    table.close()


def test_an_interface_that_is_gone_is_an_error(kernel):
    table = Table("eth9")
    with pytest.raises(OSError) as error:
        table.read()
    assert error.value.errno == errno.ENODEV
    table.close()


def test_live_loopback_has_none():
    table = Table("lo")
    assert table.read() == []
    table.close()


def test_live_veth():
    """In a network of its own, where this user may have one."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("ip or unshare is not installed")
    script = "mount -t sysfs sysfs /sys && ip link add w2t0 type veth peer name w2t1"
    inside = ["unshare", "-rnm", "sh", "-c", f'{script} && exec "$0" -c "$1"', sys.executable, VETH]
    done = subprocess.run(inside, capture_output=True, text=True)
    if done.returncode and "Traceback" not in done.stderr:
        pytest.skip(f"no network of one's own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    peer, index = first.split()
    assert peer == index
    assert second == "{}"
