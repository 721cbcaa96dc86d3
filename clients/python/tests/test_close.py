"""Closing a manager while it still works."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from patience import PATIENT

from coatcheck import AsyncManager, Config, Counter, Login, Manager, Request

visits = Counter("n")


def recorded(manager, monkeypatch):
    """Holds the replies of the server back, and records that a reply is read, and the close.

    Returns the record, and the events "a reply is awaited" and "let it come".
    """
    order, awaited, go = [], asyncio.Event(), asyncio.Event()
    read, close = manager.wire._read, manager.wire.close

    async def reading(connection):
        awaited.set()
        try:
            await go.wait()
            return await read(connection)
        finally:
            order.append("a call ends")

    async def closing():
        order.append("the connections close")
        await close()

    monkeypatch.setattr(manager.wire, "_read", reading)
    monkeypatch.setattr(manager.wire, "close", closing)
    return order, awaited, go


async def signed_out(manager):
    s = await manager.session(Request("POST")).load()
    await s.sign_in(Login("ada"))
    await s.sign_out()


def test_close_stops_a_repetition_of_ends_before_it_closes_the_connections(url, namespace, monkeypatch, caplog):
    monkeypatch.setattr("coatcheck.manager._REPEAT_EVERY", 0)

    async def test():
        manager = AsyncManager.open(url, Config(namespace=namespace), **PATIENT)
        await signed_out(manager)
        order, awaited, go = recorded(manager, monkeypatch)
        manager.store.ends.add("0000-" + "A" * 22, None)
        manager.store.ends.connection_lost()
        await asyncio.wait_for(awaited.wait(), 60)
        closing = asyncio.create_task(manager.close())
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait_for(closing, 60)
        assert order[-1] == "the connections close" and manager._repeater.done()
        assert len(order) <= 3, "the second end is left out"

    with caplog.at_level(logging.INFO):
        asyncio.run(test())
    assert not caplog.records


def test_the_task_that_repeats_ends_stops_although_redis_py_swallows_the_cancellation(url, namespace, monkeypatch):
    """Else asyncio.run would wait forever: it cancels each task once."""
    monkeypatch.setattr("coatcheck.manager._REPEAT_EVERY", 0)

    async def test():
        manager = AsyncManager.open(url, Config(namespace=namespace), **PATIENT)
        await signed_out(manager)
        awaited, swallowed, read = asyncio.Event(), [], manager.wire._read

        async def reading(connection):
            awaited.set()
            try:
                await asyncio.sleep(0 if swallowed else 3600)
            except asyncio.CancelledError:
                swallowed.append(1)
            return await read(connection)

        monkeypatch.setattr(manager.wire, "_read", reading)
        manager.store.ends.connection_lost()
        await asyncio.wait_for(awaited.wait(), 60)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        assert not (await asyncio.wait(tasks, timeout=60))[1] and swallowed
        await manager.close()

    asyncio.run(test())


def test_close_waits_for_a_commit_whose_client_hung_up(url, namespace, monkeypatch):
    async def test():
        manager = AsyncManager.open(url, Config(namespace=namespace), **PATIENT)
        s = await manager.session(Request("POST")).load()
        order, awaited, go = recorded(manager, monkeypatch)
        visits.add(s)
        request = asyncio.create_task(s.commit())
        await asyncio.wait_for(awaited.wait(), 60)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        closing = asyncio.create_task(manager.close())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not order, "close waits"
        go.set()
        await asyncio.wait_for(closing, 60)
        assert order[-1] == "the connections close" and visits.get(s) == 1 and not s.core.view.ops

    asyncio.run(test())


def test_a_closed_manager_repeats_no_ends(url, namespace):
    async def test():
        manager = AsyncManager.open(url, Config(namespace=namespace), **PATIENT)
        await signed_out(manager)
        assert not manager._repeater.done()
        await manager.close()
        await manager.session(Request("POST")).load()
        assert manager._repeater.done() and not manager._tasks
        await manager.close()

    asyncio.run(test())


def test_close_waits_for_the_thread_that_repeats_ends(url, namespace, monkeypatch, caplog):
    monkeypatch.setattr("coatcheck.manager._REPEAT_EVERY", 0)
    manager = Manager.open(url, Config(namespace=namespace), **PATIENT)
    order, awaited, go = [], threading.Event(), threading.Event()
    read, close = manager.wire._read, manager.wire.close

    def reading(connection):
        if threading.current_thread() is manager._repeater and not order:
            awaited.set()
            assert go.wait(60)
            order.append("a call ends")
        return read(connection)

    def closing():
        order.append("the connections close")
        close()

    monkeypatch.setattr(manager.wire, "_read", reading)
    monkeypatch.setattr(manager.wire, "close", closing)
    s = manager.session(Request("POST")).load()
    s.sign_in(Login("ada"))
    s.sign_out()
    manager.store.ends.connection_lost()
    assert awaited.wait(60)
    join = manager._repeater.join
    monkeypatch.setattr(manager._repeater, "join", lambda: (go.set(), join()))
    with caplog.at_level(logging.INFO):
        manager.close()
    go.set()
    assert order == ["a call ends", "the connections close"] and not manager._repeater.is_alive()
    assert not caplog.records
