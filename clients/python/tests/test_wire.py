"""The connections to Redis."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio
from patience import PATIENT, impatient, no_long_pause
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from steps import settle

import coatcheck
from coatcheck import Config, Counter, Manager, Request, Value

visits, anything = Counter("n"), Value("v")


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt, and for a cancellation."""


@pytest.mark.parametrize("options", [{"protocol": 2}, {"protocol": 3}, {}])
def test_values_with_line_breaks_and_large_values_come_back(url, namespace, options):
    if url.startswith("redis-cluster"):
        pytest.skip("options of a single server")
    manager = Manager(redis.Redis.from_url(url, **options), Config(namespace=namespace, max_size=1 << 20))
    s = manager.session(Request("POST")).load()
    value = {"large": "x\r\n" * 100_000, "small": ["\r\n$3\r\n"]}
    anything.set(s, value)
    s.commit()
    key = manager.store.keys.session(s.core.token.handle)
    manager.wire.client.hset(key, "raw", b'[1,\r\n2]\r\n')
    size = sum(len(k) + len(v) for k, v in manager.wire.client.execute_command("HGETALL", key).items() if k[:1] not in (b"@", "@"))
    state = manager.wire.client.hget(key, "@s")
    manager.wire.client.hset(key, "@s", state[:36] + f"{size:08x}".encode() + state[44:])
    s = manager.session(Request("POST", [f"__Host-session-anon={s.core.token.text(manager.ring)}"])).load()
    assert anything.get(s) == value and Value("raw").get(s) == [1, 2]


def test_a_connection_that_the_server_closed_is_replaced(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace), **PATIENT)
    s = manager.session(Request("POST")).load()
    for _ in range(3):
        visits.add(s)
        s.commit()
        server.client().client_kill_filter(_type="normal")
    s.reload()
    assert visits.get(s) == 3
    assert len(manager.wire.pool._available_connections) == 1 and not manager.wire.pool._in_use_connections
    manager.close()


def test_a_late_reply_is_not_read_by_the_next_call(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace), **PATIENT)
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    with impatient(manager):
        server.pause()
        with pytest.raises(coatcheck.Unavailable):
            s.reload()
    server.resume()
    s.reload()
    assert visits.get(s) == 1
    manager.close()


@pytest.mark.parametrize("kind", [Manager, coatcheck.AsyncManager])
def test_a_connection_with_unread_replies_is_closed(kind, server, namespace, monkeypatch):
    """Else the next call could read the replies of the call that was interrupted."""

    def interrupt(connection):
        raise Interrupt

    async def test():
        manager = kind.open(server.url, Config(namespace=namespace), **PATIENT)
        s = await settle(manager.session(Request("POST")).load())
        visits.add(s)
        await settle(s.commit())
        with monkeypatch.context() as patch:
            patch.setattr(manager.wire, "_read", interrupt)
            with pytest.raises(Interrupt):
                await settle(manager.revoke_user("ada"))
        (connection,) = manager.wire.pool._available_connections
        assert not (connection._sock if kind is Manager else connection.is_connected)
        await settle(s.reload())
        assert visits.get(s) == 1
        await settle(manager.close())

    asyncio.run(test())


@pytest.mark.parametrize("kind", ["plain", "blocking", "resp3"])
def test_an_outage_is_quick_with_a_client_of_the_application(kind, server, namespace, monkeypatch):
    options = {"plain": {}, "blocking": {}, "resp3": {"protocol": 3}}[kind]
    client = redis.Redis(port=server.port, **PATIENT, **options)
    if kind == "blocking":
        retry = Retry(ExponentialBackoff(cap=2, base=1), 3)
        client = redis.Redis(connection_pool=redis.BlockingConnectionPool(port=server.port, timeout=7, retry=retry))
    manager = Manager(client, Config(namespace=namespace))
    assert type(manager.wire.pool) is type(client.connection_pool)
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    server.stop()
    for _ in range(3):
        with no_long_pause(monkeypatch), pytest.raises(coatcheck.Unavailable):
            s.reload()
    server.start()
    assert client.ping(), "the client of the application still works"
    manager.close()


def test_an_outage_is_quick_with_asyncio(server, namespace, monkeypatch):
    async def test():
        client = redis.asyncio.Redis(port=server.port, **PATIENT)
        manager = coatcheck.AsyncManager(client, Config(namespace=namespace))
        s = await manager.session(Request("POST")).load()
        visits.add(s)
        await s.commit()
        server.stop()
        with no_long_pause(monkeypatch), pytest.raises(coatcheck.Unavailable):
            await s.reload()
        server.start()
        await manager.close()

    asyncio.run(test())


def test_passwords_that_change_stay_with_the_pool_of_the_client(url, namespace):
    if url.startswith("redis-cluster"):
        pytest.skip("options of a single server")
    from redis.credentials import UsernamePasswordCredentialProvider

    client = redis.Redis.from_url(url, credential_provider=UsernamePasswordCredentialProvider("default", "any"))
    manager = Manager(client, Config(namespace=namespace))
    assert manager.wire.pool is client.connection_pool
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    s.reload()
    assert visits.get(s) == 1 and not manager.wire.pool._in_use_connections
