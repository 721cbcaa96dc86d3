"""The join of a session's fields with the data of its user: faults, conflicts and what does not fit."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter as Tally
from dataclasses import replace

import pytest
from faults import Faults
from shop import SEAL, cart, key_of, notes, opened, respond, seen, signed_in, theme
from visitor import again, new

import coatcheck
from coatcheck import Config, Login, Manager, Value
from coatcheck.wire import ServerError


def visitor_with(shop, **counts):
    """Returns the session of a visitor who has a cart."""
    s = new(shop)
    for fruit, n in counts.items():
        cart.add(s, fruit, n)
    theme.set(s, "dark")
    notes.set(s, "x", 1)
    s.commit()
    return again(shop, s)


def joined_cart(shop, s):
    """Returns the cart of the user, after the session has joined what it has left."""
    found = cart.all(again(shop, s).user_data())
    assert cart.all(shop.user_data("ada")) == found
    assert not cart.all(again(shop, s)), "the session has nothing left"
    return found


def test_a_sign_in_joins_what_is_stored_and_what_is_not_committed(any_shop):
    first = signed_in(any_shop)
    cart.add(first.user_data(), "apple", 5)
    theme.set(first.user_data(), "light")
    respond(first)
    s = visitor_with(any_shop, apple=1, pear=2)
    cart.add(s, "apple", 10)
    notes.set(s, "y", 2)
    Value("other").set(s, "kept with the sign-in")
    s.sign_in(Login("ada"))
    assert cart.all(s) == {} and not s.core.user_fields()
    data = s.user_data()
    assert cart.all(data) == {"apple": 16, "pear": 2} and theme.get(data) == "dark"
    assert notes.all(data) == {"x": 1, "y": 2} and Value("other").get(s)
    assert joined_cart(any_shop, s) == {"apple": 16, "pear": 2}
    stored = any_shop.wire.client.hget(key_of(any_shop), "theme")
    assert (stored[:2] == b"~1") == any_shop.config.seal


@pytest.mark.parametrize("lost", ["lose_reply", "lose_call"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("script", ["create", "join", "read"])
def test_whatever_call_of_the_join_fails_the_cart_joins_once(any_shop, monkeypatch, script, lost, times):
    s = visitor_with(any_shop, apple=2)
    faults = Faults(any_shop, monkeypatch)
    fail = lambda: faults.at(script, getattr(faults, lost), times)  # noqa: E731
    if script == "read":  # the sign-in reads, too: fail the reads after it
        user_data = s.core.user_data
        monkeypatch.setattr(s.core, "user_data", lambda: (fail(), user_data())[1])
    else:
        fail()
    s.sign_in(Login("ada"))
    faults.rules.clear()
    respond(s)
    assert s.core.new_token() is not None
    assert script in faults.seen and joined_cart(any_shop, s) == {"apple": 2}


@pytest.mark.parametrize("times", [1, 2])
def test_a_join_whose_reply_is_lost_at_user_data_is_made_once(any_shop, monkeypatch, times):
    s = visitor_with(any_shop, apple=2)
    s.sign_in(Login("ada"))
    cart.add(s, "apple", 40)  # as a program without Config.user_fields
    s.commit()
    faults = Faults(any_shop, monkeypatch)
    faults.at("join", faults.lose_reply, times)
    data = s.user_data()
    assert cart.all(data) == {"apple": 42} and cart.all(s) == {}
    assert joined_cart(any_shop, s) == {"apple": 42}


def test_records_that_cannot_be_read_after_the_calls_are_known_all_the_same(any_shop, monkeypatch):
    def unread(trip):
        replies = faults.done(trip)
        return replies[:1] + [ServerError("MOVED", "0")] * (len(replies) - 1)

    s = visitor_with(any_shop, apple=1)
    faults = Faults(any_shop, monkeypatch)
    for script in ("create", "join"):
        faults.at(script, unread)
    s.sign_in(Login("ada"))
    assert not cart.all(s)
    data = s.user_data()
    assert not faults.rules and cart.all(data) == {"apple": 1} and theme.get(data) == "dark" and not cart.all(s)
    cart.add(data, "apple")
    respond(s)
    assert joined_cart(any_shop, s) == {"apple": 2}


def test_others_that_change_both_records_make_the_join_read_again(any_shop, monkeypatch):
    s = visitor_with(any_shop, apple=1)
    s.sign_in(Login("ada"))
    cart.add(s, "apple", 2)
    s.commit()
    turns = []

    def others():
        turns.append(1)
        with monkeypatch.context() as real:
            real.setattr(any_shop.wire, "_trip", faults.real)
            phone = any_shop.user_data("ada")
            cart.add(phone, "apple", 10)
            theme.set(phone, f"{len(turns)}")
            phone.commit()
            tab = again(any_shop, s)
            cart.add(tab, "pear", 1)
            tab.commit()

    faults = Faults(any_shop, monkeypatch)
    faults.at("join", faults.after(others), 3)
    data = s.user_data()
    assert len(turns) == 3 and cart.all(data) == {"apple": 33, "pear": 3} and theme.get(data) == "3"
    assert joined_cart(any_shop, s) == {"apple": 33, "pear": 3}


def test_others_that_never_stop_make_user_data_unavailable_and_lose_nothing(shop, monkeypatch):
    s = visitor_with(shop, apple=1)
    s.sign_in(Login("ada"))
    cart.add(s, "apple")
    s.commit()
    faults = Faults(shop, monkeypatch)

    def others():
        with monkeypatch.context() as real:
            real.setattr(shop.wire, "_trip", faults.real)
            phone = shop.user_data("ada")
            cart.add(phone, "apple")
            phone.commit()

    faults.at("join", faults.after(others), 1000)
    with pytest.raises(coatcheck.Unavailable, match="keep changing"):
        s.user_data()
    calls = faults.seen.count("join")
    faults.rules.clear()
    assert 10 < calls < 100 and joined_cart(shop, s) == {"apple": 2 + calls}


def test_data_that_expires_before_the_join_is_created_again(any_shop, monkeypatch):
    s = visitor_with(any_shop, apple=1)
    faults = Faults(any_shop, monkeypatch)
    faults.at("join", faults.after(lambda: any_shop.wire.client.delete(key_of(any_shop))), 2)
    s.sign_in(Login("ada"))
    assert faults.seen.count("create") == 3
    assert cart.all(s.user_data()) == {"apple": 1} and theme.get(s.user_data()) == "dark"
    assert joined_cart(any_shop, s) == {"apple": 1}


def test_fields_join_data_that_was_created_anew_since_the_request_has_read_it(any_shop):
    s = signed_in(any_shop)
    cart.add(s.user_data(), "apple")
    respond(s)
    s = again(any_shop, s)
    s.user_data()
    any_shop.wire.client.delete(key_of(any_shop))
    other = any_shop.user_data("ada")
    notes.set(other, "a", 1)
    other.commit()
    theme.set(s, "dark")  # in the session
    s.commit()
    assert theme.get(s.user_data()) == "dark" and notes.all(s.user_data()) == {"a": 1}
    data = any_shop.user_data("ada")
    assert theme.get(data) == "dark" and notes.all(data) == {"a": 1} and not cart.all(data)


@pytest.mark.parametrize("code", ["TRYAGAIN", "a sign-in elsewhere", "an unused token"])
def test_a_join_that_has_to_wait_is_made_by_a_later_request(shop, monkeypatch, code):
    s = visitor_with(shop, apple=1)
    faults = Faults(shop, monkeypatch)
    if code == "TRYAGAIN":
        faults.at("join", faults.refuse("TRYAGAIN"), 1)
    else:
        faults.at("join", lambda trip: [[b"busy"], *faults.real(replace(trip, commands=trip.commands[1:]))])
    s.sign_in(Login("ada"))
    assert faults.seen.count("join") == 1 and cart.all(s) == {"apple": 1}
    if code == "an unused token":
        s.renew()
    data = s.user_data()
    left = {"apple": 1} if code == "an unused token" else {}
    assert cart.all(s) == left and cart.all(data) == ({} if left else {"apple": 1})
    later = again(shop, s)
    if later.core.touch_due():
        later.run(later.core.touch())
    assert joined_cart(shop, s) == {"apple": 1}


@pytest.mark.parametrize("end", ["revoke_user", "sign_out"])
def test_a_session_that_ends_before_the_join_joins_nothing(shop, monkeypatch, end):
    s = visitor_with(shop, apple=1)
    faults = Faults(shop, monkeypatch)

    def over():
        with monkeypatch.context() as real:
            real.setattr(shop.wire, "_trip", faults.real)
            shop.revoke_user("ada") if end == "revoke_user" else again(shop, s).sign_out()

    faults.at("join", faults.after(over))
    s.sign_in(Login("ada"))
    assert s.core.state == "ended" and s.core.new_token() is None
    assert not cart.all(shop.user_data("ada"))
    with pytest.raises(coatcheck.Ended):
        cart.add(s, "pear")
        respond(s)


DOES_NOT_FIT = {
    "bytes": (lambda d: notes.set(d, "a", "x" * 65_000), lambda s: notes.set(s, "b", "x" * 1000), coatcheck.TooLarge, notes),
    "entries": (lambda d: [cart.add(d, f"k{i}") for i in range(1000)],
                lambda s: [cart.add(s, f"u{i}") for i in range(100)], coatcheck.TooLarge, cart),
    "overflow": (lambda d: cart.add(d, "apple", (1 << 63) - 1), lambda s: cart.add(s, "apple"), coatcheck.Invalid, cart),
    "underflow": (lambda d: cart.add(d, "apple", -(1 << 63)), lambda s: cart.add(s, "apple", -1), coatcheck.Invalid, cart),
    "no count": (lambda d: Value("cart").set(d, "x"), lambda s: Value("cart").set(s, "y"), coatcheck.Decode, Value("cart")),
}  # fmt: skip


@pytest.mark.parametrize("why", DOES_NOT_FIT)
def test_fields_that_do_not_fit_stay_until_there_is_room(shop, caplog, why):
    fill, add, error, field = DOES_NOT_FIT[why]
    data = shop.user_data("ada")
    fill(data)
    data.commit()
    s = new(shop)
    seen.add(s)
    add(s)
    with caplog.at_level(logging.WARNING):
        s.sign_in(Login("ada"))
    assert "did not join" in caplog.text and s.user == "ada"
    respond(s)
    before = shop.wire.client.hgetall(key_of(shop))
    s = again(shop, s)
    with pytest.raises(error, match="do not fit"):
        s.user_data()
    assert seen.get(s) == 1 and shop.wire.client.hgetall(key_of(shop)) == before
    assert s.core.error is None, "the request goes on without the data"
    data.reload()
    field.delete(data) if why == "no count" else field.clear(data)
    data.commit()
    if why == "no count":
        field.delete(s)
        s.commit()
    found = s.user_data()
    assert seen.get(found) == 1 and seen.get(s) == 0
    assert joined_cart(shop, s) == cart.all(found)


def test_another_users_session_joins_nothing(shop):
    s = signed_in(shop)
    cart.add(s, "apple")  # in the session, and not in the data
    s.commit()
    s.sign_in(Login("bob"))
    assert cart.all(s.user_data()) == {} and not cart.all(shop.user_data("bob"))


def test_without_user_fields_nothing_joins(url, namespace):
    m = Manager.open(url, Config(namespace=namespace, keep_fields=("cart",)))
    s = visitor_with(m, apple=1)
    s.sign_in(Login("ada"))
    assert cart.all(s.user_data()) == {} and cart.all(s) == {"apple": 1}
    m.close()


def test_carts_equal_the_model(url, namespace):
    """Four devices of one user, on two Managers, add, remove, and sign in and out at the same time."""
    nodes = [opened(url, namespace, **SEAL) for _ in range(2)]
    total, lock, errors = Tally(), threading.Lock(), []

    def device(number):
        rng, own = random.Random(number), Tally()
        s = new(nodes[0])
        try:
            for step in range(40):
                node = rng.choice(nodes)
                s = again(node, s) if s.core.found else new(node)
                choice = rng.randrange(12) if step < 39 else 0
                if choice == 0 and not s.user:
                    s.sign_in(Login("ada"))
                    with lock:
                        total.update(own)
                    own.clear()
                elif choice == 0 and step < 39:
                    s.sign_out()
                else:
                    fruit, n = f"f{rng.randrange(5)}", rng.randrange(-2, 5)
                    cart.add(s.user_data(), fruit, n)
                    with lock:
                        (total if s.user else own)[fruit] += n
                respond(s)
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=device, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors
    found = cart.all(nodes[1].user_data("ada"))
    assert {k: n for k, n in found.items() if n} == {k: n for k, n in total.items() if n}
    for m in nodes:
        m.close()
