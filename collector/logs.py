"""Lines on standard error, as a person or journald wants them."""

from __future__ import annotations

import logging
import os
import sys
from typing import ClassVar


def to_stderr(level: int | str) -> None:
    """Send what is logged from this level on to standard error, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_Journal())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _Journal(logging.Formatter):
    """For journald, which adds the time and takes the level from a prefix (sd-daemon(3))."""

    LEVELS: ClassVar = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}

    def format(self, record: logging.LogRecord) -> str:
        return f"<{self.LEVELS.get(record.levelname, 3)}>{super().format(record)}"
