"""Layer 9, agents."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

TOKENS = Metric(
    "agent.tokens",
    COUNTER,
    "{token}",
    Kind.AGENT,
    "Tokens of the agent's model calls by type: input without cached, cache_read, cache_write, "
    "output without reasoning, reasoning. The types do not overlap: their sum is the total.",
    ("gen_ai.request.model", "gen_ai.token.type"),
)
CALLS = Metric(
    "agent.calls",
    COUNTER,
    "{call}",
    Kind.AGENT,
    "Model calls; error.type is empty for those that went well.",
    ("gen_ai.request.model", "error.type"),
)
TOOL_CALLS = Metric(
    "agent.tool_calls",
    COUNTER,
    "{call}",
    Kind.AGENT,
    "Tool calls by tool and outcome (ok, error), as their spans' status says.",
    ("gen_ai.tool.name", "outcome"),
)
CALL_TIME = Metric(
    "agent.call.time",
    COUNTER,
    "s",
    Kind.AGENT,
    "Time spent in model calls.",
    ("gen_ai.request.model",),
)
SPANS = Metric(
    "otlp.spans",
    COUNTER,
    "{span}",
    Kind.SOURCE,
    "Spans received by what became of them: counted, overflow (counted, on the agent _OTHER, for "
    "there are more agents than are told apart), duplicate, other (no model or tool call), "
    "rejected (invalid ids).",
    ("outcome",),
)
REQUESTS = Metric(
    "otlp.requests",
    COUNTER,
    "{request}",
    Kind.SOURCE,
    "OTLP requests received by signal (traces, metrics, logs) and HTTP status.",
    ("signal", "http.response.status_code"),
)
PENDING = Metric(
    "otlp.spans.pending",
    GAUGE,
    "{span}",
    Kind.SOURCE,
    "Model and tool calls that wait for the span of their agent.",
)
