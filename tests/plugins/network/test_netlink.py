import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.network._netlink import (
    CONTROL,
    FEC,
    MAC,
    NOT_SET,
    PAUSE,
    PHY,
    RMON,
    STATS,
    MalformedError,
    Netlink,
    Statistic,
    attribute,
    attributes,
    question,
    reply,
    request,
    statistics,
)
from tests.fakes.ethtool import Kernel

little = pytest.mark.skipif(
    struct.pack("=H", 1) != b"\1\0", reason="golden bytes are little-endian"
)


@little
def test_golden_request_for_the_family():
    name = attribute(2, b"ethtool\0")
    assert request(16, 3, 1, name).hex() == (
        "20000000" "1000" "0100" "01000000" "00000000"  # length, GENL_ID_CTRL, request, 1, port
        "03010000"  # CTRL_CMD_GETFAMILY, version 1
        "0c000200" "657468746f6f6c00"  # CTRL_ATTR_FAMILY_NAME
    )  # fmt: skip


@little
def test_golden_question_for_standard_statistics():
    assert question(STATS, "eth0").hex() == (
        "10000280" "09000200" "6574683000000000"  # ETHTOOL_A_STATS_HEADER with the name
        "18000380"  # ETHTOOL_A_STATS_GROUPS
        "04000100"  # ETHTOOL_A_BITSET_NOMASK
        "08000200" "04000000"  # ETHTOOL_A_BITSET_SIZE
        "08000400" "0f000000"  # ETHTOOL_A_BITSET_VALUE: four groups
    )  # fmt: skip


@little
def test_golden_question_for_pauses():
    assert question(PAUSE, "eth0").hex() == (
        "18000180" "09000200" "6574683000000000"  # ETHTOOL_A_PAUSE_HEADER with the name
        "08000300" "04000000"  # and ETHTOOL_FLAG_STATS
    )  # fmt: skip


@little
def test_golden_answer():
    data = bytes.fromhex(
        "34000480"  # ETHTOOL_A_STATS_GRP
        "08000200" "01000000"  # ID: eth-mac
        "08000300" "12000000"  # SS_ID
        "10000480" "0c000400" "2a00000000000000"  # frame check sequence errors: 42
        "10000480" "0c000500" "ffffffffffffffff"  # not set
    )  # fmt: skip
    assert list(statistics(STATS, data)) == [(Statistic(MAC, 4), 42)]


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=20))
def test_attributes_come_out_as_they_went_in(pairs):
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert list(attributes(data)) == pairs


@given(st.integers(1, 2**16 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary())
def test_a_message_comes_out_as_it_went_in(family, command, sequence, payload):
    if family == 2:
        family = 16
    message = request(family, command, sequence, payload)
    assert reply(message, sequence) == payload
    assert reply(message, sequence ^ 1) is None


@given(st.binary(max_size=400), st.sampled_from([STATS, PAUSE, FEC]))
def test_any_bytes_are_statistics_or_malformed(data, command):
    try:
        found = list(statistics(command, data))
    except MalformedError:
        return
    assert all(0 <= value < NOT_SET for _, value in found)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_any_bytes_are_an_answer_or_malformed_or_refused(data, sequence):
    try:
        answer = reply(data, sequence)
    except (MalformedError, OSError):
        return
    assert answer is None or answer in data


@given(cut=st.integers(0, 200), flip=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_damaged_answer_gives_no_statistic_that_is_not_one(cut, flip, bit):
    kernel = Kernel({"driver": {}, "standard": {"eth0": {"1.4": 42, "0.0": 7, "3.1": 9}}})
    message = kernel.answer(request(31, STATS, 5, question(STATS, "eth0")))
    damaged = bytearray(message[: len(message) - cut % len(message)])
    if damaged:
        damaged[flip % len(damaged)] ^= 1 << bit
    try:
        payload = reply(bytes(damaged), 5)
        found = list(statistics(STATS, payload)) if payload is not None else []
    except (MalformedError, OSError):
        return
    assert all(0 <= value < NOT_SET for _, value in found)


def test_a_refusal_is_an_error_with_its_number():
    message = struct.pack("=IHHIIi", 36, 2, 0, 9, 0, -errno.ENODEV) + bytes(16)
    with pytest.raises(OSError, match="No such device") as error:
        reply(message, 9)
    assert error.value.errno == errno.ENODEV


class TestNetlink:
    def test_reads_all_groups(self, monkeypatch):
        expected = {
            Statistic(PHY, 0): 1,
            Statistic(MAC, 12): 2**63,
            Statistic(CONTROL, 1): 3,
            Statistic(RMON, 3): 4,
            Statistic(PAUSE, 2): 5,
            Statistic(FEC, 3): 6,
        }
        said = {f"{one.group}.{one.number}": value for one, value in expected.items()}
        said["1.0"] = NOT_SET
        Kernel({"driver": {}, "standard": {"eth0": said}}).install(monkeypatch)
        assert Netlink().read("eth0") == expected

    def test_what_a_driver_lacks_is_not_asked_for_again(self, monkeypatch):
        tables = {"driver": {}, "standard": {"eth0": {"1.0": 1}}}
        kernel = Kernel(tables).install(monkeypatch)
        netlink = Netlink()
        assert netlink.read("eth0") == netlink.read("eth0") == {Statistic(MAC, 0): 1}
        assert [command for command, _ in kernel.asked] == [STATS, PAUSE, FEC, STATS]

    def test_an_interface_that_is_gone_is_an_error(self, monkeypatch):
        Kernel({"driver": {}, "standard": {}}).install(monkeypatch)
        with pytest.raises(OSError, match="No such device"):
            Netlink().read("eth0")


def test_live_loopback_has_no_standard_statistics():
    try:
        netlink = Netlink()
    except OSError as error:
        pytest.skip(f"no ethtool by netlink here: {error}")
    try:
        assert netlink.read("lo") == {}
        with pytest.raises(OSError) as gone:
            netlink.read("no-such-nic")
        assert gone.value.errno == errno.ENODEV
    finally:
        netlink.close()
