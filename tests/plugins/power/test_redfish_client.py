"""Sessions, faults and limits of a Redfish service, and one that is slow."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.read.http import AnswerError
from plugins.power.redfish import Redfish, transport
from plugins.power.redfish.client import LoginError
from tests.fakes.redfish import SESSIONS, Gate, Service, Tree, certificate, tree
from tests.plugins.power.redfish import opened, poll, read, values

RECORDED = Path(__file__).parents[2] / "recorded" / "redfish"
USER: dict[str, Any] = {"user": "monitor", "password": "secret", "host": ""}
SHELF = "/redfish/v1/Chassis/powershelf"


@pytest.fixture
def bmc() -> Tree:
    return copy.deepcopy(tree(RECORDED / "bmc_with_report" / "input" / "redfish"))


@pytest.fixture
def shelf() -> Tree:
    return copy.deepcopy(tree(RECORDED / "power_shelf" / "input" / "redfish"))


def run(service: Service, work: Callable[[Redfish], Awaitable[None]], **config: object) -> None:
    async def inner() -> None:
        async with service:
            plugin = await opened(service, **config)
            try:
                await work(plugin)
            finally:
                await plugin.close()

    asyncio.run(inner())


def test_one_session_serves_all_polls_and_ends_with_the_plugin(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))

    async def work(plugin: Redfish) -> None:
        for _ in range(3):
            assert (await poll(plugin)).errors == []
        assert service.logins == 1
        assert len(service.tokens) == 1

    run(service, work, **USER)
    assert service.tokens == set()


def test_a_session_that_the_service_forgot_is_opened_again(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))

    async def work(plugin: Redfish) -> None:
        await poll(plugin)
        service.tokens.clear()
        batch = await poll(plugin)
        assert batch.errors == []
        assert values(batch)["host.input_power", "gpu-node-1", "redfish"] > 0
        assert service.logins == 2

    run(service, work, **USER)


def test_a_service_without_sessions_is_asked_with_basic_authentication(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))
    service.sessions = False
    batch = asyncio.run(read(service, **USER))
    assert batch.errors == []
    assert ("host.input_power", "gpu-node-1", "redfish") in values(batch)


def test_a_password_that_is_refused_is_not_tried_again_at_once(bmc: Tree) -> None:
    """BMCs lock an account after some."""
    service = Service(bmc, ("monitor", "other"))

    async def work(plugin: Redfish) -> None:
        for _ in range(3):
            with pytest.raises(LoginError, match="refuses user monitor"):
                await poll(plugin)
        assert service.logins == 1

    run(service, work, **USER)


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_service_that_opens_no_session_is_down_until_it_does(
    bmc: Tree, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found once: discovery found nothing, was over, and the source was up for 15 minutes."""
    service = Service(bmc, ("monitor", "secret"))
    service.login_status = status

    async def work(plugin: Redfish) -> None:
        for _ in range(3):
            with pytest.raises(LoginError, match="SessionLimitExceeded") as error:
                await poll(plugin)
            assert "secret" not in str(error.value)
        assert service.logins == 1
        service.login_status = 0
        monkeypatch.setattr("plugins.power.redfish.client.time.monotonic", lambda: 1e9)
        await poll(plugin)
        assert service.logins == 2

    run(service, work, **USER)
    assert service.tokens == set()


def test_a_close_in_the_midst_of_a_login_leaves_no_session(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))

    async def work(plugin: Redfish) -> None:
        asked = asyncio.Event()

        async def at_login(path: str) -> None:
            if path == SESSIONS:
                asked.set()
                await asyncio.sleep(0.05)

        service.gate = at_login
        polling = asyncio.create_task(poll(plugin))
        await asked.wait()
        polling.cancel()
        await plugin.close()
        assert service.logins == 1

    run(service, work, **USER)
    assert service.tokens == set()


def test_a_session_that_is_not_accepted_is_ended_and_no_other_one_opened(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))
    bmc["/redfish/v1/Systems"] = bmc["/redfish/v1/Chassis"] = 401

    async def work(plugin: Redfish) -> None:
        for _ in range(3):
            with pytest.raises(LoginError, match="answered 401"):
                await poll(plugin)
        assert service.logins == 1
        assert service.tokens == set()

    run(service, work, **USER)


def test_one_document_for_which_no_session_is_good_costs_none(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))
    bmc["/redfish/v1/Chassis/Chassis_0/ThermalSubsystem"] = 401

    async def work(plugin: Redfish) -> None:
        for _ in range(4):
            assert len((await poll(plugin)).keys) > 40
            assert len(service.tokens) == 1

    run(service, work, **USER)


def test_a_password_that_is_refused_is_tried_again_once_it_is_another(
    bmc: Tree, tmp_path: Path
) -> None:
    service = Service(bmc, ("monitor", "new"))
    file = tmp_path / "password"
    file.write_text("old")

    async def work(plugin: Redfish) -> None:
        with pytest.raises(LoginError, match="401"):
            await poll(plugin)
        file.write_text("new")
        assert (await poll(plugin)).errors == []

    run(service, work, **USER | {"password": {"file": str(file)}})


def test_basic_authentication_does_not_try_a_wrong_password_again_and_again(bmc: Tree) -> None:
    service = Service(bmc, ("monitor", "secret"))

    async def work(plugin: Redfish) -> None:
        for _ in range(5):
            with pytest.raises(LoginError, match="401"):
                await poll(plugin)
        tried = [path for path in service.gets if path != "/redfish/v1/"]
        assert len(tried) <= 2, "one for each of the requests at once"

    run(service, work, **USER | {"auth": "basic"})


def test_what_fails_in_discovery_is_asked_for_again(bmc: Tree) -> None:
    """A BMC that is busy answers some requests with 503, or breaks off."""
    good = copy.deepcopy(bmc)
    chassis = "/redfish/v1/Chassis/Chassis_0"
    failing = (f"{chassis}/Sensors", f"{chassis}/EnvironmentMetrics", "/redfish/v1/Chassis/GPU_0")
    bmc.update(zip(failing, (503, ConnectionError(), b'{"Id":'), strict=True))

    async def work(plugin: Redfish) -> None:
        broken = await poll(plugin)
        assert broken.errors
        assert values(broken), "the rest is read"
        bmc.update({path: good[path] for path in failing})
        await poll(plugin)
        healed = await poll(plugin)
        assert healed.errors == []
        assert len(healed.keys) == len(expected.keys)

    expected = asyncio.run(read(Service(good), 3))
    run(Service(bmc), work)


def test_a_host_is_not_called_by_its_address_because_its_name_came_late(bmc: Tree) -> None:
    name = bmc["/redfish/v1/Systems"]
    bmc["/redfish/v1/Systems"] = 503

    async def work(plugin: Redfish) -> None:
        with pytest.raises(AnswerError, match="503"):
            await poll(plugin)
        bmc["/redfish/v1/Systems"] = name
        hosts = {key[1] for key in values(await poll(plugin)) if key[0] == "host.input_power"}
        assert hosts == {"gpu-node-1"}

    run(Service(bmc), work, host="")


def test_parts_that_hang_do_not_hold_discovery_up_for_good(bmc: Tree) -> None:
    service = Service(bmc)

    async def some(path: str) -> None:
        if "Chassis/Chassis_0" in path and "Sensors" not in path:
            await asyncio.Event().wait()

    service.gate = some

    async def work(plugin: Redfish) -> None:
        for _ in range(20):
            with contextlib.suppress(TimeoutError):
                found = values(await poll(plugin))
                if any(key[0] == "sensor.power" for key in found):
                    return
        pytest.fail("what can be read is never reached")

    run(service, work, request_timeout=0.05, requests=1)


def test_a_service_that_hangs_stays_down(bmc: Tree) -> None:
    """It is not up between two failures, while the next answer is waited for."""
    service = Service(bmc)

    async def work(plugin: Redfish) -> None:
        await poll(plugin)
        service.gate = Gate()
        plugin.timeout = 0.01
        plugin._reader._readings.clear()  # they are stale
        for _ in range(8):
            with contextlib.suppress(TimeoutError):
                assert (await poll(plugin)).errors

    run(service, work, request_timeout=0.05)


def test_without_a_user_the_error_says_what_is_missing(bmc: Tree) -> None:
    with pytest.raises(LoginError, match="the config needs a user"):
        asyncio.run(read(Service(bmc, ("monitor", "secret"))))


def test_another_host_is_never_asked(bmc: Tree) -> None:
    bmc["/redfish/v1"]["Chassis"] = {"@odata.id": "https://example.org/redfish/v1/Chassis"}
    bmc["/redfish/v1"]["Systems"] = {"@odata.id": "//example.org/redfish/v1/Systems"}
    service = Service(bmc)
    batch = asyncio.run(read(service))
    assert not [key for key in batch.keys if key.metric.name.startswith("host.")]


def test_what_is_not_followed_is_not_asked(bmc: Tree) -> None:
    service = Service(bmc)
    asyncio.run(read(service))
    assert not [path for path in service.gets if "UpdateService" in path or "Session" in path]


@pytest.mark.parametrize("answer", [500, b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_a_part_that_cannot_be_read_keeps_nothing_else_from_being_read(
    bmc: Tree, answer: bytes | int
) -> None:
    bmc["/redfish/v1/Chassis/Chassis_0/ThermalSubsystem"] = answer
    batch = asyncio.run(read(Service(bmc), host=""))
    assert len(batch.errors) == 1
    assert values(batch)["host.input_power", "gpu-node-1", "redfish"] > 1300


def test_a_link_that_leads_nowhere_is_no_error(bmc: Tree) -> None:
    del bmc["/redfish/v1/Chassis/Chassis_0/ThermalSubsystem"]
    assert asyncio.run(read(Service(bmc))).errors == []


def test_an_answer_that_is_too_large_is_given_up(
    shelf: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1000)
    batch = asyncio.run(read(Service(shelf)))
    assert "larger than" in str(batch.errors[0][1])


def test_a_root_that_is_no_redfish_fails_the_whole_target() -> None:
    async def work(plugin: Redfish) -> None:
        with pytest.raises(AnswerError, match="404"):
            await poll(plugin)

    run(Service({}), work)


def test_a_service_that_is_away_is_unreachable_and_comes_back(shelf: Tree) -> None:
    async def work() -> None:
        async with Service(shelf) as service:
            plugin = await opened(service)
            await poll(plugin)
        with pytest.raises(OSError, match="redfish/v1"):
            await poll(plugin)
        await plugin.close()

    asyncio.run(work())


def test_what_a_failed_document_said_is_told_no_more(shelf: Tree) -> None:
    service = Service(shelf)

    async def work(plugin: Redfish) -> None:
        assert ("pdu.power", "u", "measured") in values(await poll(plugin))
        shelf[f"{SHELF}/Sensors"] = 500
        batch = await poll(plugin)
        assert ("pdu.power", "u", "measured") not in values(batch)
        assert "answered 500" in str(batch.errors[0][1])

    run(service, work)


def test_a_value_that_is_gone_is_told_no_more(shelf: Tree) -> None:
    async def work(plugin: Redfish) -> None:
        assert ("pdu.power", "u", "measured") in values(await poll(plugin))
        members = shelf[f"{SHELF}/Sensors"]["Members"]
        members[0]["Reading"] = None
        members[1]["Reading"] = 3999.0
        found = values(await poll(plugin))
        assert ("pdu.power", "u", "measured") not in found
        assert found["pdu.output.power", "u"] == 3999.0

    run(Service(shelf), work)


def test_a_slow_answer_is_waited_for_and_not_asked_for_twice(shelf: Tree) -> None:
    """It takes longer than many polls; these give what is known, and nothing is lost."""
    service = Service(shelf)

    async def work(plugin: Redfish) -> None:
        assert len((await poll(plugin)).keys) > 40
        gate = service.gate = Gate()
        service.gets.clear()
        shelf[f"{SHELF}/Sensors"]["Members"][0]["Reading"] = 4000.0
        plugin.timeout = 0.01
        for _ in range(5):
            found = values(await poll(plugin))
            assert found["pdu.power", "u", "measured"] == 3120
        await gate.asked.wait()
        assert len(service.gets) == 1
        gate.open.set()
        plugin.timeout = 60
        assert values(await poll(plugin))["pdu.power", "u", "measured"] == 4000.0
        assert len(service.gets) == 1

    run(service, work)


def test_a_slow_discovery_goes_on_over_several_polls(bmc: Tree) -> None:
    service = Service(bmc)
    turn = asyncio.Semaphore(0)

    async def one_by_one(path: str) -> None:
        await turn.acquire()

    service.gate = one_by_one

    async def work(plugin: Redfish) -> None:
        plugin.timeout = 0.01
        sizes = []
        while not plugin._reader.complete:
            turn.release()
            with contextlib.suppress(TimeoutError):
                sizes.append(len((await poll(plugin)).keys))
        assert len(sizes) > 20
        assert 0 < sizes[len(sizes) // 2] < sizes[-1]
        again = [path for path in service.gets if path.endswith("Chassis_0/EnvironmentMetrics")]
        assert len(again) > 1, "what is known is read while discovery goes on"

    run(service, work, requests=1)


def test_a_service_that_hangs_holds_up_no_other(bmc: Tree, shelf: Tree) -> None:
    async def work() -> None:
        async with Service(bmc) as hung, Service(shelf) as well:
            gate = hung.gate = Gate()
            first, second = await opened(hung, timeout=0.01), await opened(well)
            with pytest.raises(TimeoutError, match="no answer so far"):
                await poll(first)
            await gate.asked.wait()
            assert ("pdu.power", "u", "measured") in values(await poll(second))
            assert gate.waiting == 1
            await first.close()
            await second.close()

    asyncio.run(work())


@pytest.mark.parametrize("requests", [1, 2])
def test_no_more_requests_at_once_than_allowed(bmc: Tree, requests: int) -> None:
    service = Service(bmc)

    async def others_first(path: str) -> None:
        await asyncio.sleep(0.002)

    service.gate = others_first
    asyncio.run(read(service, requests=requests))
    assert service.most_at_once == requests


def test_a_hanging_service_is_given_up_after_some_requests(bmc: Tree) -> None:
    service = Service(bmc)

    async def work(plugin: Redfish) -> None:
        await poll(plugin)
        service.gate = Gate()
        with pytest.raises(TimeoutError, match="no whole answer"):
            for _ in range(10):
                await poll(plugin)

    run(service, work, request_timeout=0.05)


def test_a_close_in_the_midst_of_an_answer_waits_for_nothing(bmc: Tree) -> None:
    service = Service(bmc)

    async def work(plugin: Redfish) -> None:
        service.gate = Gate()
        plugin.timeout = 0.01
        with pytest.raises(TimeoutError):
            await poll(plugin)
        await plugin.close()
        assert plugin._cycle is None

    run(service, work)


def test_a_part_that_is_gone_starts_a_new_discovery(
    shelf: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.power.redfish.reader.SOONEST", 0.0)

    async def work(plugin: Redfish) -> None:
        await poll(plugin)
        shelf["/redfish/v1/Chassis/shelf-b"] = shelf.pop(SHELF) | {"Id": "powershelf-b"}
        shelf["/redfish/v1/Chassis"]["Members"][0]["@odata.id"] = "/redfish/v1/Chassis/shelf-b"
        sensors = shelf.pop(f"{SHELF}/Sensors")
        shelf["/redfish/v1/Chassis/shelf-b"]["Sensors"] = {"@odata.id": "/redfish/v1/S/Sensors"}
        for member in sensors["Members"]:
            member["@odata.id"] = member["@odata.id"].replace(SHELF, "/redfish/v1/S")
        shelf["/redfish/v1/S/Sensors"] = sensors
        await poll(plugin)
        assert values(await poll(plugin))["pdu.power", "u", "measured"] == 3120

    run(Service(shelf), work)


def test_a_recording_replays_to_the_same_values(bmc: Tree, tmp_path: Path) -> None:
    bmc["/redfish/v1/Chassis/Chassis_0"]["SerialNumber"] = "4711"

    async def work() -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        service = Service(bmc)
        async with service:
            await Redfish(target=service.url, timeout=60).record(tmp_path)
        again = Service(tree(tmp_path / "input" / "redfish"))
        return values(await read(Service(bmc))), values(await read(again))

    first, second = asyncio.run(work())
    # A report and a sensor may tell of the same second, one with more digits.
    assert {k: v for k, v in first.items() if k[0] != "source.clock.offset"} == pytest.approx(
        {k: v for k, v in second.items() if k[0] != "source.clock.offset"}, rel=1e-3
    )
    assert "4711" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


@pytest.mark.parametrize("target", ["ftp://bmc", "https://", "https://user@bmc", ""])
def test_a_target_that_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(ValidationError, match="is no address"):
        Redfish(target=target)


def test_sessions_are_found_by_the_root_alone(bmc: Tree) -> None:
    assert bmc["/redfish/v1"]["Links"]["Sessions"]["@odata.id"] == SESSIONS
    del bmc["/redfish/v1"]["Links"]
    service = Service(bmc, ("monitor", "secret"))
    with pytest.raises(LoginError, match="answered 401"):
        asyncio.run(read(service, **USER))
    assert service.logins == 0


def test_a_certificate_is_checked_unless_the_config_says_otherwise(
    shelf: Tree, tmp_path: Path
) -> None:
    file = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file)

    def ask(**config: Any) -> int:
        return len(asyncio.run(read(Service(shelf, tls=tls), **config)).keys)

    with pytest.raises(OSError, match=r"self-signed certificate.*ca_file"):
        ask()
    assert ask(ca_file=file) == ask(verify=False) > 40
    certificate(tmp_path)  # the service's is renewed
    tls.load_cert_chain(file)
    assert ask(ca_file=file) > 40
    with pytest.raises(OSError, match=r"gone\.pem"):
        ask(ca_file=tmp_path / "gone.pem")


def test_services_share_what_certificates_are_checked_by() -> None:
    assert transport.context(verify=True, ca_file=None) is transport.context(
        verify=True, ca_file=None
    )


def test_a_collection_without_end_keeps_nothing_else_from_being_read(bmc: Tree) -> None:
    whole = len(asyncio.run(read(Service(bmc))).keys)
    chassis = bmc["/redfish/v1/Chassis"]
    more = [{"@odata.id": f"/redfish/v1/Chassis/X{number}"} for number in range(5000)]
    chassis["Members"] = chassis["Members"] + more
    batch = asyncio.run(read(Service(bmc)))
    assert len(batch.keys) == whole
    assert "not all are read" in str(batch.errors[-1][1])


def test_messages_name_the_mend(shelf: Tree, tmp_path: Path) -> None:
    async def plain() -> None:
        async with Service(shelf) as service:
            plugin = await opened(service, target=service.url.replace("http:", "https:"))
            try:
                await poll(plugin)
            finally:
                await plugin.close()

    with pytest.raises(OSError, match="write http:// in target"):
        asyncio.run(plain())
    file = tmp_path / "ca.pem"
    file.write_text("none")
    with pytest.raises(OSError, match=r"ca_file .*ca\.pem: "):
        transport.context(verify=True, ca_file=file)


def test_no_recording_holds_what_logs_in(bmc: Tree, tmp_path: Path) -> None:
    async def work() -> None:
        async with Service(bmc, ("monitor", "s3cret")) as service:
            plugin = Redfish.model_validate(
                {"target": service.url, "timeout": 60, "user": "monitor", "password": "s3cret"}
            )
            assert "s3cret" not in f"{plugin!r} {plugin.model_dump(mode='json')}"
            await plugin.record(tmp_path)
            assert service.logins == 1
            assert service.tokens == set()

    asyncio.run(work())
    saved = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(saved) > 20
    assert not [text for text in saved if "s3cret" in text or "token-1" in text]
