"""The stored data of a user: its use, hostile records, and keys that were dropped."""

from __future__ import annotations

import pytest
from shop import SEAL, cart, key_of, opened, respond, signed_in, theme
from visitor import again, new

import coatcheck
from coatcheck import Login


# Use


def aged(shop, key, ms):
    """Sets the times of a record back."""
    client = shop.wire.client
    stored = {n.decode(): v.decode() for n, v in client.hgetall(key).items() if n in (b"@s", b"@l")}
    for name, at in (("@s", 44), ("@l", 22), ("@l", 34)):
        text = stored[name]
        stored[name] = text[:at] + f"{int(text[at : at + 12], 16) - ms:012x}" + text[at + 12 :]
    client.hset(key, mapping=stored)
    client.pexpire(key, client.pttl(key) - ms)


@pytest.mark.parametrize("minutes, due", [(50, False), (61, True)])
def test_a_use_is_recorded_to_within_an_hour(shop, minutes, due):
    s = signed_in(shop)
    cart.add(s.user_data(), "apple")
    respond(s)
    key = key_of(shop)
    aged(shop, key, minutes * 60_000)
    before = shop.wire.client.pttl(key)
    s = again(shop, s)
    assert not s.core.touch_due()
    s.user_data()
    assert s.core.touch_due() == due
    s.run(s.core.after_response(failed=False))
    assert (shop.wire.client.pttl(key) > before) == due
    assert (90 * 86_400_000 - shop.wire.client.pttl(key) < 60_000) == due


def test_reload_reads_both_again(shop):
    s = signed_in(shop)
    data = s.user_data()
    other = shop.user_data("ada")
    cart.add(other, "apple")
    other.commit()
    cart.add(data, "pear")
    s.reload()
    assert cart.all(data) == {"apple": 1}


# Hostile data


def test_what_is_no_user_data_is_an_error_and_stays(shop):
    s = signed_in(shop)
    data = s.user_data()
    cart.add(data, "apple")
    data.commit()
    client, key, session = shop.wire.client, key_of(shop), shop.store.keys.session(s.core.token.handle)
    good = client.hgetall(key)
    state = good[b"@s"]
    hashes = [
        {**good, b"@s": b"2" + state[1:]}, {**good, b"@s": state[:2] + b"A" * 22 + state[24:]},
        {**good, b"@s": state[:-1] + b"F"}, {**good, b"@s": state[:36] + b"00000001" + state[44:]},
        {**good, b"@new": b"x"}, {**good, b"a b": b"1"}, {n: v for n, v in good.items() if n != b"@l"},
        {**good, b"@previous": b"a" + b"B" * 21 + b"A" + b"0" * 32}, {**good, b"@moving": b"A" * 22 + b"0" * 12},
        client.hgetall(session), {b"@moved": b"0" * 12}, {b"@ended": b"0" * 12 + b"A" * 22}, {b"x": b"1"},
    ]  # fmt: skip
    puts = [lambda h=h: client.hset(key, mapping=h) for h in hashes]
    puts += [lambda: client.set(key, "x"), lambda: client.rpush(key, "x"), lambda: client.zadd(key, {"x": 1})]
    for i, put in enumerate(puts):
        client.delete(key)
        put()
        before = client.dump(key)
        with pytest.raises(coatcheck.Unavailable):
            shop.user_data("ada")
        with pytest.raises(coatcheck.Unavailable):
            again(shop, s).user_data()
        visitor = new(shop)
        cart.add(visitor, "pear")
        visitor.sign_in(Login("ada"))
        assert cart.all(visitor) == {"pear": 1}, "it stays in the session"
        assert client.dump(key) == before, f"case {i} was rewritten"


@pytest.mark.parametrize("put", ["string", "another verifier", "session"])
def test_what_takes_the_place_of_data_between_read_and_write_stays(shop, put):
    s = signed_in(shop)
    data = s.user_data()
    cart.add(data, "apple")
    data.commit()
    client, key = shop.wire.client, key_of(shop)
    cart.add(data, "apple")
    if put == "string":
        client.set(key, "x")
    elif put == "session":
        session = client.hgetall(shop.store.keys.session(s.core.token.handle))
        client.delete(key)
        client.hset(key, mapping=session)
    else:
        state = client.hget(key, "@s")
        client.hset(key, "@s", state[:2] + b"A" * 22 + state[24:])
    before = client.dump(key)
    with pytest.raises(coatcheck.Unavailable):
        respond(s)
    with pytest.raises(coatcheck.Unavailable):
        shop.delete_user("ada")
    assert client.dump(key) == before


def test_data_with_a_dropped_key_is_an_error_and_can_be_deleted(url, namespace):
    shop = opened(url, namespace, **SEAL)
    s = signed_in(shop)
    theme.set(s.user_data(), "dark")
    respond(s)
    client = shop.wire.client
    assert client.hget(key_of(shop), "theme").startswith(b"~1")
    other = opened(url, namespace, **{**SEAL, "keys": (b"o" * 32,)})
    visitor = new(other)
    cart.add(visitor, "apple")
    visitor.sign_in(Login("ada"))
    for call in (lambda: other.user_data("ada"), visitor.user_data):
        with pytest.raises(coatcheck.Sealed):
            call()
    assert cart.all(visitor) == {"apple": 1} and client.hget(key_of(shop), "theme")
    assert other.delete_user("ada") == 2
    assert not theme.get(shop.user_data("ada")) and client.exists(key_of(shop))
    for m in (shop, other):
        m.close()
