"""Price and carbon intensity of energy from a table in the config."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collector.batch import Batch
from collector.catalog import site
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from plugins.power import _carbon

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(text: str) -> str:
    if not re.fullmatch(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00", text):
        raise ValueError(f"{text!r} is no time of day: write 17:30")
    return text


Clock = Annotated[str, AfterValidator(_clock)]
Price = Annotated[float, Field(ge=0)]


class Period(BaseModel):
    """A part of the week; from `start` to `end`, over midnight where the end is not later."""

    model_config = ConfigDict(extra="forbid")

    start: Clock = Field(default="00:00", description="Time of day at which it begins.")
    end: Clock = Field(default="24:00", description="Time of day at which it ends.")
    days: list[Day] = Field(default=list(DAYS), description="Days on which it begins.")
    price: Price | None = Field(default=None, description="Per kWh.")
    carbon: float | None = Field(default=None, ge=0, le=5000, description="Grams CO2e per kWh.")

    def holds(self, now: datetime) -> bool:
        """Say whether the period holds at a local time; the day is that of its start."""
        clock = now.time().isoformat("minutes")
        today, yesterday = DAYS[now.weekday()], DAYS[now.weekday() - 1]
        if self.start < self.end:
            return today in self.days and self.start <= clock < self.end
        return (today in self.days and clock >= self.start) or (
            yesterday in self.days and clock < self.end
        )


class Tariff(Plugin):
    """What a site pays for energy and what carbon it stands for, fixed or by the time of use.

    The first of `periods` that holds now and has a price (or a carbon intensity) gives it; where
    none does, `price` and `carbon`. Carbon intensity is said to be estimated.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (*_carbon.METRICS, site.ENERGY_PRICE)

    target: str = Field(min_length=1, description="The site.")
    timezone: str = Field(default="UTC", description="Of the periods: Europe/Berlin.")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="ISO 4217.")
    price: Price | None = Field(default=None, description="Per kWh, in the currency.")
    carbon: float | None = Field(default=None, ge=0, le=5000, description="Grams CO2e per kWh.")
    signal: Literal["average", "marginal"] = Field(
        default="average", description="What the carbon intensity is: average or marginal."
    )
    periods: list[Period] = Field(
        default=[],
        description="What holds at some times of the week; the first that fits counts.",
    )
    interval: float = Field(default=60.0, gt=0, description="Seconds between two polls.")

    @model_validator(mode="after")
    def _zone(self) -> Tariff:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known: write UTC or a name of "
                "the tz database, and install tzdata where that is missing"
            ) from error
        return self

    def poll(self, batch: Batch) -> None:
        """Look up what holds now."""
        now = datetime.fromtimestamp(batch.at, ZoneInfo(self.timezone))
        holding = [period for period in self.periods if period.holds(now)]
        prices = [*(period.price for period in holding), self.price]
        carbons = [*(period.carbon for period in holding), self.carbon]
        price = next((one for one in prices if one is not None), None)
        carbon = next((one for one in carbons if one is not None), None)
        if price is not None:
            per_joule = price / _carbon.JOULES_PER_KWH
            batch.add(site.ENERGY_PRICE, Kind.SITE(self.target), per_joule, self.currency)
        if carbon is not None:
            _carbon.add(
                batch, self.target, "tariff", self.signal, carbon, estimated=True, at=batch.at
            )
