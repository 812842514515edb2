"""Marginal carbon intensity of the grid by WattTime."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.http import Answer, AnswerError, Endpoint, StatusError
from collector.secret import Secret
from plugins.power import _carbon

UNITS = {"lbs_co2_per_mwh": _carbon.GRAMS_PER_POUND / 1000}  # factor to g/kWh
PERIOD = 300.0  # seconds for which a figure is true
PAST = 7200.0  # seconds; figures come some minutes late
UNAUTHORIZED = 401


class WattTime(Plugin):
    """The marginal operating emissions rate (`co2_moer`) of one region, every five minutes.

    The last figure that was published for the past counts while it is younger than half an hour;
    after that the forecast for now, which is said to be estimated. A login lasts half an hour and
    is renewed when it is refused. Source: WattTime's API reference, version 3. It is not tested
    with the service itself, which wants an account: with answers as the reference has them.
    """

    metrics: ClassVar[tuple[Metric, ...]] = _carbon.METRICS
    spread: ClassVar[float] = 1.0

    target: str = Field(min_length=1, description="The region: CAISO_NORTH.")
    site: str = Field(default="", description="The site that it is for; the region by default.")
    user: str = Field(min_length=1, description="The account's name.")
    password: Secret = Field(description="The account's password.")
    url: str = Field(default="https://api.watttime.org", description="The API.")
    interval: float = Field(default=300.0, gt=0, description="Seconds between two polls.")
    timeout: float = Field(default=20.0, gt=0, description="Seconds that one poll may take.")

    _endpoint: Endpoint | None = PrivateAttr(default=None)
    _token: str = PrivateAttr(default="")
    _answers: list[Answer] = PrivateAttr(default_factory=list)

    async def open(self) -> None:
        """Prepare; nothing is sent yet."""
        self._endpoint = Endpoint(self.url, "application/json", self.timeout / 4)
        self._endpoint.open()

    async def poll(self, batch: Batch) -> None:
        """Ask for the last figure, or for the forecast where that is old.

        Raises:
            AnswerError: The answer is none that can be used, or the account is not accepted.
        """
        start, end = (_iso(batch.at + shift) for shift in (-PAST, PERIOD))
        past = await self._figures("historical", start=start, end=end)
        recent = [(at, grams) for at, grams in past if batch.at - 1800 < at <= batch.at]
        if recent:
            at, grams = max(recent)
        else:
            forecast = await self._figures("forecast", horizon_hours="0")
            now = [(at, grams) for at, grams in forecast if at <= batch.at < at + 2 * PERIOD]
            if not now:
                raise AnswerError(f"no figure for {self.target} now, nor a forecast")
            at, grams = max(now)
        _carbon.add(
            batch, self.site or self.target, "watttime", "marginal", grams,
            estimated=not recent, at=at,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connection."""
        if self._endpoint:
            await self._endpoint.close()

    async def record(self, folder: Path) -> None:
        """Save the answers, the login's token left out, as `input/answer1.json` and on."""
        from collector.entity import Kind

        await self.open()
        try:
            now = datetime.now(UTC).timestamp()
            await self.poll(Batch(Kind.HOST(""), now, self.metrics))
        finally:
            await self.close()
        await asyncio.to_thread(_carbon.save, folder, self._answers)

    async def _figures(self, path: str, **query: str) -> list[tuple[float, float]]:
        """Ask for figures: times in seconds since the epoch, and g/kWh."""
        query |= {"region": self.target, "signal_type": "co2_moer"}
        for attempt in ("with the token that we have", "with a new one"):
            if not self._token or attempt == "with a new one":
                await self._login()
            try:
                answer = await self._get(f"/v3/{path}?{urlencode(query)}", f"Bearer {self._token}")
                break
            except StatusError as error:
                if error.status != UNAUTHORIZED or attempt == "with a new one":
                    raise
        self._answers.append(answer)
        found: Any = _carbon.json(answer)
        try:
            factor = UNITS[found["meta"]["units"]]
            return [
                (_carbon.instant(one["point_time"]), one["value"] * factor) for one in found["data"]
            ]
        except (LookupError, TypeError) as error:
            raise AnswerError(f"/v3/{path}: the answer lacks {error}") from error

    async def _login(self) -> None:
        password = await asyncio.to_thread(self.password.reveal)
        pair = base64.b64encode(f"{self.user}:{password}".encode()).decode()
        try:
            found = _carbon.json(await self._get("/login", f"Basic {pair}"))
        except StatusError as error:
            if error.status == UNAUTHORIZED:
                raise AnswerError(f"the account {self.user} is not accepted") from error
            raise
        token = found.get("token") if isinstance(found, dict) else None
        if not isinstance(token, str):
            raise AnswerError("/login: the answer holds no token")
        self._token = token
        self._answers = [Answer(b'{"token": "recorded"}', "", 0.0, False, None)]

    async def _get(self, path: str, authorization: str) -> Answer:
        assert self._endpoint is not None
        return await self._endpoint.get(self.url + path, {"Authorization": authorization})


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
