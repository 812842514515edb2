"""An agent made with the real OpenTelemetry SDK: it reports GenAI spans and knows the truth.

`python -m tests.fakes.agent --endpoint http://127.0.0.1:4318 --agent planner --model llama
--calls 20 --rate 5` reports 20 model calls, 5 a second, and prints the truth as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

SCOPE = "opentelemetry.instrumentation.genai.openai"


@dataclass
class Called:
    """One model call as the agent made it; tokens as OpenAI counts them, parts in the whole."""

    model: str
    start: float  # seconds since the epoch
    end: float
    input_tokens: int
    cache_read: int
    output_tokens: int
    reasoning: int = 0
    error: str = ""
    tool: str = ""  # called after it
    tool_error: bool = False
    server: str = ""  # address:port


@dataclass
class Truth:
    """What the receiver should come to say of one agent."""

    agent: str
    calls: list[Called] = field(default_factory=list)

    def tokens(self) -> dict[tuple[str, str], int]:
        """Tokens by model and by type, types not overlapping."""
        total: dict[tuple[str, str], int] = {}
        for call in self.calls:
            if call.error:
                continue
            for kind, tokens in (
                ("input", call.input_tokens - call.cache_read),
                ("cache_read", call.cache_read),
                ("output", call.output_tokens - call.reasoning),
                ("reasoning", call.reasoning),
            ):
                total[call.model, kind] = total.get((call.model, kind), 0) + tokens
        return total

    def model_calls(self) -> dict[tuple[str, str], int]:
        """Model calls by model and error."""
        total: dict[tuple[str, str], int] = {}
        for call in self.calls:
            total[call.model, call.error] = total.get((call.model, call.error), 0) + 1
        return total

    def tool_calls(self) -> dict[tuple[str, str], int]:
        """Tool calls by tool and outcome."""
        total: dict[tuple[str, str], int] = {}
        for call in self.calls:
            if call.tool:
                key = call.tool, "error" if call.tool_error else "ok"
                total[key] = total.get(key, 0) + 1
        return total


class Agent:
    """Reports calls by OTLP over HTTP with the SDK's own exporter.

    Args:
        endpoint: `http://host:port` of the receiver.
        name: `gen_ai.agent.name`; only the agent's own span carries it unless `named_calls`.
        service: `service.name` of the resource.
        gzip: Let the exporter compress.
        named_calls: Write the agent's name on the spans of calls, too.
        delay: Seconds for which the SDK collects spans before it sends them.
    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        *,
        service: str = "agents",
        gzip: bool = False,
        named_calls: bool = False,
        delay: float = 1.0,
    ) -> None:
        self.truth = Truth(name)
        self._named = {"gen_ai.agent.name": name} if named_calls else {}
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint}/v1/traces",
            compression=Compression.Gzip if gzip else Compression.NoCompression,
            timeout=10,
        )
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=delay * 1000)
        )
        self._tracer = self._provider.get_tracer(SCOPE, "1.3b0")

    def run(self, calls: Iterable[Called]) -> None:
        """Report one run of the agent: its span, with the calls below it."""
        name = self.truth.agent
        made = list(calls)
        begin = _nanoseconds(made[0].start) if made else time.time_ns()
        span = self._tracer.start_span(
            f"invoke_agent {name}",
            attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name},
            start_time=begin,
        )
        for call in made:
            self._report(call, set_span_in_context(span))
        span.end(_nanoseconds(made[-1].end) if made else begin)
        self.truth.calls += made

    def flush(self) -> None:
        """Send what was not sent yet."""
        if not self._provider.force_flush(10_000):
            raise TimeoutError("the spans could not be sent within 10 s")

    def close(self) -> None:
        """Send what was not sent yet and end."""
        self._provider.shutdown()

    def _report(self, call: Called, context: Context) -> None:
        attributes: dict[str, str | int] = {
            **self._named,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": call.model,
        }
        if call.server:
            address, _, port = call.server.rpartition(":")
            attributes |= {"server.address": address, "server.port": int(port)}
        if call.error:
            attributes["error.type"] = call.error
        else:
            attributes |= {
                "gen_ai.response.id": f"chatcmpl-{random.getrandbits(64):016x}",
                "gen_ai.response.model": call.model,
                "gen_ai.usage.input_tokens": call.input_tokens,
                "gen_ai.usage.cache_read.input_tokens": call.cache_read,
                "gen_ai.usage.output_tokens": call.output_tokens,
                "gen_ai.usage.reasoning.output_tokens": call.reasoning,
            }
        span = self._tracer.start_span(
            f"chat {call.model}",
            context,
            SpanKind.CLIENT,
            attributes,
            start_time=_nanoseconds(call.start),
        )
        if call.error:
            span.set_status(Status(StatusCode.ERROR, call.error))
        span.end(_nanoseconds(call.end))
        if call.tool:
            tool = self._tracer.start_span(
                f"execute_tool {call.tool}",
                context,
                attributes={
                    **self._named,
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": call.tool,
                },
                start_time=_nanoseconds(call.end),
            )
            if call.tool_error:
                tool.set_status(Status(StatusCode.ERROR, "upstream 503"))
            tool.end(_nanoseconds(call.end) + 1_000_000)


def calls(model: str, count: int, seed: int = 0, *, start: float, server: str = "") -> list[Called]:
    """Make up calls, one after the other from `start`: some cached, some that fail."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        prompt, answer = draw.randrange(100, 4000), draw.randrange(10, 400)
        end = start + draw.uniform(0.2, 2.0)
        made.append(
            Called(
                model=model,
                start=start,
                end=end,
                input_tokens=prompt,
                cache_read=draw.choice((0, prompt // 2)),
                output_tokens=answer,
                reasoning=draw.choice((0, answer // 4)),
                error="openai.RateLimitError" if draw.random() < 0.1 else "",
                tool=draw.choice(("", "search", "get_weather")),
                tool_error=draw.random() < 0.2,
                server=server,
            )
        )
        start = end
    return made


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _paced(model: str, count: int, rate: float, server: str) -> Iterator[Called]:
    """Calls that end as they happen."""
    for index in range(count):
        start = time.time()
        time.sleep(1 / rate)
        yield from (
            Called(**(asdict(call) | {"start": start, "end": time.time()}))
            for call in calls(model, 1, index, start=start, server=server)
        )


def main() -> None:
    """Run an agent from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", default="http://127.0.0.1:4318")
    parser.add_argument("--agent", default="planner")
    parser.add_argument("--model", default="llama")
    parser.add_argument("--service", default="agents")
    parser.add_argument("--server", default="", help="address:port of the engine")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--rate", type=float, default=5.0, help="calls a second")
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    agent = Agent(options.endpoint, options.agent, service=options.service, gzip=options.gzip)
    for call in _paced(options.model, options.calls, options.rate, options.server):
        agent.run([call])
    agent.close()
    print(json.dumps(asdict(agent.truth)))


if __name__ == "__main__":
    main()
