"""Every recorded case, replayed to its plugin by the source's own protocol.

A case is `tests/recorded/<plugin>/<case>/`: `config.toml` as the daemon takes it, `input/` as
`w2t record` saves it, and `expected.prom`, the page for Prometheus without the daemon's own series;
events stand below it as comments.
`make golden` writes the pages anew: look at the difference before you commit it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from collector import config
from collector.batch import Batch, Event
from collector.config import Config
from collector.entity import Kind
from collector.export.prometheus import Page
from collector.plugin import Plugin
from collector.poller import Source
from collector.store import Store
from collector.topology import Topology
from plugins.agents.otlp import Otlp
from plugins.power.snmp_trap import SnmpTrap
from tests.fakes import ipmi, nvml
from tests.fakes.ethtool import Kernel
from tests.fakes.nccl import Ras
from tests.fakes.pages import OPENMETRICS, TEXT, Pages, Reply
from tests.fakes.redfish import Service, tree
from tests.fakes.snmp import Agent

CASES = sorted((Path(__file__).parent / "recorded").glob("*/*/"))
BINDINGS = Path(__file__).parent / "fakes/dcgm"
START = 1_760_000_000.0  # of the clock, which stands still but for a minute between two polls
MINUTE = 60.0
EVENT = "# event: "
CONTENT_TYPES = {".json": "application/json", ".pb": "application/x-protobuf"}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [START]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


class Replay:
    """What stands in for the source of a case, and what to change in the plugin's config.

    Attributes:
        fields: Of the plugin, in place of those in the config.
        names: What to write in the page in place of what only this run is about.
        polls: How often to poll, and after what pause, in s: the clock of a library is the real one.
        bodies: What to send to the plugin once it listens.
    """

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.names: dict[str, str] = {}
        self.polls, self.pause = 1, 0.0
        self.bodies: list[Path] = []


@asynccontextmanager
async def replay(case: Path, target: str, request: pytest.FixtureRequest) -> AsyncIterator[Replay]:
    """Bring up what the input of a case calls for."""
    found = Replay()
    pages, answers = [], []
    async with AsyncExitStack() as stack:
        for path in sorted((case / "input").glob("*")):
            if path.name == "root":
                found.fields["root"] = path
            elif path.name == "redfish":
                service = await stack.enter_async_context(Service(tree(path)))
                found.fields["target"] = service.url
                found.names[service.url] = target
                found.polls = 2
            elif path.name == "ipmi":
                folder = request.getfixturevalue("tmp_path") / "bin"
                ipmi.replay(path, folder, request.getfixturevalue("monkeypatch"))
            elif path.suffix == ".snmprec":
                agent = stack.enter_context(Agent(path))
                found.fields["target"] = agent.target
                found.names[agent.target] = target
            elif path.name.startswith("page") and path.suffix in (".prom", ".om"):
                kind = OPENMETRICS if path.suffix == ".om" else TEXT
                pages.append(Reply(path.read_bytes(), kind))
            elif path.name.startswith("answer"):
                answers.append(Reply(path.read_bytes(), CONTENT_TYPES[path.suffix]))
            elif path.stem == "ras" and path.suffix in (".json", ".txt"):
                ras = stack.enter_context(Ras(path.read_bytes(), json=path.suffix == ".json"))
                found.fields["target"] = ras.target
                found.names[ras.target] = target
            elif path.name == "kubelet.textproto":
                pytest.importorskip("grpc", reason="grpcio is not installed")
                from tests.fakes.kubelet import Kubelet

                kubelet = stack.enter_context(Kubelet(path.read_text()))
                found.fields["socket"] = kubelet.socket
            elif path.name == "statistics.toml":
                Kernel(path).install(request.getfixturevalue("monkeypatch"))
            elif path.name.startswith("scenario."):
                found.polls, found.pause = 2, 0.12  # what GPM says is between two samples
                library = request.getfixturevalue("library")
                monkeypatch = request.getfixturevalue("monkeypatch")
                for name, value in nvml.environment(library, path).items():
                    monkeypatch.setenv(name, value)
            elif path.name == "hostengine.toml":
                request.getfixturevalue("monkeypatch").setenv("W2T_FAKE_DCGM", str(path))
                found.fields["bindings"] = str(BINDINGS)
            elif path.suffix in (*CONTENT_TYPES, ".hex"):
                found.bodies.append(path)
            else:
                pytest.fail(f"{path} is no input that can be replayed")
        if answers:
            api = await stack.enter_async_context(Pages(*answers))
            found.fields["url"] = api.url
        if pages:
            server = await stack.enter_async_context(Pages(*pages))
            found.polls = len(pages)
            found.fields["target"] = server.url
            found.names[f'"{server.port}"'] = f'"{urlsplit(target).port}"'
        yield found


async def post(plugin: Plugin, bodies: list[Path]) -> None:
    if isinstance(plugin, SnmpTrap):
        await send(plugin, [bytes.fromhex(line) for b in bodies for line in lines(b)])
        return
    assert isinstance(plugin, Otlp), "OTLP was recorded, which this plugin does not receive"
    async with aiohttp.ClientSession() as session:
        for body in bodies:
            signal = body.stem.rpartition("-")[2]
            signal = signal if signal in ("metrics", "logs") else "traces"
            url = f"http://127.0.0.1:{plugin.port}/v1/{signal}"
            headers = {"Content-Type": CONTENT_TYPES[body.suffix]}
            async with session.post(url, data=body.read_bytes(), headers=headers) as answer:
                assert answer.status == 200, await answer.text()


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


async def send(plugin: SnmpTrap, datagrams: list[bytes]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", plugin.port))
    async with asyncio.timeout(30):
        while plugin.received < len(datagrams):
            await asyncio.sleep(0.01)


async def page(
    case: Path, loaded: Config, clock: list[float], request: pytest.FixtureRequest
) -> str:
    """Replay a case and render what the plugin found."""
    (configured,) = loaded.plugins
    host = Kind.HOST(loaded.settings.daemon.host_name)
    store = Store()
    events: list[Event] = []

    def take(_: str, batch: Batch) -> None:
        store.write(batch, "recorded", 3 * MINUTE)
        events.extend(batch.events)

    async with replay(case, configured.plugin.target, request) as replayed:
        values = configured.plugin.model_dump(exclude_unset=True) | replayed.fields
        plugin = type(configured.plugin)(**values)
        source = Source(case.parent.name, plugin, host, Store(), Topology(), take)
        try:
            if replayed.bodies:
                await source.poll()
                await post(plugin, replayed.bodies)
            for _ in range(replayed.polls):
                clock[0] += MINUTE
                await asyncio.sleep(replayed.pause)
                await source.poll()
                assert source.error is None or source.error.startswith("partial"), source.error
        finally:
            await source.close()
    rendered = Page(store).render(clock[0]).decode() + "".join(
        f"{EVENT}{event.severity.name} {event.name} {event.entity} {event.text!r}\n"
        for event in events
    )
    for here, there in replayed.names.items():
        rendered = rendered.replace(here, there)
    return rendered


def samples(text: str) -> list[str]:
    lines = text.splitlines()
    return sorted(line for line in lines if line.startswith(EVENT) or not line.startswith("#"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_case_gives_what_is_expected(
    case: Path, clock: list[float], request: pytest.FixtureRequest
) -> None:
    loaded = config.load(case / "config.toml", only=case.parent.name)
    found = asyncio.run(page(case, loaded, clock, request))
    expected = case / "expected.prom"
    if os.environ.get("W2T_GOLDEN"):
        expected.write_text(found)
    assert samples(found) == samples(expected.read_text()), "run `make golden` if this is right"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_case_says_where_it_is_from(case: Path) -> None:
    first = (case / "config.toml").read_text().splitlines()[0]
    assert first.startswith("# "), "config.toml begins with device, firmware and date, or Synthetic"
    assert {path.name for path in case.iterdir()} - {"input"} == {"config.toml", "expected.prom"}
