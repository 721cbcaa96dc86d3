"""Fields: limits, and atomic changes beside changes that are not committed, sealed or not."""

from __future__ import annotations

import pytest
from patience import PATIENT
from visitor import again, new

import coatcheck
from coatcheck import Config, Counter, Counters, Invalid, Limit, Login, Manager, Map, Value

stock, cart, gifts, v = Counter("stock"), Counters("cart"), Map("gifts"), Value("v")
SEAL = dict(keys=(bytes(range(32)),), user_key=b"u" * 32, seal=True)


@pytest.fixture(params=["clear", "sealed"])
def manager(request, url, namespace):
    options = SEAL if request.param == "sealed" else {}
    m = Manager.open(url, Config(namespace=namespace, keep_fields=("v",), **options), **PATIENT)
    yield m
    m.close()


def is_sealed(manager, s, name):
    key = manager.store.keys.session(s.core.token.handle)
    return manager.wire.client.hget(key, name)[:1] in (b"~", "~")


def test_each_way_to_store_a_value_seals_it(manager):
    s = new(manager)
    v.set(s, 1)
    gifts.set(s, "a", 1)
    s.commit()
    gifts.set_within(s, "b", 1, 2)
    Value("w").update(s, lambda n: 1)
    Value("x").set(s, 1)
    s.commit()
    for name in ("v", "gifts:a", "gifts:b", "w", "x"):
        assert is_sealed(manager, s, name) == manager.config.seal, name


@pytest.mark.parametrize("stored", [False, True])
def test_update_and_take_see_what_the_request_has_set(manager, stored):
    s = new(manager)
    if stored:
        stock.add(s)
        s.commit()
    v.set(s, 1)
    assert v.update(s, lambda n: (n or 0) + 1) == 2
    v.set(s, 5)
    assert v.update(s, lambda n: (n or 0) + 1) == 6 and v.get(again(manager, s)) == 6
    v.set(s, 7)
    assert v.take(s) == 7 and v.get(again(manager, s)) is None


def test_the_first_commit_of_a_session_may_be_an_atomic_change(manager):
    s = new(manager)
    v.set(s, "notice")
    assert v.take(s) == "notice" and v.take(again(manager, s)) is None
    s = new(manager)
    assert v.update(s, lambda n: [n]) == [None] and v.get(again(manager, s)) == [None]
    s = new(manager)
    assert stock.add_within(s, 3, 0, 5) == 3 and stock.get(again(manager, s)) == 3


def test_a_new_session_has_the_limits_too(manager):
    s = new(manager)
    gifts.set(s, "a", 1)
    with pytest.raises(Limit):
        gifts.set_within(s, "b", 1, 1)
    with pytest.raises(Limit):
        stock.add_within(s, 1, 2, 3)
    stock.add(s, 9)
    for n in (1, 0, -7):
        with pytest.raises(Limit):
            stock.add_within(s, n, 3, 5)
    assert s.core.record is None
    assert stock.add_within(s, -2, 3, 5) == 7, "a count that is out of its bounds may come closer"
    gifts.set_within(s, "b", 1, 2)
    assert gifts.all(again(manager, s)) == {"a": 1, "b": 1}


def test_a_sign_in_keeps_what_the_request_has_set(manager):
    s = new(manager)
    v.set(s, "before")
    gifts.set(s, "a", 1)
    s.sign_in(Login("ada"))
    assert v.get(s) == "before" and gifts.get(again(manager, s), "a") == 1
    v.set(s, "after")
    s.sign_in(Login("ada"))
    assert v.get(again(manager, s)) == "after"


def test_after_a_limit_the_session_takes_changes(manager):
    s = new(manager)
    stock.add(s, 18)
    s.commit()
    other = again(manager, s)
    stock.add(other, 2)
    other.commit()
    v.set(s, "pending")
    with pytest.raises(Limit, match=r"'stock': with \+1 the count would not be from 0 to 20") as found:
        stock.add_within(s, 1, 0, 20)
    assert found.value.status == 409
    assert stock.get(s) == 20, "the view has the present count"
    assert v.get(s) == "pending" and v.get(again(manager, s)) is None
    gifts.set(s, "a", 1)
    with pytest.raises(Limit, match="'gifts': at most 1 entries"):
        gifts.set_within(s, "b", 2, 1)
    with pytest.raises(Limit, match="'cart': at most 0 entries"):
        cart.add_within(s, "apple", 1, 0, 9, 0)
    assert stock.add_within(s, -20, 0, 20) == 0
    found = again(manager, s)
    assert v.get(found) == "pending" and gifts.all(found) == {"a": 1} and cart.all(found) == {}


@pytest.mark.parametrize("act", [
    lambda s: stock.add_within(s, 1, 0, 1 << 63), lambda s: stock.add_within(s, True, 0, 1),
    lambda s: stock.add_within(s, 1, 0.0, 1), lambda s: gifts.set_within(s, "a", 1, -1),
    lambda s: gifts.set_within(s, "a", 1, 1 << 32), lambda s: gifts.set_within(s, "a", {1}, 1),
    lambda s: cart.add_within(s, "a" * 257, 1, 0, 1, 1),
])
def test_bounds_that_are_not_valid_fail_the_commit(manager, act):
    s = new(manager)
    v.set(s, 1)
    with pytest.raises(Invalid):
        act(s)
    with pytest.raises(Invalid):
        s.commit()
    assert s.core.record is None


def test_a_limit_in_a_session_that_ended_is_ended(manager):
    s = new(manager)
    stock.add(s)
    s.commit()
    again(manager, s).sign_out()
    with pytest.raises(coatcheck.Ended):
        stock.add_within(s, 1, 0, 20)
