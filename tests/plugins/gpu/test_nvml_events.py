"""Xids, as the driver hands them out."""

from collector.batch import Severity
from collector.entity import Kind
from tests.fakes.nvml import uuid
from tests.plugins.gpu.gpus import run, values


def xid(scenario, number: int, code: int, slot: int = 0):
    def step():
        scenario.set(f"event.{number}", f"{uuid(slot)} {code}")
        scenario.write()

    return step


def test_an_xid_is_an_event_once_and_stays_counted(scenario):
    scenario.gpu(0)
    scenario.gpu(1)
    before, there, after = run(scenario.write, xid(scenario, 1, 79, slot=1), lambda: None)
    assert before.events == after.events == []
    ((name, entity, at, severity, text, attributes),) = there.events
    assert (name, entity) == ("gpu.xid", Kind.GPU("node1", uuid(1)))
    assert at == there.at
    assert severity is Severity.FATAL
    assert text == "Xid 79 ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS"
    assert dict(attributes) == {
        "xid": "79",
        "name": "ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS",
        "action": "RESTART_BM",
        "times": "1",
    }
    for batch in (there, after):
        assert values(batch, 1)["gpu.xids", "79"] == 1.0
        assert not [key for key in values(batch, 0) if key[0] == "gpu.xids"]
    assert before.errors == there.errors == after.errors == []


def test_a_storm_is_one_event_for_each_kind(scenario):
    """Xid 45 follows others, thousands of times."""
    scenario.gpu(0)

    def storm():
        for number in range(1, 501):
            scenario.set(f"event.{number}", f"{uuid(0)} {45 if number > 1 else 94}")
        scenario.write()

    _, there = run(scenario.write, storm)
    assert {(event.text.split()[1], dict(event.attributes)["times"]) for event in there.events} == {
        ("94", "1"),
        ("45", "499"),
    }
    assert values(there)["gpu.xids", "45"] == 499.0


def test_a_storm_that_goes_on_is_told_once_a_minute(scenario):
    scenario.gpu(0)
    steps = [xid(scenario, number, 31) for number in range(1, 8)]
    _, *stormy, calm = run(scenario.write, *steps, lambda: None)  # 10 s apart
    told = [[dict(one.attributes)["times"] for one in batch.events] for batch in stormy]
    assert told == [["1"], [], [], [], [], [], ["6"]]
    assert calm.events == []
    assert values(calm)["gpu.xids", "31"] == 7.0


def test_an_xid_that_is_not_in_the_catalogue(scenario):
    scenario.gpu(0)
    _, there = run(scenario.write, xid(scenario, 1, 999))
    (event,) = there.events
    assert (event.text, event.severity) == ("Xid 999", Severity.ERROR)


def test_a_gpu_that_falls_off_the_bus(scenario):
    scenario.gpu(0)
    scenario.gpu(1)

    def fall():
        xid(scenario, 1, 79, slot=1)()
        scenario.set("gpu.1.error", 15)
        scenario.write()

    _, fallen, still = run(scenario.write, fall, lambda: None)
    assert [(event.name, event.entity.key[-1]) for event in fallen.events] == [
        ("gpu.xid", uuid(1)),
        ("gpu.lost", uuid(1)),
    ]
    assert still.events == []
    for batch in (fallen, still):
        ((entity, error),) = batch.errors
        assert entity == Kind.GPU("node1", uuid(1))
        assert "GPU is lost" in str(error)
        assert values(batch, 1).keys() <= {("gpu.xids", "79")}
        assert values(batch, 0)["gpu.power"] == 68.92
        count = next(
            v for k, v in zip(batch.keys, batch.values, strict=True) if k.metric.name == "host.gpus"
        )
        assert count == 1.0


def test_waiting_that_fails_is_said_and_begun_anew(scenario):
    scenario.gpu(0)

    def fail():
        scenario.set("event_error", 999)
        scenario.write()

    def mend():
        scenario.set("event_error", None)
        scenario.write()

    _, failed, _, there = run(scenario.write, fail, mend, xid(scenario, 1, 63))
    ((entity, error),) = failed.errors
    assert entity is None
    assert str(error) == "nvmlEventSetWait: Unknown Error"
    assert values(failed)["gpu.power"] == 68.92
    assert [event.severity for event in there.events] == [Severity.INFO]


def test_a_lost_gpu_that_ends_the_waiting_is_reported_as_itself(scenario):
    scenario.gpu(0)

    def lose():
        scenario.set("event_error", 15)
        scenario.write()

    _, lost = run(scenario.write, lose)
    assert lost.errors == []


def test_a_board_without_events_is_no_failure(scenario):
    scenario.gpu(0, **{"nvmlDeviceRegisterEvents.error": 3})
    first, second = run(scenario.write, xid(scenario, 1, 79))
    assert first.errors == second.errors == []
    assert second.events == []


def test_of_a_lost_gpu_nothing_is_stated_again(scenario):
    scenario.gpu(0)

    def lose():
        scenario.set("gpu.0.error", 15)
        scenario.write()

    whole, lost = run(scenario.write, lose, config={"slow_interval": 100.0})
    assert "gpu.power.limit" in values(whole)
    assert values(lost) == {}


def test_a_gpu_that_is_late_is_not_lost(scenario):
    scenario.gpu(0, **{"nvmlDeviceGetMigMode.error": 10})
    scenario.gpu(1)
    (batch,) = run(scenario.write)
    ((_, error),) = batch.errors
    assert "Timeout" in str(error)
    assert batch.events == []
