"""Ends that wait for replicas."""

from __future__ import annotations

import asyncio

import pytest
from conftest import Server, await_that
from patience import PATIENT

import coatcheck
from coatcheck import AsyncManager, Config, Login, Manager, ReplicaError, Replicas, Request, Value

v = Value("v")


@pytest.fixture(scope="module")
def pair():
    """A primary and a replica that follows it."""
    primary = Server("--repl-diskless-sync-delay", "0")
    replica = Server("--replicaof", "127.0.0.1", str(primary.port))
    client = primary.client()
    try:
        client.set("seen", 1)
        await_that("the replica has the write", lambda: client.wait(1, 100) == 1)
        yield primary, replica
    finally:
        replica.close()
        primary.close()


def signed_in(manager):
    s = manager.session(Request("POST")).load()
    v.set(s, 1)
    s.sign_in(Login("ada"))
    return s


ENDS = {
    "sign_out": lambda m, s: s.sign_out(),
    "revoke": lambda m, s: m.revoke("ada", s.info.handle),
    "revoke_user": lambda m, s: m.revoke_user("ada"),
    "revoke_everybody": lambda m, s: m.revoke_everybody(),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_end_waits_for_replicas(pair, namespace, how):
    primary, replica = pair
    manager = Manager.open(primary.url, Config(namespace=namespace), Replicas(1, timeout=50), **PATIENT)
    s = signed_in(manager)
    key = manager.store.keys.session(s.core.token.handle)
    ENDS[how](manager, s)
    copy = replica.client()
    assert copy.hget(key, "@s") is None, "the replica has the end"
    assert not copy.exists(manager.store.keys.marker(s.core.token.handle[:4] if s.core.cred.token else "0000"))
    manager.close()


@pytest.mark.parametrize("how", ENDS)
def test_an_end_that_too_few_replicas_acknowledge_is_made_all_the_same(pair, namespace, how, monkeypatch):
    primary, _ = pair
    replies, check = [], Replicas.check

    def checked(self, reply):
        replies.append(reply)  # a replica that a busy machine stops for 50 ms is not counted
        check(self, reply)

    monkeypatch.setattr(Replicas, "check", checked)
    manager = Manager.open(primary.url, Config(namespace=namespace), Replicas(2, timeout=0.05), **PATIENT)
    s = signed_in(manager)
    cookie = f"__Host-session={s.core.token.text(manager.ring)}"
    with pytest.raises(ReplicaError) as found:
        ENDS[how](manager, s)
    assert replies and replies[-1] in (0, 1) and f"the end is made, but {replies[-1]} of 2" in str(found.value)
    assert (found.value.want, found.value.got, found.value.status) == (2, replies[-1], 503)
    assert isinstance(found.value, coatcheck.UnknownOutcome)
    assert manager.session(Request("POST", [cookie])).load().user == ""
    if how == "sign_out":
        assert s.core.drop_cookie is s.core.cred.has_cookie
    manager.close()


def test_an_end_waits_with_asyncio(pair, namespace):
    async def test():
        manager = AsyncManager.open(pair[0].url, Config(namespace=namespace), Replicas(2, timeout=0.05), **PATIENT)
        s = await manager.session(Request("POST")).load()
        await s.sign_in(Login("ada"))
        with pytest.raises(ReplicaError):
            await s.sign_out()
        await manager.close()

    asyncio.run(test())


def test_the_reply_of_waitaof(url, namespace):
    from coatcheck.wire import ServerError

    asked = Replicas(1, timeout=3, fsync=True)
    assert asked.wait() == ("WAITAOF", 1, 1, 3000) and Replicas(2).wait() == ("WAIT", 2, 500)
    asked.check([1, 1])
    for reply, why in (([0, 1], "disk"), ([1, 0], "0 of 1"), (ServerError("ERR", "unknown command"), "unknown")):
        with pytest.raises(ReplicaError, match=why):
            asked.check(reply)
