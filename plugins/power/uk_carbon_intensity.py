"""Carbon intensity of Great Britain's grid by its system operator's API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.http import Answer, AnswerError, Endpoint
from plugins.power import _carbon


class UkCarbonIntensity(Plugin):
    """The average carbon intensity of the current half-hour, of Great Britain or a region.

    The actual figure is there only once the half-hour is over; until then, and for regions, it is
    the forecast, which is said to be estimated. No key is needed. Source: the Carbon Intensity
    API's definitions, version 2. It is tested with answers as they have them, not with the service.
    """

    metrics: ClassVar[tuple[Metric, ...]] = _carbon.METRICS
    spread: ClassVar[float] = 1.0

    target: str = Field(
        default="",
        description="A region's number (1 to 17) or the outward part of a postcode (RG10); by "
        "default all of Great Britain.",
    )
    site: str = Field(min_length=1, description="The site that it is for.")
    url: str = Field(default="https://api.carbonintensity.org.uk", description="The API.")
    interval: float = Field(default=300.0, gt=0, description="Seconds between two polls.")
    timeout: float = Field(default=20.0, gt=0, description="Seconds that one poll may take.")

    _endpoint: Endpoint | None = PrivateAttr(default=None)

    async def open(self) -> None:
        """Prepare; nothing is sent yet."""
        path = "/intensity"
        if self.target:
            by = "regionid" if self.target.isdecimal() else "postcode"
            path = f"/regional/{by}/{self.target}"
        self._endpoint = Endpoint(self.url + path, "application/json", self.timeout)
        self._endpoint.open()

    async def poll(self, batch: Batch) -> None:
        """Ask for the current half-hour.

        Raises:
            AnswerError: The answer is none that can be used.
        """
        found: Any = _carbon.json(await self._ask())
        try:
            period = found["data"][0]
            if self.target:
                period = period["data"][0]
            intensity, start = period["intensity"], period["from"]
            actual, forecast = intensity.get("actual"), intensity.get("forecast")
        except (LookupError, TypeError, AttributeError) as error:
            raise AnswerError(f"the answer lacks {error}") from error
        _carbon.add(
            batch,
            self.site,
            "uk_carbon_intensity",
            "average",
            forecast if actual is None else actual,
            estimated=actual is None,
            at=_carbon.instant(start),
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._endpoint:
            await self._endpoint.close()

    async def record(self, folder: Path) -> None:
        """Save the answer as `input/answer1.json`."""
        await self.open()
        try:
            answer = await self._ask()
        finally:
            await self.close()
        await asyncio.to_thread(_carbon.save, folder, [answer])

    async def _ask(self) -> Answer:
        assert self._endpoint is not None
        return await self._endpoint.get()
