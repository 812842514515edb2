"""What a span says of a model call or a tool call, in whichever vocabulary it says it.

There are several generations of OpenTelemetry's GenAI conventions and some vocabularies beside
them. Two tables hold what is known of them: which attribute means what, and which instrumentation
scopes mean something else by the same attribute. A new vocabulary is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

Scalar = str | int | float | bool

TOKEN_TYPES = ("input", "cache_read", "cache_write", "output", "reasoning")

MAX_TEXT = 256
"""Characters of a text that are kept: senders choose them, and some are remembered for long."""

MAX_TOKENS = 10**9
"""More than any model call can take; a larger count is not believed."""


class Span(NamedTuple):
    """One span as received, with the attributes that its scope's vocabulary knows.

    Ids are bytes, `parent` is empty for a root. Times are nanoseconds since the epoch, 0 where
    the sender gave none. `facts` maps our names of attributes to their values. No text is longer
    than `MAX_TEXT`.
    """

    trace: bytes
    id: bytes
    parent: bytes
    name: str
    scope: str
    service: str
    start: int
    end: int
    failed: bool
    facts: Mapping[str, Scalar]


class ModelCall(NamedTuple):
    """One call of a model.

    `tokens` has one count for each of `TOKEN_TYPES`, None where the span does not say. The types
    do not overlap. `server` is `address:port` or empty. `error` is empty where it went well.
    """

    model: str
    response: str
    server: str
    tokens: tuple[int | None, ...]
    error: str


class ToolCall(NamedTuple):
    """One call of a tool."""

    tool: str
    failed: bool


class Vocabulary(NamedTuple):
    """How spans of some instrumentation scopes are to be read.

    Args:
        names: Maps names of attributes to ours. Of several that mean the same the first one on
            the span counts.
        exclusive: Input tokens leave out those that were read from or written to the cache.
    """

    names: Mapping[str, str]
    exclusive: bool = False


# OpenTelemetry's conventions up to semantic-conventions-genai v0.1.0, OpenLLMetry (`traceloop.*`,
# `llm.request.type`) and OpenInference (`llm.*`, `openinference.*`). Their names do not collide.
_COMMON = {
    "gen_ai.operation.name": "operation",
    "llm.request.type": "request_type",
    "openinference.span.kind": "span_kind",
    "traceloop.span.kind": "span_kind",
    "gen_ai.agent.name": "agent",
    "agent.name": "agent",
    "gen_ai.request.model": "model",
    "llm.request.model_name": "model",
    "gen_ai.response.model": "response_model",
    "llm.model_name": "response_model",
    "gen_ai.response.id": "response",
    "gen_ai.usage.input_tokens": "input",
    "gen_ai.usage.prompt_tokens": "input",
    "llm.token_count.prompt": "input",
    "gen_ai.usage.cache_read.input_tokens": "cache_read",
    "gen_ai.usage.cache_read_input_tokens": "cache_read",
    "llm.token_count.prompt_details.cache_read": "cache_read",
    "gen_ai.usage.cache_write.input_tokens": "cache_write",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write",
    "gen_ai.usage.cache_creation_input_tokens": "cache_write",
    "llm.token_count.prompt_details.cache_write": "cache_write",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
    "llm.token_count.completion": "output",
    "gen_ai.usage.reasoning.output_tokens": "reasoning",
    "gen_ai.usage.reasoning_tokens": "reasoning",
    "llm.token_count.completion_details.reasoning": "reasoning",
    "server.address": "address",
    "server.port": "port",
    "gen_ai.openai.api_base": "url",
    "gen_ai.tool.name": "tool",
    "tool.name": "tool",
    "error.type": "error",
}

# `claude_code.*` spans. Those of tools are left out: which tool and whether it went well are on
# different spans.
_CLAUDE_CODE = {
    "span.type": "claude_code",
    "gen_ai.request.model": "model",
    "input_tokens": "input",
    "cache_read_tokens": "cache_read",
    "cache_creation_tokens": "cache_write",
    "output_tokens": "output",
    "status_code": "error_code",
}

_DEFAULT = Vocabulary(_COMMON)
_BY_SCOPE = {
    "com.anthropic.claude_code": Vocabulary(_CLAUDE_CODE, exclusive=True),
    "openlit": Vocabulary(_COMMON, exclusive=True),
}

# What the values of the attributes that tell a span's kind mean; the first that means one of the
# two decides. Agents, chains, workflows and retrievals are neither.
_MODEL, _TOOL = "model", "tool"
_KINDS: tuple[tuple[str, dict[Scalar | None, str]], ...] = (
    (
        "operation",
        {
            "chat": _MODEL,
            "generate_content": _MODEL,
            "text_completion": _MODEL,
            "embeddings": _MODEL,
            "execute_tool": _TOOL,
        },
    ),
    ("request_type", {"chat": _MODEL, "completion": _MODEL, "embedding": _MODEL}),
    ("span_kind", {"LLM": _MODEL, "EMBEDDING": _MODEL, "TOOL": _TOOL, "tool": _TOOL}),
    ("claude_code", {"llm_request": _MODEL}),
)


@lru_cache(maxsize=1024)
def vocabulary(scope: str) -> Vocabulary:
    """Return how the spans of an instrumentation scope are to be read."""
    for prefix, found in _BY_SCOPE.items():
        if scope == prefix or scope.startswith(prefix + "."):
            return found
    return _DEFAULT


def read(span: Span) -> ModelCall | ToolCall | None:
    """Say what call the span reports; None for one of something else.

    An agent's span is something else, whatever usage it carries: that of its model calls is on
    their own spans.
    """
    facts = span.facts
    if not facts:
        return None
    for name, kinds in _KINDS:
        kind = kinds.get(facts.get(name))
        if kind is not None:
            break
    else:
        return None
    if kind is _MODEL:
        return ModelCall(
            _text(facts.get("model") or facts.get("response_model")),
            _text(facts.get("response")),
            _server(facts),
            _tokens(facts, vocabulary(span.scope).exclusive),
            _error(span),
        )
    return ToolCall(_text(facts.get("tool")) or span.name, bool(_error(span)))


def agent(span: Span) -> str:
    """Return the name of the agent that the span itself names, or an empty string."""
    return _text(span.facts.get("agent"))


def _error(span: Span) -> str:
    """Return what went wrong, empty where nothing did; `_OTHER` is the conventions' "unnamed"."""
    error = span.facts.get("error")
    if error or not span.failed:
        return _text(error)
    return _text(span.facts.get("error_code")) or "_OTHER"


def _text(value: Scalar | None) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _server(facts: Mapping[str, Scalar]) -> str:
    address, port = facts.get("address"), facts.get("port")
    if address is None:
        return _server_of(_text(facts.get("url")))
    if not address or not port:
        return ""
    return f"[{address}]:{port}" if ":" in _text(address) else f"{address}:{port}"


@lru_cache(maxsize=1024)
def _server_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return _server({"address": parts.hostname or "", "port": port or ""})


def _tokens(facts: Mapping[str, Scalar], exclusive: bool) -> tuple[int | None, ...]:
    """Part a call's tokens into types that do not overlap.

    Input contains what the cache served and took in unless the scope is known to count without
    them, or a part that is larger than the whole shows that it does. So with reasoning in output.
    """
    whole = _count(facts.get("input"))
    cached, written = _count(facts.get("cache_read")), _count(facts.get("cache_write"))
    output, reasoning = _count(facts.get("output")), _count(facts.get("reasoning"))
    if whole is not None and not exclusive and max(cached or 0, written or 0) <= whole:
        whole = max(whole - (cached or 0) - (written or 0), 0)
    if output is not None and (reasoning or 0) <= output:
        output -= reasoning or 0
    return whole, cached, written, output, reasoning


def _count(value: Scalar | None) -> int | None:
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
    if value is None or isinstance(value, bool) or not 0 <= value <= MAX_TOKENS:
        return None
    return int(value)
