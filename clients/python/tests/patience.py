"""How long a call waits, in tests whose server does not answer."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import Any, Iterator

import redis.asyncio.retry
import redis.retry

PATIENT: Any = {"socket_timeout": 60, "socket_connect_timeout": 60}  # a busy machine stops servers


@contextmanager
def impatient(manager: Any) -> Iterator[None]:
    """Makes the open connections of a manager wait for replies for a moment only."""
    connections = manager.wire.pool._available_connections
    assert connections
    for c in connections:
        c._sock.settimeout(0.3)
        c.socket_timeout = 0.3
    yield
    for c in connections:
        c.socket_timeout = 60


@contextmanager
def no_long_pause(monkeypatch: Any) -> Iterator[None]:
    """Checks that a call fails without pauses of more than a second in total.

    This adds up the pauses that the call asks for. The time that it takes depends on the machine.
    """
    pauses: list[float] = []
    wait, wait_async = time.sleep, asyncio.sleep

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        wait(0)

    async def sleep_async(seconds: float, *result: Any) -> Any:
        pauses.append(seconds)
        return await wait_async(0, *result)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        patch.setattr(redis.retry, "sleep", sleep)
        patch.setattr(asyncio, "sleep", sleep_async)
        patch.setattr(redis.asyncio.retry, "sleep", sleep_async)
        yield
    assert sum(pauses) < 1, "an outage is quick"
