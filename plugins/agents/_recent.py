"""A memory of what came lately."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that forgets.

    An entry is kept until there are `size` newer ones or it is `seconds` old, and for at most
    twice as long: entries are in two dictionaries, of which the older one is dropped when the
    younger one is full or old.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._since = 0.0
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was put last under the key, or None."""
        value = self._young.get(key)
        return value if value is not None else self._old.get(key)

    def put(self, key: K, value: V) -> None:
        """Remember the value; None is no value."""
        if len(self._young) >= self._size and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def forget(self, now: float) -> None:
        """Drop what is too old; to be called now and then, more often than every `seconds`."""
        if now - self._since >= self._seconds:
            self._since = now
            self._old, self._young = self._young, {}
