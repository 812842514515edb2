"""Processor time per span of the OTLP receiver, over HTTP, by encoding.

The yardstick is the least that any receiver in Python does: parse the request with the generated
protobuf classes and look at every attribute once. `python -m tests.benchmarks.otlp_in [--profile]`.
"""

from __future__ import annotations

import asyncio
import cProfile
import gzip
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import orjson
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.batch import Batch
from collector.entity import Kind
from plugins.agents.otlp import Otlp

SPANS = 500  # of one request; the SDKs' batches have 512
REQUESTS = 60
ROUNDS = 5
AGENT_EVERY = 10  # spans to one of an agent

# Sends bodies in a process of its own, so that its time is not the receiver's.
CLIENT = """
import http.client, sys
port, kind, coding, sizes = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
connection = http.client.HTTPConnection("127.0.0.1", port)
for size in map(int, sizes.split(",")):
    headers = {"Content-Type": kind} | ({"Content-Encoding": coding} if coding else {})
    connection.request("POST", "/v1/traces", sys.stdin.buffer.read(size), headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
"""


def request() -> ExportTraceServiceRequest:
    """Make a request as opentelemetry-instrumentation-genai-openai 1.3b0 sends it."""
    body = ExportTraceServiceRequest()
    resource_spans = body.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "agents"
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "opentelemetry.instrumentation.genai.openai"
    trace = parent = b""
    for number in range(SPANS):
        if number % AGENT_EVERY == 0:
            trace, parent = os.urandom(16), os.urandom(8)
        own = number % AGENT_EVERY == AGENT_EVERY - 1  # the agent's span ends after its calls
        span = scope_spans.spans.add(
            trace_id=trace,
            span_id=parent if own else os.urandom(8),
            parent_span_id=b"" if own else parent,
            name="invoke_agent planner" if own else "chat gpt-4o-mini",
            kind=3,
            start_time_unix_nano=time.time_ns() - 10**9,
            end_time_unix_nano=time.time_ns(),
            flags=256,
        )
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "invoke_agent" if own else "chat",
            "gen_ai.provider.name": "openai",
        }
        if own:
            attributes["gen_ai.agent.name"] = f"planner-{number % 20}"
        else:
            attributes |= {
                "gen_ai.request.model": "gpt-4o-mini",
                "server.address": "127.0.0.1",
                "server.port": 8000,
                "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "gen_ai.response.id": f"chatcmpl-{os.urandom(8).hex()}",
                "gen_ai.usage.input_tokens": 1200,
                "gen_ai.usage.output_tokens": 45,
                "gen_ai.usage.cache_read.input_tokens": 1024,
                "gen_ai.usage.reasoning.output_tokens": 32,
                "openai.response.service_tier": "default",
                "openai.response.system_fingerprint": "fp_44709d6fcb",
            }
        for key, value in attributes.items():
            held = span.attributes.add(key=key).value
            if isinstance(value, str):
                held.string_value = value
            else:
                held.int_value = value
    return body


def to_json(body: ExportTraceServiceRequest) -> bytes:
    """Encode as OTLP/JSON: the ids are hex."""
    told = json_format.MessageToDict(body, use_integers_for_enums=True)
    spans = told["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for span, message in zip(spans, body.resource_spans[0].scope_spans[0].spans, strict=True):
        span["traceId"] = message.trace_id.hex()
        span["spanId"] = message.span_id.hex()
        span["parentSpanId"] = message.parent_span_id.hex()
    return orjson.dumps(told)


async def receive(bodies: list[bytes], kind: str, coding: str) -> int:
    """Let a receiver take the bodies; gives its processor time in nanoseconds."""
    plugin = Otlp(listen_address="127.0.0.1:0")
    await plugin.open()
    sizes = ",".join(str(len(body)) for body in bodies)
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, str(plugin.port), kind, coding, sizes),
        stdin=subprocess.PIPE,
    )
    assert client.stdin is not None
    used = time.process_time_ns()
    client.stdin.write(b"".join(bodies))
    client.stdin.close()
    await client.wait()
    batch = Batch(Kind.HOST("h"), time.time(), Otlp.metrics)
    await plugin.poll(batch)
    used = time.process_time_ns() - used
    await plugin.close()
    assert len(batch.calls) == len(bodies) * SPANS * (AGENT_EVERY - 1) // AGENT_EVERY
    return used


async def parse(bodies: list[bytes]) -> int:
    """Parse the bodies with the generated classes; gives the processor time in nanoseconds."""
    used = time.process_time_ns()
    for body in bodies:
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    for attribute in span.attributes:
                        getattr(attribute.value, attribute.value.WhichOneof("value") or "")
    return time.process_time_ns() - used


def main() -> None:
    """Measure and print."""
    made = [request() for _ in range(REQUESTS)]
    plain = [body.SerializeToString() for body in made]
    packed = [gzip.compress(body, 6) for body in plain]
    json = [to_json(body) for body in made]
    protobuf = "application/x-protobuf"
    runs: dict[str, Callable[[], Awaitable[int]]] = {
        "yardstick: generated classes, no HTTP": lambda: parse(plain),
        "receiver, protobuf": lambda: receive(plain, protobuf, ""),
        "receiver, protobuf, gzip": lambda: receive(packed, protobuf, "gzip"),
        "receiver, JSON": lambda: receive(json, "application/json", ""),
    }
    if "--profile" in sys.argv:
        profile = cProfile.Profile(time.thread_time)
        profile.enable()
        asyncio.run(receive(plain, protobuf, ""))
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(asyncio.run(run()) / (REQUESTS * SPANS))  # type: ignore[arg-type]
    medians = {name: statistics.median(found) for name, found in times.items()}
    yardstick = next(iter(medians.values()))
    print(f"OTLP in: requests of {SPANS} spans, one in {AGENT_EVERY} an agent's; {ROUNDS} rounds")
    for name, nanoseconds in medians.items():
        rate = 1e9 / nanoseconds
        print(
            f"{name:40} {nanoseconds:8.0f} ns/span {rate:9.0f} spans/s of CPU "
            f"{nanoseconds / yardstick:5.2f} x yardstick"
        )


if __name__ == "__main__":
    main()
