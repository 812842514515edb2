"""Carbon intensity of the grid by Electricity Maps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.http import Answer, AnswerError, Endpoint
from collector.secret import Secret
from plugins.power import _carbon


class ElectricityMaps(Plugin):
    """The average carbon intensity of one zone's electricity, imports included, hour by hour.

    Source: the API reference of Electricity Maps, version 3, `carbon-intensity/latest`. It is not
    tested with the service itself, which wants a key: with answers as the reference has them.
    """

    metrics: ClassVar[tuple[Metric, ...]] = _carbon.METRICS
    spread: ClassVar[float] = 1.0

    target: str = Field(min_length=1, description="The zone: DE, US-CAL-CISO.")
    site: str = Field(default="", description="The site that it is for; the zone by default.")
    token: Secret = Field(description="The API's key.")
    url: str = Field(default="https://api.electricitymaps.com/v3", description="The API.")
    interval: float = Field(default=300.0, gt=0, description="Seconds between two polls.")
    timeout: float = Field(default=20.0, gt=0, description="Seconds that one poll may take.")

    _endpoint: Endpoint | None = PrivateAttr(default=None)

    async def open(self) -> None:
        """Prepare; nothing is sent yet."""
        url = f"{self.url}/carbon-intensity/latest?zone={self.target}"
        self._endpoint = Endpoint(url, "application/json", self.timeout)
        self._endpoint.open()

    async def poll(self, batch: Batch) -> None:
        """Ask for the latest figure.

        Raises:
            AnswerError: The answer is none that can be used.
        """
        found = _carbon.json(await self._ask())
        if not isinstance(found, dict):
            raise AnswerError("the answer is no object")
        _carbon.add(
            batch,
            self.site or self.target,
            "electricity_maps",
            "average",
            found.get("carbonIntensity"),
            estimated=found.get("isEstimated") is not False,
            at=_carbon.instant(found.get("datetime")),
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
        token = await asyncio.to_thread(self.token.reveal)
        return await self._endpoint.get(headers={"auth-token": token})
