"""What agents spent: spans to counters, each call once and on its agent."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable

from collector.batch import Batch, Call
from collector.catalog import agents
from collector.entity import Entity, Kind
from plugins.agents import _genai
from plugins.agents._genai import TOKEN_TYPES, ModelCall, Span, ToolCall
from plugins.agents._recent import Recent

OTHER = "_OTHER"
"""Takes what is past a cap: OpenTelemetry's word for values that are not listed."""

OUTCOMES = ("counted", "overflow", "duplicate", "other", "rejected")

UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry's resource conventions call a service that does not name itself."""

UNKNOWN = (None,) * len(TOKEN_TYPES)  # usage of a call whose span tells none

REMEMBERED = 50_000  # spans, calls and response ids at most, each; they take 50 MB then
RESENT = 600.0  # seconds for which they are; exporters try for some minutes to send a span
MAX_WAITING = 20_000  # calls; past it the oldest are booked as they are
MAX_CALLS = 100_000  # finished calls between two polls; more are not attributed
MAX_DEPTH = 64  # spans between a call and its agent; also ends loops of parents
SAME_CALL = 1_000_000_000  # ns; clocks of two processes that report one call differ by less
AHEAD = 300.0  # seconds; a call that ends later than that from now has no time to be believed
IDLE = 24 * 3600.0  # seconds after which an agent is forgotten

_Node = tuple[bytes, str, type | None]
"""A span as the calls below it see it: what is above it, its agent, and what it is a call of."""


class _Booked:
    """A model call that was counted; `usage` says whether its tokens were."""

    __slots__ = ("end", "response", "start", "usage")

    def __init__(self, span: Span, call: ModelCall) -> None:
        self.start = span.start
        self.end = span.end
        self.response = call.response
        self.usage = False


class _Item:
    """A call that was reported, until it is booked."""

    __slots__ = ("above", "at", "call", "due", "key", "span")

    def __init__(
        self, span: Span, call: ModelCall | ToolCall, key: bytes, above: bytes, due: float
    ) -> None:
        self.span = span
        self.call = call
        self.key = key
        self.above = above
        self.due = due
        self.at = b""  # the key of the ancestor that it waits for


class _Account:
    """What one agent spent."""

    def __init__(self, name: str, most: int) -> None:
        self.entity: Entity = Kind.AGENT(name)
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.tools: Counter[tuple[str, str]] = Counter()
        self.last = 0.0
        self._most = most
        self._names: dict[str, set[str]] = defaultdict(set)

    def admit(self, label: str, value: str) -> str:
        """Return the value, or `_OTHER` where the label has too many already."""
        names = self._names[label]
        if value not in names:
            if len(names) >= self._most:
                return OTHER
            names.add(value)
        return value


class Accounts:
    """Takes spans, in any order and more than once, and keeps the counters of all agents.

    An agent is the one that a call's span names, else the one that the nearest of its ancestors
    names, else the service. Ancestors come later than what is below them, so a call waits for
    them, but not for longer than `settle`.

    A call is counted once. A span that is sent again is known by its ids. Two instrumentations
    of one call are known by the response id and by overlapping in time, for ids alone repeat
    (Ollama draws them from 999), or by one span being the parent of the other.

    Args:
        settle: Seconds that a call waits for the span of its agent.
        max_agents: Agents that are told apart.
        max_names: Models, tools and error types, each, that are told apart for one agent.
    """

    def __init__(self, settle: float, max_agents: int, max_names: int) -> None:
        self._settle = settle
        self._max_agents = max_agents
        self._max_names = max_names
        age = max(RESENT, settle)
        self._nodes: Recent[bytes, _Node] = Recent(REMEMBERED, age)
        self._booked: Recent[bytes, _Booked] = Recent(REMEMBERED, age)  # by the span's key
        self._below: Recent[bytes, _Booked] = Recent(REMEMBERED, age)  # by that of the span above
        self._responses: Recent[str, _Booked] = Recent(REMEMBERED, age)  # by the response id
        self._waiting: dict[bytes, dict[_Item, None]] = defaultdict(dict)
        self._due: OrderedDict[_Item, None] = OrderedDict()  # all that wait, the oldest first
        self._accounts: dict[str, _Account] = {}
        self._finished: deque[Call] = deque(maxlen=MAX_CALLS)
        self._outcomes = Counter(dict.fromkeys(OUTCOMES, 0))

    def take(self, spans: Iterable[Span], now: float) -> None:
        """Take spans; `now` is a clock in seconds that never goes back."""
        ready: list[tuple[_Item, bytes]] = []  # calls, and where to look for their agent
        for span in spans:
            key = span.trace + span.id
            above = span.trace + span.parent if span.parent else b""
            call = _genai.read(span)
            if call is None:
                self._outcomes["other"] += 1
                self._nodes.put(key, (above, _genai.agent(span), None))
            else:
                known = self._nodes.get(key)
                if known is not None and known[2] is not None:
                    self._outcomes["duplicate"] += 1
                    continue
                self._nodes.put(key, (above, _genai.agent(span), type(call)))
                ready.append((_Item(span, call, key, above, now + self._settle), key))
            for item in self._waiting.pop(key, ()):
                ready.append((item, key))
        for item, key in ready:
            self._climb(item, key, now)

    def reject(self, count: int) -> None:
        """Take note of spans that cannot be taken."""
        self._outcomes["rejected"] += count

    def settle(self, now: float) -> None:
        """Book the calls that have waited long enough, and forget what is over."""
        while self._due:
            item = next(iter(self._due))
            if item.due > now and len(self._due) <= MAX_WAITING:
                break
            waiting = self._waiting[item.at]
            del waiting[item]
            if not waiting:
                del self._waiting[item.at]
            self._book(item, "", now)
        for recent in (self._nodes, self._booked, self._below, self._responses):
            recent.forget(now)
        for name in [n for n, a in self._accounts.items() if a.last < now - IDLE]:
            del self._accounts[name]

    def report(self, batch: Batch, source: Entity) -> None:
        """Add all counters, and the model calls that were booked since the last time."""
        for account in self._accounts.values():
            entity = account.entity
            for labels, tokens in account.tokens.items():
                batch.add(agents.TOKENS, entity, float(tokens), *labels)
            for labels, calls in account.calls.items():
                batch.add(agents.CALLS, entity, float(calls), *labels)
            for model, seconds in account.seconds.items():
                batch.add(agents.CALL_TIME, entity, seconds, model)
            for labels, calls in account.tools.items():
                batch.add(agents.TOOL_CALLS, entity, float(calls), *labels)
        for outcome, spans in self._outcomes.items():
            batch.add(agents.SPANS, source, float(spans), outcome)
        batch.add(agents.PENDING, source, float(len(self._due)))
        while self._finished:
            call = self._finished.popleft()
            if call.end <= batch.at + AHEAD:
                batch.call(call)

    def _climb(self, item: _Item, at: bytes, now: float) -> None:
        """Look for the item's agent from the span `at` upwards; wait where one is missing."""
        for _ in range(MAX_DEPTH):
            if not at:
                break
            node = self._nodes.get(at)
            if node is None:
                item.at = at
                self._waiting[at][item] = None
                self._due.setdefault(item)
                return
            at, agent, _ = node
            if agent:
                self._book(item, agent, now)
                return
        self._book(item, "", now)

    def _book(self, item: _Item, agent: str, now: float) -> None:
        """Count a call on the account of its agent; the service's where no agent is named."""
        self._due.pop(item, None)
        span, call = item.span, item.call
        booked = None
        if isinstance(call, ModelCall):
            booked = self._twin(item, call)
            if booked and (booked.usage or call.tokens == UNKNOWN):
                self._outcomes["duplicate"] += 1
                return
        account, outcome = self._account(agent or span.service or UNKNOWN_SERVICE)
        account.last = now
        self._outcomes[outcome] += 1
        if isinstance(call, ToolCall):
            tool = account.admit("tool", call.tool)
            account.tools[tool, "error" if call.failed else "ok"] += 1
            return
        model = account.admit("model", call.model)
        timed = 0 < span.start <= span.end
        if booked is None:
            booked = _Booked(span, call)
            error = account.admit("error", call.error) if call.error else ""
            account.calls[model, error] += 1
            if timed:
                account.seconds[model] += (span.end - span.start) / 1e9
        self._remember(item, call, booked)
        if call.tokens == UNKNOWN:
            return
        booked.usage = True
        for kind, tokens in zip(TOKEN_TYPES, call.tokens, strict=True):
            if tokens is not None:
                account.tokens[model, kind] += tokens
        if timed:
            self._finished.append(_finished(account.entity.key[0], model, span, call))

    def _twin(self, item: _Item, call: ModelCall) -> _Booked | None:
        """Find the same call as another instrumentation reported it, if it was counted."""
        span = item.span
        if call.response:
            booked = self._responses.get(call.response)
            if (
                booked is not None
                and span.start <= booked.end + SAME_CALL
                and booked.start <= span.end + SAME_CALL
            ):
                return booked
        for booked in (self._booked.get(item.above), self._below.get(item.key)):
            if booked is not None and not (
                call.response and booked.response and call.response != booked.response
            ):
                return booked
        return None

    def _remember(self, item: _Item, call: ModelCall, booked: _Booked) -> None:
        self._booked.put(item.key, booked)
        if call.response:
            self._responses.put(call.response, booked)
        above = self._nodes.get(item.above)
        if item.above and (above is None or above[2] is ModelCall):
            self._below.put(item.above, booked)

    def _account(self, name: str) -> tuple[_Account, str]:
        """Return the account of an agent and what becomes of a span that is counted on it."""
        account = self._accounts.get(name)
        if account is not None:
            return account, "overflow" if name == OTHER else "counted"
        outcome = "counted"
        if len(self._accounts) - (OTHER in self._accounts) >= self._max_agents:
            name, outcome = OTHER, "overflow"
        return self._accounts.setdefault(name, _Account(name, self._max_names)), outcome


def _finished(agent: str, model: str, span: Span, call: ModelCall) -> Call:
    uncached, cached, written, output, reasoning = call.tokens
    return Call(
        agent=agent,
        model=model,
        start=span.start / 1e9,
        end=span.end / 1e9,
        prompt_tokens=(uncached or 0) + (cached or 0) + (written or 0),
        cached_tokens=cached or 0,
        output_tokens=(output or 0) + (reasoning or 0),
        server=call.server,
    )
