"""What belongs to what, and since when."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from collector.batch import Link
from collector.entity import Entity, Kind


@dataclass(slots=True)
class Span:
    """A link with the time for which it held, in seconds since the epoch; `until` None is now."""

    link: Link
    source: str
    since: float
    until: float | None = None

    def holds(self, at: float | None) -> bool:
        """Say whether the link held at that time; None asks for now."""
        if at is None:
            return self.until is None
        return self.since <= at and (self.until is None or at < self.until)


class Topology:
    """Child-to-parent links, each with a share and a time span.

    A source states all the links that it sees at once: what it saw before and sees no longer ends
    then. Links that config gives never end. Ended links are kept for `history` seconds.

    Attributes:
        versions: A number for each kind of parent that changes when a link to such a one does;
            what is made of `spans` can be kept for as long as it stays the same.
    """

    def __init__(self, history: float = 3600.0) -> None:
        self.versions: Tally[Kind] = Tally()
        self._history = history
        self._by_source: dict[str, dict[tuple[Entity, Entity], Span]] = defaultdict(dict)
        self._last: dict[str, list[Link]] = {}
        self._up: dict[Entity, list[Span]] = defaultdict(list)
        self._down: dict[Entity, list[Span]] = defaultdict(list)

    def observe(self, source: str, links: list[Link], at: float, *, complete: bool = True) -> None:
        """Take the links that one source sees at that time, in place of those it saw before.

        With `complete` false the source could not see all, and what it does not see goes on.
        """
        if self._last.get(source) == links:
            return  # the common case, and links are compared in no time where they are the same
        self._last.pop(source, None)
        if complete:
            self._last[source] = links
        before = self._by_source[source]
        now = {(link.child, link.parent): link for link in links}
        for pair, span in list(before.items()):
            link = now.get(pair)
            if link is None and not complete:
                continue
            if link is None or link.share != span.link.share:
                span.until = at
                del before[pair]
                self.versions[span.link.parent.kind] += 1
        for pair, link in now.items():
            if pair not in before:
                span = Span(link, source, at)
                before[pair] = span
                self._up[link.child].append(span)
                self._down[link.parent].append(span)
                self.versions[link.parent.kind] += 1

    def parents(self, child: Entity, kind: Kind, at: float | None = None) -> list[Link]:
        """Links from `child` to its parents of that kind at that time, now by default."""
        return [
            s.link for s in self._up.get(child, ()) if s.link.parent.kind is kind and s.holds(at)
        ]

    def children(self, parent: Entity, kind: Kind, at: float | None = None) -> list[Link]:
        """Links to `parent` from its children of that kind at that time, now by default."""
        return [
            s.link for s in self._down.get(parent, ()) if s.link.child.kind is kind and s.holds(at)
        ]

    def entities(self, kind: Kind) -> list[Entity]:
        """All linked entities of a kind, in order."""
        return sorted(
            {entity for entity in (*self._up, *self._down) if entity.kind is kind},
            key=lambda entity: entity.key,
        )

    def spans(self) -> Iterator[Span]:
        """All links with their time spans, ended ones included."""
        for spans in self._up.values():
            yield from spans

    def forget(self, now: float) -> None:
        """Drop links that ended more than `history` seconds ago.

        A time after `now` is from before the clock was set back, and becomes `now`.
        """
        for index in (self._up, self._down):
            for entity, spans in list(index.items()):
                for span in spans:
                    if max(span.since, span.until or now) > now:
                        span.since = min(span.since, now)
                        span.until = None if span.until is None else min(span.until, now)
                        self.versions[span.link.parent.kind] += 1
                kept = [s for s in spans if s.until is None or s.until > now - self._history]
                if kept:
                    index[entity] = kept
                else:
                    del index[entity]
