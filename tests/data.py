"""Where the large recordings are; they are no part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("W2T_DATA", Path(__file__).parents[2] / "shared" / "data"))


def data(relative: str) -> Path:
    """Return a recording's path, or skip the test where the recordings are absent."""
    path = ROOT / relative
    if not path.exists():
        pytest.skip(f"no recording {relative}: set W2T_DATA to the folder of recordings")
    return path
