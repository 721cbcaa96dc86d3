"""The data of a user: what the contract suite does not say about reading, changes and ends."""

from __future__ import annotations

import asyncio
import threading

import pytest
from faults import Faults
from patience import PATIENT
from shop import FIELDS, SEAL, cart, key_of, notes, opened, respond, seen, signed_in, theme
from visitor import again, new

import coatcheck
from coatcheck import AsyncManager, Config, Counter, Limit, Login, Request, UserData, Value

notice = Value("notice")  # belongs to the session


# What it is


def test_it_is_the_session_while_nobody_is_signed_in_and_one_object_afterwards(shop):
    s = new(shop)
    assert s.user_data() is s
    s.sign_in(Login("ada"))
    data = s.user_data()
    assert isinstance(data, UserData) and data is s.user_data() and data.user == "ada"
    assert not any(hasattr(data, name) for name in ("sign_in", "sign_out", "renew", "csrf_token", "bearer_token"))
    s.sign_out()
    assert s.user_data() is s


def test_a_session_that_was_not_loaded_is_read(shop):
    cookie = f"__Host-session={signed_in(shop).core.token.text(shop.ring)}"
    assert isinstance(shop.session(Request("GET", [cookie])).user_data(), UserData)


@pytest.mark.parametrize("bad", [dict(user_fields=("cart",)), dict(user_fields=(Counter,)), dict(user_data_timeout=0),
                                 dict(user_data_timeout=11 * 365 * 86400)])
def test_a_config_with_other_fields_or_times_is_refused(bad):
    with pytest.raises(ValueError, match="user_"):
        Config(**bad).checked()


@pytest.mark.parametrize("user", ["", b"", "x" * 257])
def test_a_user_without_a_name_is_refused(shop, user):
    for call in (shop.user_data, shop.delete_user):
        with pytest.raises(coatcheck.Invalid):
            call(user)


# Two requests


def test_two_requests_that_find_no_data_both_take_effect(any_shop):
    s, other = signed_in(any_shop), signed_in(any_shop)
    first, second = s.user_data(), other.user_data()
    cart.add(first, "apple")
    notes.set(first, "a", "first")
    theme.set(first, "dark")
    cart.add(second, "apple")
    notes.set(second, "b", "second")
    respond(other)
    assert theme.update(first, lambda old: old + "er") == "darker"
    assert cart.all(first) == {"apple": 2} and notes.all(first) == {"a": "first", "b": "second"}
    theme.set(first, "light")
    respond(s)
    data = any_shop.user_data("ada")
    assert cart.all(data) == {"apple": 2} and notes.all(data) == {"a": "first", "b": "second"}
    assert theme.get(data) == "light"


@pytest.mark.parametrize("call", ["update", "take", "add_within", "set_within", "commit"])
def test_data_that_expires_between_read_and_write_begins_anew(any_shop, call):
    s = signed_in(any_shop)
    data = s.user_data()
    theme.set(data, "old")
    cart.add(data, "apple", 5)
    data.commit()
    old_id = data.core.record.id
    notes.set(data, "a", 1)
    any_shop.wire.client.delete(key_of(any_shop))
    if call == "update":
        assert theme.update(data, lambda old: [old]) == [None]
    elif call == "take":
        assert theme.take(data) is None
    elif call == "add_within":
        assert cart.add_within(data, "apple", 1, 0, 3, 3) == 1
    elif call == "set_within":
        notes.set_within(data, "b", 2, 2)
    else:
        data.commit()
    notes.set(data, "c", 3)
    respond(s)
    found = any_shop.user_data("ada")
    assert found.core.record.id == data.core.record.id != old_id
    assert notes.all(found) == {"a": 1, "c": 3} | ({"b": 2} if call == "set_within" else {})
    assert cart.all(found) == ({"apple": 1} if call == "add_within" else {})
    assert theme.get(found) == ([None] if call == "update" else None)


def test_two_requests_that_find_their_data_expired_both_take_effect(any_shop):
    """They have read the same data. If they created it with its id, one change would be lost."""
    s, other = signed_in(any_shop), signed_in(any_shop)
    theme.set(s.user_data(), "old")
    respond(s)
    s = again(any_shop, s)
    first, second = s.user_data(), other.user_data()
    any_shop.wire.client.delete(key_of(any_shop))
    for of, data in ((s, first), (other, second)):
        cart.add(data, "apple")
        theme.set(data, "new")
        respond(of)
    found = any_shop.user_data("ada")
    assert cart.all(found) == {"apple": 2} and theme.get(found) == "new"


def test_a_value_of_data_that_was_created_anew_is_taken(any_shop):
    s = signed_in(any_shop)
    theme.set(s.user_data(), "old")
    respond(s)
    s = again(any_shop, s)
    data = s.user_data()
    any_shop.wire.client.delete(key_of(any_shop))
    other = any_shop.user_data("ada")
    theme.set(other, "new")
    other.commit()
    assert theme.take(data) == "new" and theme.get(any_shop.user_data("ada")) is None


def test_a_limit_holds_for_data_that_is_not_stored_yet(any_shop):
    data = signed_in(any_shop).user_data()
    notes.set(data, "a", 1)
    with pytest.raises(Limit):
        notes.set_within(data, "b", 2, 1)
    with pytest.raises(Limit):
        cart.add_within(data, "apple", 5, 0, 3, 1)
    assert notes.all(data) == {"a": 1}
    notes.set(data, "c", 3)
    data.commit()
    assert notes.all(any_shop.user_data("ada")) == {"a": 1, "c": 3}


def test_a_limit_that_another_request_has_reached_leaves_the_other_changes_pending(any_shop):
    data, other = signed_in(any_shop).user_data(), signed_in(any_shop).user_data()
    theme.set(data, "dark")
    notes.set(other, "x", 1)
    other.commit()
    with pytest.raises(Limit):
        notes.set_within(data, "y", 1, 1)
    assert theme.get(data) == "dark" and notes.all(data) == {"x": 1}
    data.commit()
    assert theme.get(any_shop.user_data("ada")) == "dark"


def test_threads_of_one_request_lose_nothing(shop):
    s = signed_in(shop)
    errors = []

    def work(i):
        try:
            for _ in range(10):
                data = s.user_data()
                cart.add(data, "apple")
                data.commit() if i % 2 else notes.update(data, str(i), lambda n: (n or 0) + 1)
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    respond(s)
    data = shop.user_data("ada")
    assert not errors and cart.all(data) == {"apple": 40} and notes.all(data) == {"0": 10, "2": 10}


def test_a_call_of_the_data_waits_for_one_of_the_session(shop):
    s = signed_in(shop)
    data = s.user_data()
    cart.add(data, "apple")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (data.commit(), done.set()))
    with s.core.lock:
        thread.start()
        assert not done.wait(0.3)
    assert done.wait(60)
    thread.join()


async def opened_async(url, namespace):
    """Returns a manager, a session of a user, and the data of the user."""
    manager = AsyncManager.open(url, Config(namespace=namespace, user_fields=FIELDS), **PATIENT)
    s = await manager.session(Request("POST")).load()
    await s.sign_in(Login("ada"))
    return manager, s, await s.user_data()


def test_a_task_of_the_data_waits_for_one_of_the_session(url, namespace, monkeypatch):
    async def test():
        manager, s, data = await opened_async(url, namespace)
        trips, go, real = [], asyncio.Event(), manager.wire._trip

        async def trip(step):
            trips.append(step)
            await go.wait()
            return await real(step)

        monkeypatch.setattr(manager.wire, "_trip", trip)
        notice.set(s, 1)
        cart.add(data, "apple")
        calls = [asyncio.create_task(of.commit()) for of in (s, data)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(trips) == 1
        go.set()
        await asyncio.gather(*calls)
        assert len(trips) > 1 and cart.all(data) == {"apple": 1}
        await manager.close()

    asyncio.run(test())


# The session admits


CHANGES = {
    "commit": lambda data: data.commit(),
    "update": lambda data: theme.update(data, lambda old: "dark"),
    "take": lambda data: notice.take(data),
    "add_within": lambda data: seen.add_within(data, 1, 0, 9),
    "set_within": lambda data: notes.set_within(data, "a", 1, 9),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("end", ["revoke_user", "revoke_everybody", "sign_out", "sign in elsewhere", "renew"])
def test_a_request_of_an_ended_session_changes_nothing(shop, change, end):
    s = signed_in(shop)
    data = s.user_data()
    notice.set(data, "kept")
    data.commit()
    before = shop.wire.client.hgetall(key_of(shop))
    cart.add(data, "apple")
    elsewhere = again(shop, s)
    if end == "sign in elsewhere":
        elsewhere.sign_in(Login("bob"))
    elif end == "revoke_user":
        shop.revoke_user("ada")
    else:
        getattr(shop if end == "revoke_everybody" else elsewhere, end)()
    with pytest.raises(coatcheck.Ended):
        CHANGES[change](data)
    assert s.core.state in ("ended", "moved") and s.core.new_token() is None
    with pytest.raises(coatcheck.Ended):
        respond(s)
    assert shop.wire.client.hgetall(key_of(shop)) == before


def test_a_request_that_signs_out_changes_nothing_afterwards(shop):
    s = signed_in(shop)
    data = s.user_data()
    cart.add(data, "apple")
    s.sign_out()
    cart.add(data, "pear")
    with pytest.raises(coatcheck.Ended):
        respond(s)
    assert not cart.all(shop.user_data("ada"))


def test_a_sign_out_drops_the_changes_also_if_a_sign_in_has_replaced_the_session(shop):
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    again(shop, s).sign_in(Login("bob"))
    with pytest.raises(coatcheck.Ended):
        s.sign_out()
    respond(s)
    assert not cart.all(shop.user_data("ada"))


def test_a_sign_in_as_another_user_stores_the_changes_of_the_first_and_keeps_them_apart(shop):
    s = signed_in(shop)
    ada = s.user_data()
    cart.add(ada, "apple")
    s.sign_in(Login("ada", level=2))
    assert s.user_data() is ada
    cart.add(ada, "apple")
    s.sign_in(Login("bob"))
    bob = s.user_data()
    assert cart.all(bob) == {}
    cart.add(bob, "pear")
    respond(s)
    assert cart.all(shop.user_data("ada")) == {"apple": 2} and cart.all(shop.user_data("bob")) == {"pear": 1}
    cart.add(ada, "plum")
    with pytest.raises(coatcheck.Ended):
        respond(s)
    assert cart.all(shop.user_data("ada")) == {"apple": 2} and cart.all(shop.user_data("bob")) == {"pear": 1}


def test_a_sign_in_after_an_end_drops_the_changes_of_the_ended_session(shop):
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    again(shop, s).sign_out()
    s.sign_in(Login("ada"))
    cart.add(s.user_data(), "pear")
    respond(s)
    assert cart.all(shop.user_data("ada")) == {"pear": 1}


# The session is committed first


def test_data_is_unchanged_if_the_session_is_refused(shop):
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    notice.set(s, "\ud800")
    with pytest.raises(coatcheck.Invalid):
        respond(s)
    assert not cart.all(shop.user_data("ada"))


def test_a_mistake_in_the_data_fails_the_request(shop):
    s = signed_in(shop)
    notice.set(s, "kept")
    theme.set(s.user_data(), "\ud800")
    with pytest.raises(coatcheck.Invalid):
        respond(s)
    assert notice.get(again(shop, s)) == "kept" and not s.core.reported


def test_discard_drops_both(shop):
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    theme.set(s.user_data(), "\ud800")
    notice.set(s, 1)
    s.discard()
    cart.add(s.user_data(), "pear")
    respond(s)
    assert cart.all(shop.user_data("ada")) == {"pear": 1} and notice.get(again(shop, s)) is None


def test_a_change_whose_reply_was_lost_is_sent_once(shop, monkeypatch):
    s = signed_in(shop)
    data = s.user_data()
    cart.add(data, "apple")
    data.commit()
    faults = Faults(shop, monkeypatch)
    faults.at("apply", faults.lose_reply)
    cart.add(data, "apple")
    with pytest.raises(coatcheck.UnknownOutcome):
        respond(s)
    assert cart.all(shop.user_data("ada")) == {"apple": 2}


@pytest.mark.parametrize("lost", ["lose_reply", "lose_call"])
def test_the_creation_of_data_is_repeated(shop, monkeypatch, lost):
    s = signed_in(shop)
    faults = Faults(shop, monkeypatch)
    faults.at("create", getattr(faults, lost))
    cart.add(s.user_data(), "apple")
    respond(s)
    assert faults.seen.count("create") >= 2 and cart.all(shop.user_data("ada")) == {"apple": 1}


def test_a_server_that_goes_away_between_the_commits_is_an_error_and_no_empty_data(server, namespace):
    shop = opened(server.url, namespace)
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    respond(s)
    s = again(shop, s)
    data = s.user_data()
    cart.add(data, "apple")
    server.stop()
    with pytest.raises(coatcheck.Unavailable):
        respond(s)
    assert cart.all(data)["apple"] >= 1
    with pytest.raises(coatcheck.Unavailable):
        shop.user_data("ada")
    with pytest.raises(coatcheck.Unavailable):
        data.reload()
    cart.add(data, "apple")
    with pytest.raises(RuntimeError):
        data.commit()
    server.start()
    shop.close()


def test_a_client_that_hangs_up_between_the_commits_stops_neither(url, namespace, monkeypatch):
    async def test():
        manager, s, data = await opened_async(url, namespace)
        assert data is await s.user_data()
        notice.set(s, "stored")
        cart.add(data, "apple")
        between, go, read = asyncio.Event(), asyncio.Event(), manager.store.read

        def held(locator):
            between.set()
            return read(locator)

        async def trip(step):
            if between.is_set():
                await go.wait()
            return await real(step)

        real = manager.wire._trip
        monkeypatch.setattr(manager.store, "read", held)
        monkeypatch.setattr(manager.wire, "_trip", trip)
        request = asyncio.create_task(s.run(s.core.before_header()))
        await asyncio.wait_for(between.wait(), 60)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        go.set()
        await asyncio.wait(manager._tasks)
        found = await manager.user_data("ada")
        assert cart.all(found) == {"apple": 1} and not s.core.view.ops
        cart.add(found, "pear")
        await found.commit()
        await data.reload()
        assert cart.all(data) == {"apple": 1, "pear": 1}
        assert await manager.delete_user("ada") == 1
        await manager.close()

    asyncio.run(test())
