"""Each call is counted once, on its agent."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Call
from collector.entity import Kind
from plugins.agents import _accounts
from plugins.agents._accounts import AHEAD, IDLE, OTHER, Accounts
from plugins.agents._genai import Span, vocabulary
from plugins.agents._recent import Recent
from plugins.agents.otlp import Otlp

NOW = 1_700_000_000.0


class Account:
    """What a `Accounts` reports, by short names."""

    def __init__(self, spend: Accounts) -> None:
        self.batch = Batch(Kind.HOST("h"), NOW, Otlp.metrics)
        spend.report(self.batch, Kind.SOURCE("otlp", ""))
        self.values = {
            (key.metric.name, *key.entity.key, *key.labels): value
            for key, value in zip(self.batch.keys, self.batch.values, strict=True)
        }
        self.calls: list[Call] = self.batch.calls

    def tokens(self) -> dict[tuple[str, str], float]:
        total: Counter[tuple[str, str]] = Counter()
        for (name, agent, *labels), value in self.values.items():
            if name == "agent.tokens":
                total[agent, labels[1]] += value  # type: ignore[assignment]
        return dict(total)

    def model_calls(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for (name, agent, *_), value in self.values.items():
            if name == "agent.calls":
                total[agent] += value  # type: ignore[assignment]
        return dict(total)

    def outcome(self, word: str) -> float:
        return self.values["otlp.spans", "otlp", "", word]

    @property
    def pending(self) -> float:
        return self.values["otlp.spans.pending", "otlp", ""]


_ids = itertools.count(1)


def span(
    parent: Span | None = None,
    *,
    start: float = 100.0,
    end: float = 101.0,
    failed: bool = False,
    trace: bytes | None = None,
    **facts: Any,
) -> Span:
    number = next(_ids)
    return Span(
        trace or (parent.trace if parent else number.to_bytes(16, "big")),
        number.to_bytes(8, "big"),
        parent.id if parent else b"",
        "a span",
        "",
        "service",
        int(start * 1e9),
        int(end * 1e9),
        failed,
        facts,
    )


def chat(parent: Span | None = None, **facts: Any) -> Span:
    usual: dict[str, Any] = {"operation": "chat", "model": "m", "input": 10, "output": 3}
    told = {key: value for key, value in (usual | facts).items() if value is not None}
    return span(parent, **told)


def invoke(parent: Span | None = None, agent: str = "planner") -> Span:
    return span(parent, operation="invoke_agent", agent=agent, input=1000, output=1000)


def spend(settle: float = 60.0, max_agents: int = 10, max_names: int = 10) -> Accounts:
    return Accounts(settle, max_agents, max_names)


def take(into: Accounts, *spans: Span, now: float = 0.0) -> Account:
    into.take(spans, now)
    return Account(into)


def test_agent_of_the_span_itself() -> None:
    found = take(spend(), chat(invoke(), agent="helper"))
    assert found.tokens() == {("helper", "input"): 10, ("helper", "output"): 3}


def test_nearest_agent_above() -> None:
    outer = invoke(agent="outer")
    inner = invoke(span(outer), agent="inner")
    between = span(inner)
    found = take(spend(), outer, inner, between, chat(between), chat(outer))
    assert found.model_calls() == {"inner": 1, "outer": 1}


def test_an_agents_own_usage_does_not_count() -> None:
    agent = invoke()
    assert take(spend(), agent, chat(agent)).tokens()["planner", "input"] == 10


def test_a_call_waits_for_its_agent_and_what_is_between() -> None:
    agent = invoke()
    between = span(agent)
    into = spend()
    assert take(into, chat(between)).pending == 1
    assert take(into, between, now=59).model_calls() == {}
    found = take(into, agent, now=59)
    assert (found.pending, found.model_calls()) == (0, {"planner": 1})
    into.settle(100)
    assert Account(into).model_calls() == {"planner": 1}


def test_a_call_without_an_agent_counts_on_its_service() -> None:
    root = span()
    into = spend()
    assert take(into, chat()).model_calls() == {"service": 1}
    assert take(into, chat(root)).pending == 1
    assert take(into, root).model_calls() == {"service": 2}
    assert take(into, chat(span()), now=5).pending == 1
    into.settle(64)
    assert Account(into).pending == 1
    into.settle(65)
    found = Account(into)
    assert (found.pending, found.model_calls()) == (0, {"service": 3})


def test_an_agent_in_another_trace_is_no_ancestor() -> None:
    agent = invoke()
    into = spend()
    stray = chat(agent)._replace(trace=b"x" * 16)
    take(into, agent, stray)
    into.settle(1000)
    assert Account(into).model_calls() == {"service": 1}


def test_parents_in_a_circle_end() -> None:
    one = span()
    two = span(one)
    one = one._replace(parent=two.id)
    assert take(spend(), one, two, chat(two)).model_calls() == {"service": 1}


def test_a_service_without_a_name() -> None:
    assert take(spend(), chat()._replace(service="")).model_calls() == {"unknown_service": 1}


def test_a_span_sent_again_counts_once() -> None:
    agent = invoke()
    calls = [chat(agent), span(agent, operation="execute_tool", tool="search"), chat(agent)]
    found = take(spend(), *calls, agent, *calls, agent)
    assert found.model_calls() == {"planner": 2}
    assert found.values["agent.tool_calls", "planner", "search", "ok"] == 1
    assert (found.outcome("duplicate"), found.outcome("counted")) == (3, 3)


def test_two_reports_of_one_call_count_once() -> None:
    first = chat(response="id-1", start=100, end=102)
    second = chat(response="id-1", start=100.5, end=101.5)
    found = take(spend(), first, second)
    assert found.model_calls() == {"service": 1}
    assert found.tokens()["service", "input"] == 10
    assert len(found.calls) == 1


def test_response_ids_that_repeat_are_other_calls() -> None:
    found = take(spend(), *(chat(response="chatcmpl-7", start=t, end=t + 1) for t in (100, 200)))
    assert found.model_calls() == {"service": 2}


def test_a_call_within_its_own_call_counts_once() -> None:
    outer = chat(error="RateLimitError", input=None, output=None)
    inner = chat(outer, error="429", input=None, output=None)
    for first, second in ((outer, inner), (inner, outer)):
        into = spend()
        take(into, first)
        into.settle(1000)
        found = take(into, second, now=1000)
        assert found.model_calls() == {"service": 1}
        assert found.outcome("duplicate") == 1


def test_tokens_count_where_only_the_inner_span_has_them() -> None:
    outer = chat(input=None, output=None)
    inner = chat(outer)
    for first, second in ((outer, inner), (inner, outer)):
        into = spend()
        take(into, first)
        into.settle(1000)
        found = take(into, second, now=1000)
        assert found.model_calls() == {"service": 1}
        assert found.tokens() == {("service", "input"): 10, ("service", "output"): 3}
        assert len(found.calls) == 1


def test_a_call_within_a_call_with_another_answer_is_another() -> None:
    outer = chat(response="a")
    assert take(spend(), outer, chat(outer, response="b")).model_calls() == {"service": 2}


def test_calls_are_handed_over_once_with_all_their_tokens() -> None:
    into = spend()
    call = chat(
        input=100, cache_read=60, cache_write=30, output=9, reasoning=4, address="::1", port=1
    )
    assert take(into, call).calls == [
        Call("service", "m", 100.0, 101.0, 100, 60, 9, "[::1]:1"),
    ]
    assert Account(into).calls == []


def test_calls_without_usage_or_times_are_not_handed_over() -> None:
    late = NOW + AHEAD + 2
    found = take(
        spend(),
        chat(input=None, output=None),
        chat(start=0),
        chat(end=99),
        chat(start=NOW, end=late),
    )
    assert found.calls == []
    assert found.values["agent.call.time", "service", "m"] == 1 + late - NOW
    assert found.model_calls() == {"service": 4}


def test_errors_and_tools_by_outcome() -> None:
    tool: dict[str, Any] = {"operation": "execute_tool", "tool": "search"}
    found = take(spend(), chat(error="429"), span(failed=True, **tool), span(**tool), span(**tool))
    assert found.values["agent.calls", "service", "m", "429"] == 1
    assert found.values["agent.tool_calls", "service", "search", "error"] == 1
    assert found.values["agent.tool_calls", "service", "search", "ok"] == 2


def test_past_the_cap_agents_count_on_other() -> None:
    into = spend(max_agents=2)
    found = take(into, *(chat(agent=f"agent-{number}") for number in (0, 1, 2, 3, 0)))
    assert found.model_calls() == {"agent-0": 2, "agent-1": 1, OTHER: 2}
    assert (found.outcome("counted"), found.outcome("overflow")) == (3, 2)
    assert sum(found.tokens().values()) == 5 * 13


def test_past_the_cap_names_count_on_other() -> None:
    spans = [chat(model=f"m{number}", error=f"e{number}") for number in range(4)]
    spans += [span(operation="execute_tool", tool=f"t{number}") for number in range(4)]
    found = take(spend(max_names=2), *spans)
    assert found.values["agent.calls", "service", OTHER, OTHER] == 2
    assert found.values["agent.tool_calls", "service", OTHER, "ok"] == 2
    assert sum(found.tokens().values()) == 4 * 13


def test_agents_that_are_gone_make_room() -> None:
    into = spend(max_agents=1)
    take(into, chat(agent="old"))
    into.settle(IDLE)
    assert Account(into).model_calls() == {"old": 1}
    into.settle(IDLE + 1)
    assert take(into, chat(agent="new"), now=IDLE + 1).model_calls() == {"new": 1}


def test_no_more_calls_wait_than_are_allowed(monkeypatch: Any) -> None:
    monkeypatch.setattr(_accounts, "MAX_WAITING", 3)
    into = spend()
    take(into, *(chat(span()) for _ in range(5)))
    into.settle(0)
    found = Account(into)
    assert (found.pending, found.model_calls()) == (3, {"service": 2})


def test_recent_keeps_the_last_and_forgets_the_rest() -> None:
    recent: Recent[int, int] = Recent(10, 60)
    for number in range(1000):
        recent.put(number, number)
        recent.put(-1, number)
    kept = [number for number in range(1000) if recent.get(number) is not None]
    assert set(range(991, 1000)) <= set(kept)
    assert len(kept) < 20
    assert recent.get(-1) == 999


def test_recent_forgets_what_is_old() -> None:
    recent: Recent[int, int] = Recent(10, 60)
    recent.forget(1000)
    recent.put(1, 1)
    recent.forget(1059)
    assert recent.get(1) == 1
    recent.forget(1060)
    recent.put(2, 2)
    assert (recent.get(1), recent.get(2)) == (1, 2)
    recent.forget(1120)
    assert (recent.get(1), recent.get(2)) == (None, 2)


def test_a_span_that_becomes_a_call_counts() -> None:
    """Some senders show a span when it starts, without what it will have at its end."""
    call = chat()
    found = take(spend(), call._replace(facts={}), call)
    assert found.model_calls() == {"service": 1}


@st.composite
def _trees(draw: st.DrawFn) -> tuple[list[Span], dict[str, int]]:
    """Spans of a few traces, and the model calls by agent that they hold."""
    spans: list[Span] = []
    truth: Counter[str] = Counter()
    for _ in range(draw(st.integers(1, 3))):
        held: list[tuple[Span, str]] = []
        for _ in range(draw(st.integers(1, 8))):
            above, agent = draw(st.sampled_from(held)) if held else (None, "service")
            kind = draw(st.sampled_from(("agent", "chat", "other")))
            if kind == "agent":
                agent = draw(st.sampled_from(("a", "b")))
                made = invoke(above, agent)
            elif kind == "chat" and (above is None or above.facts.get("operation") != "chat"):
                made = chat(above)
                truth[agent] += 1
            else:
                made = span(above)
            held.append((made, agent))
            spans.append(made)
    return spans, dict(truth)


@given(_trees(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_repetition_change_nothing(
    tree: tuple[list[Span], dict[str, int]], random: Any, times: int
) -> None:
    spans, truth = tree
    sent = spans * times
    random.shuffle(sent)
    into = spend()
    cut = random.randrange(len(sent) + 1)
    take(into, *sent[:cut])
    take(into, *sent[cut:])
    assert Account(into).pending == 0
    assert Account(into).model_calls() == truth


def test_vocabularies_only_use_names_that_are_read() -> None:
    read = {"operation", "request_type", "span_kind", "claude_code", "agent", "model", "tool"}
    read |= {"response_model", "response", "input", "cache_read", "cache_write", "output"}
    read |= {"reasoning", "address", "port", "url", "error", "error_code"}
    for scope in ("", "openlit", "com.anthropic.claude_code"):
        assert set(vocabulary(scope).names.values()) <= read
