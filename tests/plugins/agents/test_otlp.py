"""The receiver over real HTTP, with the real OpenTelemetry SDK and with recorded bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from pydantic import ValidationError

from collector.batch import Batch
from collector.entity import Kind
from collector.web import listener
from plugins.agents import otlp
from plugins.agents.otlp import Otlp
from tests.data import data
from tests.fakes.agent import Agent, Called, Truth, calls

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BOMB = gzip.compress(bytes(8 << 20), mtime=0)


class Answer(NamedTuple):
    status: int
    kind: str
    body: bytes
    headers: Any

    @property
    def message(self) -> str:
        """The message of the Status, which must be in the request's encoding."""
        if self.kind == JSON:
            return str(orjson.loads(self.body)["message"])
        return str(Status.FromString(self.body).message)


class Receiver:
    """An open receiver and a client of it."""

    def __init__(self, plugin: Otlp, session: aiohttp.ClientSession) -> None:
        self.plugin = plugin
        self.session = session
        self.url = f"http://127.0.0.1:{plugin.port}"

    async def post(
        self, body: Any, kind: str = PROTOBUF, path: str = "/v1/traces", **headers: str
    ) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(
            self.url + path, data=body, headers={"Content-Type": kind, **names}
        ) as answer:
            return Answer(answer.status, answer.content_type, await answer.read(), answer.headers)

    async def poll(self) -> Batch:
        batch = Batch(Kind.HOST("h"), time.time(), Otlp.metrics)
        await self.plugin.poll(batch)
        return batch


def run(test: Callable[[Receiver], Awaitable[Any]], *, settle: float = 60.0, **config: Any) -> Any:
    """Run a test against an open receiver."""

    async def main() -> Any:
        plugin = Otlp(listen_address="127.0.0.1:0", settle=settle, **config)
        await plugin.open()
        try:
            async with aiohttp.ClientSession() as session:
                return await test(Receiver(plugin, session))
        finally:
            await plugin.close()

    return asyncio.run(main())


def values(batch: Batch, metric: str) -> dict[tuple[str, ...], float]:
    return {
        (*key.entity.key, *key.labels): value
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key.metric.name == metric
    }


def of_agent(batch: Batch, metric: str, agent: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in values(batch, metric).items() if key[0] == agent}


def sums(batch: Batch) -> dict[str, int]:
    """Everything that was counted, over all agents and models."""
    total: Counter[str] = Counter()
    for key, value in zip(batch.keys, batch.values, strict=True):
        if key.metric.name == "agent.tokens":
            total[key.labels[1]] += int(value)
        elif key.metric.name == "agent.calls":
            total["calls"] += int(value)
            total["errors"] += int(value) * bool(key.labels[1])
        elif key.metric.name == "agent.tool_calls":
            total["tool_calls"] += int(value)
            total["tool_errors"] += int(value) * (key.labels[1] == "error")
    return dict(total)


def request(*spans: dict[str, Any], service: str = "svc") -> bytes:
    body = ExportTraceServiceRequest()
    resource_spans = body.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = service
    for number, attributes in enumerate(spans, 1):
        span = resource_spans.scope_spans.add().spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            start_time_unix_nano=10**18,
            end_time_unix_nano=10**18 + 10**9,
        )
        for key, value in attributes.items():
            held = span.attributes.add(key=key).value
            if isinstance(value, str):
                held.string_value = value
            else:
                held.int_value = value
    return body.SerializeToString()


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
}


# The SDK


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("named_calls", [False, True])
def test_what_the_sdk_sends_is_what_comes_out(packed: bool, named_calls: bool) -> None:
    async def test(receiver: Receiver) -> tuple[Batch, list[Truth]]:
        def agents() -> list[Truth]:
            told = []
            for seed, name in enumerate(("planner", "coder")):
                agent = Agent(receiver.url, name, gzip=packed, named_calls=named_calls)
                for model in ("llama", "qwen"):
                    start = time.time() - 600
                    agent.run(calls(model, 25, seed, start=start, server="10.0.0.1:8000"))
                agent.close()
                told.append(agent.truth)
            return told

        truths = await asyncio.to_thread(agents)
        return await receiver.poll(), truths

    batch, truths = run(test)
    for truth in truths:
        assert of_agent(batch, "agent.tokens", truth.agent) == truth.tokens()
        assert of_agent(batch, "agent.calls", truth.agent) == truth.model_calls()
        assert of_agent(batch, "agent.tool_calls", truth.agent) == truth.tool_calls()
        spent = of_agent(batch, "agent.call.time", truth.agent)
        assert sum(spent.values()) == pytest.approx(sum(c.end - c.start for c in truth.calls))
        handed = sorted(call[1:] for call in batch.calls if call.agent == truth.agent)
        made = [_as_call(call) for call in truth.calls if not call.error]
        assert handed == sorted(made)
    assert values(batch, "otlp.spans.pending") == {("otlp", ""): 0}


def _as_call(call: Called) -> tuple[object, ...]:
    return (
        call.model,
        round(call.start * 1e9) / 1e9,
        round(call.end * 1e9) / 1e9,
        call.input_tokens,
        call.cache_read,
        call.output_tokens,
        call.server,
    )


def test_a_call_waits_for_the_agent_that_ends_after_it() -> None:
    async def test(receiver: Receiver) -> list[dict[str, int]]:
        def first() -> Agent:
            agent = Agent(receiver.url, "planner", delay=0.01)
            agent.run(calls("m", 3, start=time.time() - 60))
            return agent

        seen = []
        agent = await asyncio.to_thread(first)
        await asyncio.to_thread(agent.flush)
        seen.append(sums(await receiver.poll()))
        await asyncio.to_thread(agent.close)
        seen.append(sums(await receiver.poll()))
        return seen

    during, after = run(test)
    assert after["calls"] == 3
    assert during in ({}, after)


# Recorded bodies

COVERED = {
    "otelgenai-anthropic": "weather-agent",
    "otelgenai-langgraph": "weather_agent",
    "otelgenai-langgraph-three": "weather_agent",
    "openinference-anthropic": "weather-agent",
    "openinference-langgraph": "weather-agent",
    "openinference-langgraph-three": "weather-agent",
    "openinference-openai-agents": "Weather Agent",
    "openinference-openai-agents-loop": "Weather Agent",
    "openllmetry-openai-agents": "Weather Agent",
    "openllmetry-openai-agents-loop": "Weather Agent",
    "openllmetry-openai-agents-three": "Weather Agent",
}
NO_TOKENS = "its spans carry no tokens unless the OpenAI instrumentation is on, too"
NOT_COVERED = {
    "openllmetry-langgraph": "its spans do not part reasoning from output",
    "otelgenai-openai-agents": NO_TOKENS,
    "otelgenai-openai-agents-loop": NO_TOKENS,
    "otelgenai-openai-agents-three": NO_TOKENS,
    "openinference-claude-agent-sdk": "usage is on the agent's span alone, with 4 of 240 output "
    "tokens: the metrics of the program itself have them",
    "claude-code": "which tool and whether it went well are on different spans",
    "claude-code-json": "which tool and whether it went well are on different spans",
}
WITH_TRUTH = [
    *COVERED,
    *(
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=reason))
        for name, reason in NOT_COVERED.items()
    ),
]


def bodies(case: str, suffix: str = "json") -> list[bytes]:
    folder = data(f"agents/otlp/{case}")
    return [path.read_bytes() for path in sorted(folder.glob(f"*_POST_v1_traces.{suffix}"))]


def expected(case: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(data("agents/expected.json").read_text())[case]
    return told


def replay(sent: list[bytes], kind: str = JSON) -> Batch:
    async def test(receiver: Receiver) -> Batch:
        for body in sent:
            assert (await receiver.post(body, kind)).status == 200
        return await receiver.poll()

    found: Batch = run(test, settle=0)
    return found


def told(truth: dict[str, Any]) -> dict[str, int]:
    """A recording's truth by our types, which do not overlap; its parts are in the wholes."""
    found = {
        "input": truth["input"] - truth["cache_read"] - truth["cache_write"],
        "cache_read": truth["cache_read"],
        "cache_write": truth["cache_write"],
        "output": truth["output"] - truth["reasoning"],
        "reasoning": truth["reasoning"],
        **{key: truth[key] for key in ("calls", "tool_calls", "tool_errors")},
    }
    return {key: count for key, count in found.items() if count}


def counted(batch: Batch) -> dict[str, int]:
    return {key: count for key, count in sums(batch).items() if count and key != "errors"}


@pytest.mark.parametrize("case", WITH_TRUTH)
def test_recorded_bodies_give_the_truth(case: str) -> None:
    sent = bodies(case)
    batch = replay(sent)
    assert counted(batch) == told(expected(case)["truth"])
    assert {key[0] for key in values(batch, "agent.calls")} == {COVERED.get(case)}
    assert sums(replay(sent + sent)) == sums(batch)


@pytest.mark.parametrize(
    "case", [*COVERED, "otelgenai-openai-agents-three", "openllmetry-langgraph"]
)
def test_recorded_tool_calls_give_the_truth(case: str) -> None:
    truth, found = expected(case)["truth"], counted(replay(bodies(case)))
    for key in ("tool_calls", "tool_errors"):
        assert found.get(key, 0) == truth[key]


@pytest.mark.parametrize("case", [*COVERED, *NOT_COVERED])
def test_order_and_encoding_of_recorded_bodies_change_nothing(case: str) -> None:
    sent = bodies(case)
    batch = replay(sent)
    backwards = [orjson.dumps(_reversed(orjson.loads(body))) for body in reversed(sent)]
    assert sums(replay(backwards)) == sums(batch)
    if packed := bodies(case, "pb"):
        again = replay(packed, PROTOBUF)
        assert sums(again) == sums(batch)
        assert set(again.keys) == set(batch.keys)


def _reversed(value: Any) -> Any:
    if isinstance(value, list):
        return [_reversed(one) for one in reversed(value)]
    if isinstance(value, dict):
        return {key: _reversed(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize(
    ("case", "failed"),
    [
        ("otelgenai-openai", 1),
        ("otelgenai-openai-default", 1),
        ("otel-openai-v2-legacy", 1),
        ("openinference-openai", 1),
        ("openinference-langgraph-loop", 0),
        ("openllmetry-openai", 1),
        ("openllmetry-langgraph-loop", 0),
        ("openllmetry040-openai", 1),
        ("openllmetry040-anthropic", 0),
        ("claude-code", 0),
        ("langsmith-otel", 0),
    ],
)
def test_recorded_bodies_without_doubles_give_the_sum_of_their_spans(
    case: str, failed: int
) -> None:
    naive, found = expected(case)["naive_span_sum"], sums(replay(bodies(case)))
    parts = ("input",) if case == "claude-code" else ("input", "cache_read", "cache_write")
    assert sum(found.get(part, 0) for part in parts) == naive["span_sum_input"]
    output = found["output"] + found.get("reasoning", 0)
    assert output == naive["span_sum_output"]
    assert found["errors"] == failed


def test_a_body_as_claude_code_sends_it() -> None:
    """JSON in chunks, its length unknown."""

    sent = bodies("claude-code-json")

    async def test(receiver: Receiver) -> dict[str, int]:
        for body in sent:

            async def chunks(body: bytes = body) -> Any:
                for start in range(0, len(body), 1000):
                    yield body[start : start + 1000]

            assert (await receiver.post(chunks(), JSON)).status == 200
        return sums(await receiver.poll())

    found = run(test)
    assert found["input"] + found["cache_read"] + found["cache_write"] == 37_366
    assert (found["output"], found["calls"]) == (240, 4)


# The protocol


def test_success_is_answered_in_the_encoding_of_the_request() -> None:
    async def test(receiver: Receiver) -> list[Answer]:
        return [
            await receiver.post(request(CHAT)),
            await receiver.post(gzip.compress(request(CHAT)), Content_Encoding="gzip"),
            await receiver.post(b'{"resourceSpans": []}', JSON),
            await receiver.post(
                gzip.compress(b"{}"), JSON + "; charset=utf-8", Content_Encoding="gzip"
            ),
        ]

    answers = run(test)
    assert [(a.status, a.kind, a.body) for a in answers] == [
        (200, PROTOBUF, b""),
        (200, PROTOBUF, b""),
        (200, JSON, b"{}"),
        (200, JSON, b"{}"),
    ]


@pytest.mark.parametrize(
    ("kind", "body", "headers", "status", "message"),
    [
        (PROTOBUF, b"\xff" * 50, {}, 400, "64 bits"),
        (JSON, b"{", {}, 400, "no JSON"),
        (JSON, b'{"resourceSpans": 1}', {}, 400, "resourceSpans is no array"),
        (PROTOBUF, b"text", {"Content_Encoding": "gzip"}, 400, "no gzip stream"),
        (
            JSON,
            gzip.compress(b"{}" * 99, mtime=0)[:-9],
            {"Content_Encoding": "gzip"},
            400,
            "cut short",
        ),
        (PROTOBUF, BOMB, {"Content_Encoding": "gzip"}, 413, "when decompressed"),
        (JSON, BOMB, {"Content_Encoding": "gzip"}, 413, "when decompressed"),
        (PROTOBUF, bytes(70_000), {}, 413, "65536 bytes at most"),
        ("text/plain", b"", {}, 415, "not text/plain"),
        (PROTOBUF, b"", {"Content_Encoding": "zstd"}, 415, "not zstd"),
    ],
)
def test_what_is_wrong_is_answered_with_a_status(
    kind: str, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    async def test(receiver: Receiver) -> tuple[Answer, Batch]:
        answer = await receiver.post(body, kind, **headers)
        assert (await receiver.post(request(CHAT))).status == 200
        return answer, await receiver.poll()

    answer, batch = run(test, max_body_bytes=65_536, max_decompressed_bytes=1 << 20)
    assert (answer.status, answer.kind) == (status, JSON if kind == "text/plain" else kind)
    assert message in answer.message
    assert sums(batch)["calls"] == 1
    assert values(batch, "otlp.requests") == {
        ("otlp", "", "traces", str(status)): 1,
        ("otlp", "", "traces", "200"): 1,
    }


def test_a_body_without_a_length_is_limited_as_it_comes() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 14
            yield bytes(1 << 14)

    async def test(receiver: Receiver) -> int | None:
        try:
            return (await receiver.post(endless())).status
        except aiohttp.ClientConnectionError:  # it closed before all was sent
            return None

    assert run(test, max_body_bytes=1 << 16) in (413, None)
    assert sent < 64 << 20


def test_a_bomb_of_parts_is_refused() -> None:
    spans = b"\x12\x00" * (16 << 20)

    def nested(body: bytes) -> bytes:
        size = len(body)
        return (
            b"\x0a" + bytes((*((size >> s) & 0x7F | 0x80 for s in (0, 7, 14)), size >> 21)) + body
        )

    body = gzip.compress(nested(b"\x12" + nested(spans)[1:]), 1)

    async def test(receiver: Receiver) -> Answer:
        return await receiver.post(body, Content_Encoding="gzip")

    answer = run(test)
    assert answer.status == 413
    assert "parts" in answer.message


def test_a_large_body_is_read_on_a_thread() -> None:
    """Larger than what is read at once, so that the loop goes on meanwhile."""
    prompt = {"gen_ai.input.messages": "x" * 3000}
    body = request(*({**CHAT, **prompt} for _ in range(2 * otlp.SLICE + 1)))
    assert len(body) > otlp.INLINE

    async def test(receiver: Receiver) -> dict[str, int]:
        packed = gzip.compress(body, 1)
        assert (await receiver.post(packed, Content_Encoding="gzip")).status == 200
        return sums(await receiver.poll())

    assert run(test)["calls"] == 2 * otlp.SLICE + 1


def test_too_much_at_once_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "HELD", 0.5)

    async def test(receiver: Receiver) -> tuple[Answer, Answer]:
        return await receiver.post(bytes(60_000)), await receiver.post(request(CHAT))

    refused, taken = run(test, max_body_bytes=65_536)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert taken.status == 200


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RECEIVE", 0.05)

    async def test(receiver: Receiver) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.plugin.port)
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        answer = await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
        return answer

    assert b" 408 " in run(test)


def test_spans_with_invalid_ids_are_rejected_and_the_others_taken() -> None:
    good = ExportTraceServiceRequest.FromString(request(CHAT, CHAT))
    good.resource_spans[0].scope_spans[1].spans[0].trace_id = bytes(16)

    async def test(receiver: Receiver) -> tuple[Answer, Batch]:
        return await receiver.post(good.SerializeToString()), await receiver.poll()

    answer, batch = run(test)
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_spans) == (200, 1)
    assert "id" in partial.error_message
    assert sums(batch)["calls"] == 1
    assert values(batch, "otlp.spans")["otlp", "", "rejected"] == 1


def test_other_signals_are_taken_but_said_to_be_unread() -> None:
    async def test(receiver: Receiver) -> tuple[Answer, Answer, Batch]:
        logs = await receiver.post(b"", path="/v1/logs")
        metrics = await receiver.post(b"{}", JSON, "/v1/metrics")
        return logs, metrics, await receiver.poll()

    logs, metrics, batch = run(test)
    assert logs.status == metrics.status == 200
    partial = ExportLogsServiceResponse.FromString(logs.body).partial_success
    assert "not read yet" in partial.error_message
    assert "not read yet" in orjson.loads(metrics.body)["partialSuccess"]["errorMessage"]
    assert set(values(batch, "otlp.requests")) == {
        ("otlp", "", "logs", "200"),
        ("otlp", "", "metrics", "200"),
    }


def test_other_methods_and_paths() -> None:
    async def test(receiver: Receiver) -> tuple[int, int]:
        async with receiver.session.get(receiver.url + "/v1/traces") as answer:
            return answer.status, (await receiver.post(b"", path="/v2/traces")).status

    assert run(test) == (405, 404)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=300),
            st.sampled_from((PROTOBUF, JSON, "text/plain")),
            st.sampled_from(("gzip", "identity", "br")),
            st.booleans(),
            st.sampled_from(("/v1/traces", "/v1/logs")),
        ),
        max_size=5,
    )
)
def test_garbage_is_never_an_error_of_the_server(
    sent: list[tuple[bytes, str, str, bool, str]],
) -> None:
    async def test(receiver: Receiver) -> list[int]:
        found = []
        for body, kind, coding, packed, path in sent:
            payload = gzip.compress(body) if packed else body
            answer = await receiver.post(payload, kind, path, Content_Encoding=coding)
            found.append(answer.status)
        return found

    assert set(run(test)) <= {200, 400, 415}


def test_chunks_that_are_none_are_no_error_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RECEIVE", 0.2)

    async def test(receiver: Receiver) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.plugin.port)
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        await writer.drain()
        writer.write(b"zz\r\nnonsense\r\n")
        answer = await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
        return answer

    assert run(test).split()[1] in (b"400", b"408")


def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)

    async def test(receiver: Receiver) -> tuple[bool, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.plugin.port)
        writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n")
        await writer.drain()
        try:
            await receiver.post(request(CHAT))
            refused = False
        except aiohttp.ClientConnectionError:
            refused = True
        kind = f"Content-Type: {JSON}\r\nContent-Length: 2\r\n\r\n{{}}"
        writer.write(kind.encode())
        status = (await reader.readuntil(b"\r\n")).split()[1]
        writer.close()
        await writer.wait_closed()
        return refused, int(status)

    assert run(test) == (True, 200)


# The plugin


def test_counters_are_reported_at_every_poll() -> None:
    async def test(receiver: Receiver) -> tuple[Batch, Batch]:
        await receiver.post(request(CHAT))
        return await receiver.poll(), await receiver.poll()

    first, second = run(test)
    assert dict(zip(first.keys, first.values, strict=True)) == dict(
        zip(second.keys, second.values, strict=True)
    )
    assert (len(first.calls), len(second.calls)) == (1, 0)


def test_it_can_be_closed_and_opened_again() -> None:
    async def test(receiver: Receiver) -> dict[str, int]:
        await receiver.post(request(CHAT))
        await receiver.plugin.close()
        with pytest.raises(RuntimeError):
            _ = receiver.plugin.port
        await receiver.plugin.open()
        receiver.url = f"http://127.0.0.1:{receiver.plugin.port}"
        await receiver.post(request(CHAT, CHAT))
        return sums(await receiver.poll())

    assert run(test)["calls"] == 2  # the first was sent again


def test_a_port_that_is_taken_is_named() -> None:
    async def test(receiver: Receiver) -> None:
        second = Otlp(listen_address=f"127.0.0.1:{receiver.plugin.port}")
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{receiver.plugin.port}"):
            await second.open()
        await second.close()

    run(test)


@pytest.mark.parametrize("address", ["4318", "localhost", "a:b", "a:70000", "::1:4318", ""])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ValidationError, match="write host:port"):
        Otlp(listen_address=address)


def test_it_listens_on_ipv6() -> None:
    async def main() -> int:
        plugin = Otlp(listen_address="[::1]:0")
        try:
            await plugin.open()
        except OSError:
            pytest.skip("no IPv6 here")
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"http://[::1]:{plugin.port}/v1/traces", json={}) as answer,
            ):
                return answer.status
        finally:
            await plugin.close()

    assert asyncio.run(main()) == 200


def test_it_records_spans_without_prompts(tmp_path: Path) -> None:
    secret = {"gen_ai.input.messages": "the secret", "http.url": "http://secret"}

    async def record() -> None:
        plugin = Otlp(listen_address="127.0.0.1:0")
        recording = asyncio.create_task(plugin.record(tmp_path))
        while plugin._port is None:
            await asyncio.sleep(0.001)
        async with aiohttp.ClientSession() as session:
            headers = {"Content-Type": PROTOBUF}
            url = f"http://127.0.0.1:{plugin.port}/v1/traces"
            await session.post(url, data=request({**CHAT, **secret}), headers=headers)
        await recording

    asyncio.run(record())
    (saved,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "secret" not in saved.read_text()
    assert counted(replay([saved.read_bytes()])) == {"calls": 1, "input": 12, "output": 5}
