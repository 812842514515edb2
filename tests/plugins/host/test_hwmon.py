import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link, SeriesKey
from collector.catalog import host, power
from collector.entity import Kind
from plugins.host.hwmon import Hwmon, _address
from tests.fakes.tree import HOST, node_exporter, node_exporter_says, plant, read, values

HWMON = "sys/class/hwmon"
CORETEMP = {
    f"{HWMON}/hwmon2": "-> ../../devices/platform/coretemp.0/hwmon/hwmon2",
    "sys/devices/platform/coretemp.0/hwmon/hwmon2/device": "-> ../../../coretemp.0",
    "sys/devices/platform/coretemp.0/hwmon/hwmon2/name": "coretemp\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon2/temp1_input": "55000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon2/temp1_label": "Package id 0\n",
}


def poll(root, files=None):
    return read(Hwmon(root=plant(root, files or {})))


def chip(name, **attributes):
    return {f"{HWMON}/hwmon0/name": name} | {
        f"{HWMON}/hwmon0/{attribute}": content for attribute, content in attributes.items()
    }


def readings(batch: Batch) -> list[SeriesKey]:
    """What was read; the information on a sensor does not depend on its reading."""
    return [key for key in batch.keys if key.metric is not host.SENSOR_INFO]


def test_agrees_with_node_exporter(tmp_path):
    """Not published by us: alarms, beeps, limits, pwm, targets and frequencies of a chip."""
    batch = poll(node_exporter(tmp_path, HWMON, "sys/devices/platform"))
    assert batch.errors == []
    chips = {
        "platform_coretemp_0": "coretemp.0",
        "platform_coretemp_1": "coretemp.1",
        "platform_applesmc_768": "applesmc.768",
        "nct6779": "nct6779",
        "hwmon4": "hwmon4",
        "ieee80211_phy0_mt7996_phy0_0": "phy0/mt7996_phy0_0",
        "ieee80211_phy0_mt7996_phy0_1": "phy0/mt7996_phy0_1",
        "ieee80211_phy0_mt7996_phy0_2": "phy0/mt7996_phy0_2",
    }

    def says(name):
        found = node_exporter_says(rf'node_hwmon_{name}\{{chip="(\w+)",sensor="(\w+)"\}}')
        return {(f"{chips[chip]}/{sensor}",): value for (chip, sensor), value in found.items()}

    assert len(says("temp_celsius")) == 15
    assert values(batch, host.TEMPERATURE) == says("temp_celsius")
    assert values(batch, host.FAN_SPEED) == says("fan_rpm")
    assert values(batch, host.SENSOR_VOLTAGE) == says("in_volts")

    labels = node_exporter_says(
        r'node_hwmon_sensor_label\{chip="(\w+)",label="([^"]+)",sensor="((?:temp|fan)\d+)"\}'
    )
    info = values(batch, host.SENSOR_INFO)
    ours = {(sensor, label) for sensor, _, _, label in info if label}
    assert ours == {(f"{chips[chip]}/{sensor}", label) for chip, label, sensor in labels}
    assert ("coretemp.0/temp1", "coretemp", "temp1", "Physical id 0") in info


def test_a_sensor_belongs_to_the_host(tmp_path):
    batch = poll(tmp_path, CORETEMP)
    assert batch.links == [Link(Kind.SENSOR("node1", "coretemp.0/temp1"), HOST, 1.0)]


@pytest.mark.parametrize(
    ("attribute", "raw", "metric", "value"),
    [
        ("temp3_input", "-5500", host.TEMPERATURE, -5.5),
        ("fan1_input", "0", host.FAN_SPEED, 0),
        ("in0_input", "-11980", host.SENSOR_VOLTAGE, -11.98),
        ("curr1_input", "1500", host.SENSOR_CURRENT, 1.5),
        ("power1_input", "12500000", power.SENSOR_POWER, 12.5),
        ("power2_average", "471000000", power.SENSOR_POWER, 471.0),
        ("energy1_input", "1500000", power.SENSOR_ENERGY, 1.5),
    ],
)
def test_units(tmp_path, attribute, raw, metric, value):
    batch = poll(tmp_path, chip("x", **{attribute: raw + "\n"}))
    assert values(batch, metric) == {(f"x/{attribute.partition('_')[0]}",): value}


@pytest.mark.parametrize(
    ("attribute", "raw"),
    [
        ("temp1_input", "-128000"),
        ("temp1_input", "127000"),
        ("temp1_input", "255000"),
        ("temp1_input", "-273150"),
        ("fan1_input", "65535"),
        ("power1_average", "4294967295000"),
    ],
)
def test_what_a_missing_sensor_reads_is_absent(tmp_path, attribute, raw):
    batch = poll(tmp_path, chip("x", **{attribute: raw, "temp2_input": "40000"}))
    assert values(batch, host.TEMPERATURE) == {("x/temp2",): 40.0}
    assert len(readings(batch)) == 1
    assert batch.errors == []


def test_a_faulty_sensor_is_absent_until_it_is_mended(tmp_path):
    fan = chip("x", fan1_input="0", fan1_fault="1\n", temp1_input="30000", temp1_fault="0\n")
    plugin = Hwmon(root=plant(tmp_path, fan))
    batch = read(plugin)
    assert values(batch, host.FAN_SPEED) == {}
    assert values(batch, host.TEMPERATURE) == {("x/temp1",): 30.0}
    plant(tmp_path, chip("x", fan1_fault="0\n"))
    batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
    assert values(batch, host.FAN_SPEED) == {("x/fan1",): 0}
    plugin.close()


def acpi_meters(*labels, **attributes):
    """acpi_power_meter puts its attributes on the device, and the OEM's name into oem_info."""
    files: dict[str, str] = {}
    for n, label in enumerate(labels):
        device = f"sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:0{n}"
        files |= {
            f"{HWMON}/hwmon{n}": f"-> ../../../{device}/hwmon/hwmon{n}",
            f"{device}/hwmon/hwmon{n}/device": f"-> ../../../ACPI000D:0{n}",
            f"{device}/name": "power_meter\n",
            f"{device}/power1_average": f"{(n + 1) * 100}000000\n",
            f"{device}/power1_oem_info": f"{label}\n",
        }
        files |= {f"{device}/{name}": content for name, content in attributes.items()}
    return files


def test_power_meters_of_grace_are_those_of_the_socket_and_nothing_else(tmp_path):
    parts = ("Module", "Grace", "CPU", "SysIO")
    batch = poll(tmp_path, acpi_meters(*(f"{part} Power Socket 1" for part in parts)))
    assert values(batch, power.CPU_POWER) == {
        ("socket-1", "module"): 100,
        ("socket-1", "grace"): 200,
        ("socket-1", "cpu"): 300,
        ("socket-1", "sysio"): 400,
    }
    assert {key.metric for key in batch.keys} == {power.CPU_POWER}
    assert batch.links == [Link(Kind.CPU("node1", "socket-1"), HOST, 1.0)]


def test_a_meter_that_says_what_another_says_stays_a_sensor(tmp_path):
    batch = poll(tmp_path, acpi_meters("Grace Power Socket 0", "Grace Power Socket 0"))
    assert values(batch, power.CPU_POWER) == {("socket-0", "grace"): 100}
    assert values(batch, power.SENSOR_POWER) == {("ACPI000D:01/power_meter/power1",): 200}


@pytest.mark.parametrize("label", ["", "Chassis Power", "total system power"])
def test_the_meter_of_the_whole_machine_is_the_hosts(tmp_path, label):
    batch = poll(tmp_path, acpi_meters(label, "Grace Power Socket 0"))
    assert values(batch, power.HOST_INPUT_POWER) == {("hwmon",): 100}
    assert values(batch, power.SENSOR_POWER) == {}
    assert values(batch, host.SENSOR_INFO) == {}


def test_of_several_meters_that_could_be_the_hosts_none_is(tmp_path):
    batch = poll(tmp_path, acpi_meters("", "Chassis"))
    assert values(batch, power.HOST_INPUT_POWER) == {}
    assert set(values(batch, power.SENSOR_POWER).values()) == {100, 200}
    assert len(values(batch, host.SENSOR_INFO)) == 2


@pytest.mark.parametrize(
    ("label", "attributes"), [("Backplane", {}), ("", {"power1_is_battery": "1\n"})]
)
def test_a_meter_of_something_else_stays_a_sensor(tmp_path, label, attributes):
    batch = poll(tmp_path, acpi_meters(label, **attributes))
    assert values(batch, power.SENSOR_POWER) == {("ACPI000D:00/power_meter/power1",): 100}
    assert values(batch, power.HOST_INPUT_POWER) == {}


def test_the_average_of_a_meter_is_taken_before_its_last_reading(tmp_path):
    batch = poll(tmp_path, chip("x", power1_input="1000000", power1_average="2000000"))
    assert values(batch, power.SENSOR_POWER) == {("x/power1",): 2.0}


def test_the_same_sensor_has_the_same_id_after_a_boot(tmp_path):
    def boot(root, nvme, hwmon):
        pci = "sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0"
        base = f"{pci}/nvme/nvme{nvme}/hwmon{hwmon}"
        files = {
            f"{HWMON}/hwmon{hwmon}": f"-> ../../../{base}",
            f"{base}/device": f"-> ../../nvme{nvme}",
            f"{base}/name": "nvme\n",
            f"{base}/temp1_input": "40000\n",
        }
        return set(values(poll(root, files), host.TEMPERATURE))

    assert (
        boot(tmp_path / "a", 0, 3) == boot(tmp_path / "b", 7, 1) == {("0000:01:00.0/nvme/temp1",)}
    )


@pytest.mark.parametrize(
    ("device", "name", "address"),
    [
        ("sys/devices/platform/coretemp.0", "coretemp", "coretemp.0"),
        ("sys/devices/pci0000:40/0000:40:01.3/0000:45:00.0", "i350bb", "0000:45:00.0/i350bb"),
        ("sys/devices/pci0000:00/0000:00:1f.4/i2c-3/3-0048", "lm75", "0000:00:1f.4/3-0048/lm75"),
        ("sys/devices/virtual/thermal/thermal_zone5", "acpitz", "thermal_zone5/acpitz"),
        (None, "nct6779", "nct6779"),
    ],
)
def test_address(device, name, address):
    assert _address(device, name) == address


def test_chips_that_nothing_tells_apart_stay_apart(tmp_path):
    files = {f"{HWMON}/hwmon{n}/name": "mlx5\n" for n in range(3)}
    files |= {f"{HWMON}/hwmon{n}/temp1_input": f"{n}000\n" for n in range(3)}
    assert values(poll(tmp_path, files), host.TEMPERATURE) == {
        ("mlx5/temp1",): 0.0,
        ("mlx5#2/temp1",): 1.0,
        ("mlx5#3/temp1",): 2.0,
    }


def test_one_bad_sensor_does_not_cost_the_others(tmp_path):
    plant(tmp_path, CORETEMP | chip("x", temp1_input="N/A", fan1_input="900"))
    (tmp_path / HWMON / "hwmon0/temp2_input").mkdir()
    batch = poll(tmp_path)
    failed = {str(entity) for entity, _ in batch.errors}
    assert failed == {"sensor:node1/x/temp1", "sensor:node1/x/temp2"}
    assert values(batch, host.FAN_SPEED) == {("x/fan1",): 900}
    assert values(batch, host.TEMPERATURE) == {("coretemp.0/temp1",): 55.0}


def test_a_sensor_that_is_never_ready_is_absent_and_no_failure(tmp_path, monkeypatch):
    plugin = Hwmon(root=plant(tmp_path, CORETEMP))
    read(plugin)

    def pread(descriptor, size, offset):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr("collector.read.files.pread", pread)
        batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
        assert (readings(batch), batch.errors) == ([], [])
    batch = read(plugin, Batch(HOST, 2.0, plugin.metrics))
    assert values(batch, host.TEMPERATURE) == {("coretemp.0/temp1",): 55.0}
    plugin.close()


def test_a_chip_that_vanishes_while_running_is_dropped(tmp_path, monkeypatch):
    plant(tmp_path, CORETEMP | chip("x", temp1_input="1000", energy1_input="5000000"))
    plugin = Hwmon(root=tmp_path)
    assert len(values(read(plugin), host.TEMPERATURE)) == 2
    (tmp_path / HWMON / "hwmon2").unlink()
    batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
    assert values(batch, host.TEMPERATURE) == {("x/temp1",): 1.0}
    plant(tmp_path, {f"{HWMON}/hwmon2": CORETEMP[f"{HWMON}/hwmon2"]})
    batch = read(plugin, Batch(HOST, 2.0, plugin.metrics))
    assert len(values(batch, host.TEMPERATURE)) == 2
    plugin.close()


def test_energy_goes_on_after_a_reset(tmp_path):
    plugin = Hwmon(root=plant(tmp_path, chip("x", energy1_input="5000000")))
    assert values(read(plugin), power.SENSOR_ENERGY) == {("x/energy1",): 5.0}
    plant(tmp_path, chip("x", energy1_input="1000000"))
    batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
    assert values(batch, power.SENSOR_ENERGY) == {("x/energy1",): 6.0}
    plugin.close()


def test_no_sensors_is_a_failure(tmp_path):
    plant(tmp_path, chip("x", pwm1_enable="1"))
    with pytest.raises(FileNotFoundError, match="has no sensors"):
        poll(tmp_path)


@given(millidegrees=st.integers(-99_999, 126_999))
def test_every_plausible_temperature_is_the_nearest_double(tmp_path_factory, millidegrees):
    root = tmp_path_factory.mktemp("hwmon")
    plugin = Hwmon(root=plant(root, chip("x", temp1_input=f"{millidegrees}\n")))
    (value,) = values(read(plugin), host.TEMPERATURE).values()
    assert repr(value) == repr(float(f"{millidegrees}e-3"))
    plugin.close()


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    source = Hwmon(root=plant(tmp_path / "source", CORETEMP))
    source.record(tmp_path / "case")
    copy = poll(tmp_path / "case/input/root")
    original = poll(tmp_path / "source")
    assert (copy.keys, copy.values) == (original.keys, original.values)
