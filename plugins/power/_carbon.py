"""What the sources of carbon intensity have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from collector.batch import Batch
from collector.catalog import site
from collector.entity import Kind
from collector.read.http import AnswerError

if TYPE_CHECKING:
    from collector.read.http import Answer

JOULES_PER_KWH = 3.6e6
GRAMS_PER_POUND = 453.59237  # the international pound, exact
_OLDEST = 6 * 3600.0  # seconds; hourly figures come some hours late, and a service that is out of
# order goes on giving its last one
_MOST = 5000.0  # g/kWh; the dirtiest plants, of lignite or oil shale, make about 1500

METRICS = (site.CARBON_INTENSITY, site.CARBON_ESTIMATED)


def json(answer: Answer) -> Any:  # noqa: ANN401 - whatever the server says
    """Parse an answer.

    Raises:
        AnswerError: It is cut short, or no JSON.
    """
    if answer.cut:
        raise answer.cut
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise AnswerError(f"the answer is no JSON: {error}") from error


def instant(text: object) -> float:
    """Read an ISO 8601 time as seconds since the epoch; one without a zone is in UTC.

    Raises:
        AnswerError: It is none.
    """
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise AnswerError(f"{text!r:.80} is no time") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def add(
    batch: Batch,
    name: str,
    provider: str,
    signal: str,
    grams: object,
    *,
    estimated: bool,
    at: float,
) -> None:
    """Add a carbon intensity.

    Args:
        batch: Takes it.
        name: The site.
        provider: Who says so.
        signal: `average` or `marginal`.
        grams: Of CO2 equivalents per kWh, as it was answered.
        estimated: Whether it was estimated or forecast, not measured.
        at: Seconds since the epoch from which on it is true.

    Raises:
        AnswerError: It is no number that can be, or of long ago.
    """
    if isinstance(grams, bool) or not isinstance(grams, int | float) or not 0 <= grams <= _MOST:
        raise AnswerError(f"{grams!r:.80} is no carbon intensity in g/kWh")
    if at < batch.at - _OLDEST:
        raise AnswerError(f"the latest figure is {(batch.at - at) / 3600:.0f} hours old")
    place, at = Kind.SITE(name), min(at, batch.at)
    batch.add(site.CARBON_INTENSITY, place, grams / JOULES_PER_KWH, provider, signal, at=at)
    batch.add(site.CARBON_ESTIMATED, place, float(estimated), provider, signal, at=at)


def save(folder: Path, answers: list[Answer]) -> None:
    """Write answers as the input of a recorded case, in the order in which they came."""
    (folder / "input").mkdir(parents=True, exist_ok=True)
    for number, answer in enumerate(answers, 1):
        (folder / "input" / f"answer{number}.json").write_bytes(answer.body)
