"""The session by gufo-snmp, without an agent."""

import asyncio
import contextlib

import pytest

from collector.read.snmp.gufo_client import GufoSession


class Forgetful:
    """Swallows a cancellation, as asyncio.wait_for does before Python 3.12."""

    async def get_many(self, oids):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return dict.fromkeys(oids, 1)

    async def getbulk(self, oid, repetitions):
        for number in range(3):
            yield f"{oid}.{number}", await self.get_many([oid])


@pytest.mark.parametrize("ask", ["get", "walk"])
def test_a_cancellation_is_heeded(ask):
    async def main():
        session = GufoSession(Forgetful(), ValueError)
        asked = session.get(["1.3"]) if ask == "get" else session.walk("1.3", 10)
        task = asyncio.create_task(asked)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
