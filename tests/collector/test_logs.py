from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from collector import logs


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Each test sets up the log of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("journal", "line"), [("8:1", "<4>careful\n"), (None, "WARNING careful\n")]
)
def test_the_log_is_what_journald_takes(
    journal: str | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", journal)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.to_stderr("INFO")
    logging.getLogger("x").warning("careful")
    logging.getLogger("x").debug("not told")
    assert stream.getvalue().endswith(line)
    assert len(stream.getvalue().splitlines()) == 1
