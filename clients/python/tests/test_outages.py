"""Outages, failovers and fork."""

from __future__ import annotations

import os
import time

import pytest
import redis
from conftest import await_that
from patience import PATIENT, impatient, no_long_pause
from visitor import again, new

import coatcheck
from coatcheck import Config, Counter, Login, Manager, Request, tokens
from coatcheck.ends import Ends

visits = Counter("n")


# Outages


def test_an_addition_is_not_repeated_and_its_outcome_is_unknown(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace), **PATIENT)
    s = new(manager)
    for _ in range(2):  # the second loads apply.lua
        visits.add(s)
        s.commit()
    other = again(manager, s)
    visits.add(s)
    with impatient(manager):
        server.pause()
        with pytest.raises(coatcheck.UnknownOutcome):
            s.commit()
    server.resume()

    def count():
        other.reload()
        return visits.get(other)

    await_that("the server reads what it was sent meanwhile", lambda: count() > 2)
    for _ in range(20):
        assert count() == 3
    manager.close()


def test_a_change_whose_reply_was_lost_is_sent_once(manager, monkeypatch):
    s = new(manager)
    for _ in range(2):  # the second loads apply.lua
        visits.add(s)
        s.commit()
    read, lost = manager.wire._read, []

    def lose_one(connection):
        reply = read(connection)
        if not lost:
            lost.append(reply)
            raise redis.exceptions.ConnectionError("the reply is lost")
        return reply

    monkeypatch.setattr(manager.wire, "_read", lose_one)
    visits.add(s)
    with pytest.raises(coatcheck.UnknownOutcome):
        s.commit()
    assert visits.get(again(manager, s)) == 3


def test_it_works_again_after_the_server_was_away_and_its_scripts_are_lost(server, namespace, monkeypatch):
    manager = Manager.open(server.url, Config(namespace=namespace), **PATIENT)
    s = new(manager)
    visits.add(s)
    s.commit()
    server.stop()
    with no_long_pause(monkeypatch), pytest.raises(coatcheck.Unavailable):
        again(manager, s)
    server.start()
    s = new(manager)
    visits.add(s)
    s.commit()
    manager.wire.client.script_flush()
    visits.add(s)
    s.commit()
    assert visits.get(again(manager, s)) == 2
    manager.close()


def test_an_end_that_a_failover_undid_is_repeated(manager, namespace):
    s = new(manager)
    visits.add(s)
    s.sign_in(Login("ada"))
    key = manager.store.keys.session(s.core.token.handle)
    client = manager.wire.client
    dump = client.dump(key)
    cookie = f"__Host-session={s.core.token.text(manager.ring)}"
    s.sign_out()
    client.restore(key, 3_600_000, dump, replace=True)
    revived = manager.session(Request("POST", [cookie])).load()
    assert revived.core.state != "live", "this process refuses it at once"
    manager.store.ends.connection_lost()
    await_that("the end is repeated", lambda: not client.exists(key))


def test_ends_are_repeated_after_a_lost_connection_and_a_changed_primary(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ends = Ends()
    ends.add("0000-a", None)
    ends.add_revocation("owner", b"text")
    assert ends.due() == [] and ends.due_revocations() == []
    ends.connection_lost()
    assert ends.due() == [("0000-a", None, False)] and ends.due_revocations() == [("owner", b"text")]
    ends.primaries(frozenset({b"1"}))
    assert ends.due() == []
    ends.primaries(frozenset({b"2"}))
    assert len(ends.due()) == 1
    found = []
    for step in range(3200):
        now[0] = 100 + step / 10
        found += [step / 10] * len(ends.due())
    assert found == [1, 5, 30, 300]
    assert ends.refusal("0000-a") and not ends.refusal("0000-b")


def test_a_revocation_of_everybody_that_a_failover_lost_is_restored(manager):
    s = new(manager)
    visits.add(s)
    s.commit()
    manager.revoke_everybody()
    client = manager.wire.client
    stored = client.get(manager.store.keys.revoked)
    client.delete(manager.store.keys.revoked)
    again(manager, s)
    if not manager.wire.cluster:
        assert client.get(manager.store.keys.revoked) == stored
    assert again(manager, s).core.state == "anonymous"


# Fork and clocks


def test_a_forked_process_has_connections_of_its_own(manager):
    s = new(manager)
    visits.add(s)
    s.commit()
    other = new(manager)
    other.sign_in(Login("bob"))
    other.sign_out()  # starts the thread that repeats ends
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(25):
                    mine = again(manager, s)
                    visits.add(mine)
                    mine.commit()
                new(manager).sign_in(Login("ada"))
                other = new(manager)
                other.sign_in(Login("eve"))
                other.sign_out()
                assert manager._repeater_pid == os.getpid() and manager._repeater.is_alive()
                os._exit(0)
            except BaseException as err:
                os.write(2, repr(err).encode())
                os._exit(1)
        children.append(child)
    for _ in range(25):
        mine = again(manager, s)
        visits.add(mine)
        mine.commit()
    assert [os.waitpid(c, 0)[1] for c in children] == [0] * 4
    assert visits.get(again(manager, s)) == 126
    randoms = {tokens.Token.new().text(manager.ring) for _ in range(10)}
    assert len(randoms) == 10


def test_a_lock_that_a_thread_held_at_fork_is_free_in_the_child(manager):
    with manager.store.ends._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if manager.store.ends._lock.acquire(timeout=60) else 1)
    assert os.waitpid(child, 0)[1] == 0
