# mypy: ignore-errors
# ruff: noqa: N802, N803
"""What dcgm_fields has of all that the plugin needs."""

from __future__ import annotations

import os
from pathlib import Path

DCGM_FE_GPU = 1
_NEWEST = 1501


def DcgmFieldGetById(fieldId: int) -> object | None:
    old = "old hostengine" in Path(os.environ["W2T_FAKE_DCGM"]).read_text()
    return None if fieldId > (1200 if old else _NEWEST) else object()
