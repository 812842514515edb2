"""What spans of each vocabulary say."""

from typing import Any

import pytest

from plugins.agents._genai import (
    MAX_TOKENS,
    TOKEN_TYPES,
    ModelCall,
    Scalar,
    Span,
    ToolCall,
    agent,
    read,
    vocabulary,
)


def span(attributes: dict[str, Scalar], scope: str = "", failed: bool = False) -> Span:
    names = vocabulary(scope).names
    facts = {names[key]: value for key, value in attributes.items() if key in names}
    return Span(b"t" * 16, b"s" * 8, b"", "the span", scope, "svc", 1, 2, failed, facts)


def tokens(scope: str = "", **attributes: Any) -> dict[str, int]:
    usage = {"gen_ai.usage." + key.replace("__", "."): value for key, value in attributes.items()}
    call = read(span({"gen_ai.operation.name": "chat", **usage}, scope))
    assert isinstance(call, ModelCall)
    told = dict(zip(TOKEN_TYPES, call.tokens, strict=True))
    return {kind: count for kind, count in told.items() if count is not None}


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": "embeddings"},
        {"llm.request.type": "completion", "gen_ai.system": "OpenAI"},
        {"openinference.span.kind": "LLM"},
        {"gen_ai.operation.name": "my_wrapper", "openinference.span.kind": "LLM"},
    ],
)
def test_model_calls_are_recognised(attributes: dict[str, Scalar]) -> None:
    assert isinstance(read(span(attributes)), ModelCall)


@pytest.mark.parametrize(
    ("attributes", "tool"),
    [
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}, "search"),
        ({"openinference.span.kind": "TOOL", "tool.name": "search"}, "search"),
        ({"traceloop.span.kind": "tool"}, "the span"),
    ],
)
def test_tool_calls_are_recognised(attributes: dict[str, Scalar], tool: str) -> None:
    assert read(span(attributes)) == ToolCall(tool, failed=False)
    assert read(span(attributes, failed=True)) == ToolCall(tool, failed=True)
    assert read(span({**attributes, "error.type": "TimeoutError"})) == ToolCall(tool, failed=True)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.request.method": "POST"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 100},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"openinference.span.kind": "AGENT", "llm.token_count.prompt": 100},
        {"traceloop.span.kind": "workflow"},
        {"gen_ai.operation.name": 7},
    ],
)
def test_what_is_no_call_is_none(attributes: dict[str, Scalar]) -> None:
    assert read(span(attributes)) is None


def test_input_holds_what_the_cache_served_and_took() -> None:
    told = tokens(input_tokens=9340, cache_read__input_tokens=9000, cache_write__input_tokens=300)
    assert told == {"input": 40, "cache_read": 9000, "cache_write": 300}


@pytest.mark.parametrize("scope", ["openlit", "openlit.otel.tracing"])
def test_some_scopes_count_input_without_the_cache(scope: str) -> None:
    told = tokens(scope, input_tokens=340, cache_read__input_tokens=9, cache_write__input_tokens=30)
    assert told == {"input": 340, "cache_read": 9, "cache_write": 30}


def test_a_part_larger_than_the_whole_is_no_part_of_it() -> None:
    assert tokens(input_tokens=40, cache_read__input_tokens=9000)["input"] == 40
    assert tokens(input_tokens=40, cache_write__input_tokens=300)["input"] == 40
    assert tokens(output_tokens=40, reasoning__output_tokens=300)["output"] == 40


def test_names_of_all_generations_mean_the_same() -> None:
    told = {"input": 40, "cache_read": 100, "cache_write": 60, "output": 7, "reasoning": 3}
    assert told == tokens(
        input_tokens=200,
        cache_read__input_tokens=100,
        cache_write__input_tokens=60,
        output_tokens=10,
        reasoning__output_tokens=3,
    )
    assert told == tokens(
        prompt_tokens=200,
        cache_read_input_tokens=100,
        cache_creation_input_tokens=60,
        completion_tokens=10,
        reasoning_tokens=3,
    )
    assert told == tokens(
        input_tokens=200,
        cache_read__input_tokens=100,
        cache_creation__input_tokens=60,
        output_tokens=10,
        reasoning__output_tokens=3,
    )


def test_unknown_is_not_zero() -> None:
    assert tokens() == {}
    assert tokens(input_tokens=5) == {"input": 5}
    assert tokens(output_tokens=0) == {"output": 0}


@pytest.mark.parametrize(
    "value",
    [-1, True, "many", "", "1e3", "²", MAX_TOKENS + 1, float("nan"), float("inf"), "9" * 40],
)
def test_counts_that_cannot_be_are_unknown(value: Scalar) -> None:
    assert tokens(input_tokens=value) == {}


def test_counts_may_be_strings_or_whole_doubles() -> None:
    assert tokens(input_tokens="120", output_tokens=30.0) == {"input": 120, "output": 30}


def test_claude_code_spans() -> None:
    scope = "com.anthropic.claude_code.tracing"
    usage: dict[str, Scalar] = {
        "input_tokens": 40,
        "cache_read_tokens": 9000,
        "cache_creation_tokens": 300,
        "output_tokens": 60,
    }
    request = {"span.type": "llm_request", "gen_ai.request.model": "m", **usage}
    assert read(span(request, scope)) == ModelCall("m", "", "", (40, 9000, 300, 60, None), "")
    failed = read(span({**request, "status_code": 429}, scope, failed=True))
    assert isinstance(failed, ModelCall)
    assert failed.error == "429"
    # Which tool and whether it went well are on different spans: neither is a tool call.
    assert read(span({"span.type": "tool", "tool_name": "Bash"}, scope)) is None
    # The same bare names mean nothing elsewhere.
    assert read(span(request, "my.app")) is None


@pytest.mark.parametrize(
    ("attributes", "server"),
    [
        ({"server.address": "10.0.0.1", "server.port": 8000}, "10.0.0.1:8000"),
        ({"server.address": "10.0.0.1", "server.port": "8000"}, "10.0.0.1:8000"),
        ({"server.address": "::1", "server.port": 8000}, "[::1]:8000"),
        ({"server.address": "10.0.0.1"}, ""),
        ({"server.port": 8000}, ""),
        ({"gen_ai.openai.api_base": "http://10.0.0.1:8000/v1/"}, "10.0.0.1:8000"),
        ({"gen_ai.openai.api_base": "http://[::1]:8000/v1/"}, "[::1]:8000"),
        ({"gen_ai.openai.api_base": "https://me:secret@llm.example/v1"}, "llm.example:443"),
        ({"gen_ai.openai.api_base": "http://a:port/"}, ""),
        ({"gen_ai.openai.api_base": "//[::1"}, ""),
    ],
)
def test_server(attributes: dict[str, Scalar], server: str) -> None:
    call = read(span({"gen_ai.operation.name": "chat", **attributes}))
    assert isinstance(call, ModelCall)
    assert call.server == server


def test_model_is_the_requested_one_or_else_the_one_that_answered() -> None:
    chat: dict[str, Scalar] = {"gen_ai.operation.name": "chat", "gen_ai.response.model": "m-2024"}
    assert read(span(chat)).model == "m-2024"  # type: ignore[union-attr]
    assert read(span({**chat, "gen_ai.request.model": "m"})).model == "m"  # type: ignore[union-attr]


def test_errors() -> None:
    chat: dict[str, Scalar] = {"gen_ai.operation.name": "chat"}
    assert read(span(chat, failed=True)).error == "_OTHER"  # type: ignore[union-attr]
    assert read(span({**chat, "error.type": "429"})).error == "429"  # type: ignore[union-attr]


def test_agent_is_named_by_any_span() -> None:
    assert (
        agent(span({"gen_ai.agent.name": "planner", "gen_ai.operation.name": "chat"})) == "planner"
    )
    assert agent(span({"agent.name": "planner", "openinference.span.kind": "AGENT"})) == "planner"
    assert agent(span({"gen_ai.operation.name": "chat"})) == ""
