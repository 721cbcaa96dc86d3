"""Hostile input, other clients' settings, and clocks."""

from __future__ import annotations

import json
import subprocess
import threading
import time

import pytest
import redis
from conftest import await_that, free_port
from patience import PATIENT
from visitor import again, new

import coatcheck
from coatcheck import (
    Config,
    Counter,
    Counters,
    Invalid,
    Login,
    Manager,
    Map,
    Request,
    Value,
    record,
    tokens,
    view,
)
from coatcheck.fields import decode_json, encode_json

anything, visits = Value("v"), Counter("n")
ANON = "__Host-session-anon"


# JSON


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", "1e999", "\ufeff1", "'a'",
                                  "[1,]", "01", "\u0661", "1 2", "", '"\\ud800"', '{"\\udc00":1}', "\x00", '"\n"'])
def test_what_is_no_json_is_not_read(text):
    with pytest.raises(coatcheck.Decode):
        decode_json("v", text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("raw", [b'"\xff"', b'\xff\xfe1\x00', b"\xc3", "1".encode("utf-16"), b"[" * 100_000])
def test_bytes_that_are_no_utf8_json_are_not_read(raw):
    with pytest.raises(coatcheck.Decode):
        decode_json("v", raw)


def test_json_of_others_is_read():
    assert decode_json("v", b' { "b" :\t[ 1 ,2 ] ,\r\n "a" : "\\u00e9\\/\\ud83d\\ude00" } ') == {
        "b": [1, 2],
        "a": "é/😀",
    }
    assert decode_json("v", b"1.0") == 1.0 and isinstance(decode_json("v", b"1.0"), float)
    assert decode_json("v", b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", ["\udfff"], {"\ud800": 1}, {1: 2},
                                   {True: 1}, {None: 1}, 1 << 63, -(1 << 63) - 1, b"x", object(), {1, 2}, 1j])
def test_what_other_languages_would_read_differently_is_refused(manager, value):
    with pytest.raises(Invalid):
        encode_json("v", value)
    s = new(manager)
    anything.set(s, 1)
    s.commit()
    visits.add(s)
    anything.set(s, value)
    with pytest.raises(Invalid):
        s.commit()
    assert anything.get(again(manager, s)) == 1 and visits.get(again(manager, s)) == 0


def test_a_value_nested_too_deeply_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Invalid):
        encode_json("v", deep)


def test_a_bool_is_no_int_and_a_float_is_no_int(manager):
    s = new(manager)
    anything.set(s, True)
    with pytest.raises(coatcheck.Decode):
        Value("v", int).lookup(s)
    anything.set(s, 1.0)
    with pytest.raises(coatcheck.Decode):
        Value("v", int).lookup(s)
    anything.set(s, 1)
    assert Value("v", float).lookup(s) == (1.0, True) and isinstance(Value("v", float).get(s), float)
    with pytest.raises(coatcheck.Decode):
        Value("v", bool).lookup(s)
    s.discard()
    visits.add(s, True)
    with pytest.raises(Invalid):
        s.commit()


def test_empty_lists_and_objects_and_null_come_back(manager):
    s = new(manager)
    for value in ([], {}, None, "", 0, False, [[], {}]):
        anything.set(s, value)
        s.commit()
        found, is_set = anything.lookup(again(manager, s))
        assert is_set and found == value and type(found) is type(value)


# Integers


@pytest.mark.parametrize("text", [b"", b"+1", b" 1", b"1 ", b"01", b"-0", b"1_0", b"0x1", b"1.0", b"1e3", b"\n1",
                                  b"1\n", "\u0661".encode(), b"9223372036854775808", b"-9223372036854775809", b"--1"])
def test_a_counter_has_one_form(text):
    assert view.parse_integer(text) is None


def test_counters_are_exact_to_64_bits(manager):
    s = new(manager)
    visits.add(s, (1 << 63) - 2)
    s.commit()
    visits.add(s)
    s.commit()
    assert visits.get(again(manager, s)) == (1 << 63) - 1
    visits.add(s)
    with pytest.raises(Invalid):
        s.commit()
    s = again(manager, s)
    visits.add(s, -(1 << 63))
    s.commit()
    assert visits.get(again(manager, s)) == -1
    for n in (1 << 63, 1.0, "1"):
        s = again(manager, s)
        visits.add(s, n)
        with pytest.raises(Invalid):
            s.commit()


# Names, base64 and patterns


@pytest.mark.parametrize("text", ["AA=", "AAA=", "A", "AB", "+/AA", "AA\n", "A A", "A\x00AA", "ÄÄ", "AA ", "AAB"])
def test_base64_has_one_form(text):
    assert tokens.b64decode(text) is None


def test_a_token_with_anything_around_it_is_no_token():
    ring = tokens.KeyRing()
    text = tokens.Token.new().text(ring)
    tokens.parse_token(text, ring)
    for bad in (text + "\n", " " + text, text[:-1] + "=", text[:-1] + "\u0661", text + "A" * 24 + "\n", text[:51]):
        with pytest.raises(tokens.NotAToken):
            tokens.parse_token(bad, ring)


@pytest.mark.parametrize("name", ["", "@s", "a b", "a\n", "é", "a" * 65, ":", ":k", "a:" + "k" * 257, "a:\ud800", "a\u0661"])
def test_names_have_one_form(name, manager):
    assert not record.check_name(name)
    s = new(manager)
    s.core.change(view.Op("set", name, b"1")) if name else s.core.fail(Invalid("x"))
    with pytest.raises(Invalid):
        s.commit()
    with pytest.raises(coatcheck.NotFound):
        manager.revoke("ada", f"0000-{'A' * 22}\n")


@pytest.mark.parametrize("name", ["__proto__", "1", "constructor", "a.b-c_D"])
def test_names_that_are_special_elsewhere_are_plain(manager, name):
    s = new(manager)
    Value(name).set(s, 1)
    Map("m").set(s, name, 2)
    Counters("c").add(s, "a:b:é", 3)
    Counters("c").add(s, "", 4)
    s.commit()
    s = again(manager, s)
    assert Value(name).get(s) == 1 and Map("m").all(s) == {name: 2}
    assert Counters("c").all(s) == {"": 4, "a:b:é": 3}


def test_a_stored_number_with_other_digits_is_malformed(manager):
    s = new(manager)
    visits.add(s)
    s.commit()
    key = manager.store.keys.session(s.core.token.handle)
    client = manager.wire.client
    good = client.hget(key, "@s").decode()
    for bad in (good[:-1] + "\n", good + "\n", good[:-1] + "F", good[:-3] + "\u0661", "2" + good[1:]):
        client.hset(key, "@s", bad.encode())
        with pytest.raises(coatcheck.Unavailable):
            again(manager, s)
    assert client.hget(key, "@s").decode() == "2" + good[1:], "nothing was written"


# Clients of the application


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}, {"protocol": 2},
                                     {"protocol": 3, "decode_responses": True, "encoding": "latin-1"}])
def test_every_kind_of_client_works(url, namespace, options):
    if url.startswith("redis-cluster"):
        pytest.skip("options of a single server")
    manager = Manager(redis.Redis.from_url(url, **options), Config(namespace=namespace, max_per_user=2))
    s = new(manager)
    anything.set(s, "é")
    s.sign_in(Login("ada"))
    for _ in range(3):
        new(manager).sign_in(Login("ada"))
    assert len(list(manager.sessions("ada"))) == 2
    assert manager.revoke_user("ada") == 2
    manager.revoke_everybody()


def test_sealing_without_cryptography_is_a_clear_error(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"coatcheck-session\[seal\]"):
        Config(seal=True, keys=(b"k" * 32,), user_key=b"u" * 32).checked()


@pytest.mark.parametrize("bad", [dict(keys=(b"short",)), dict(keys=(bytes(32),)), dict(seal=True), dict(lifetime=0),
                                 dict(idle_timeout=90000), dict(rotate_every=1), dict(max_per_user=101),
                                 dict(refuse_extra=True), dict(keep_fields=("a:b",)), dict(max_remember=1),
                                 dict(cookie=coatcheck.Cookie(name="session")), dict(cookie=coatcheck.Cookie(domain="a.test")),
                                 dict(cookie=coatcheck.Cookie(name="__Host-a\n")), dict(cookie=coatcheck.Cookie(path="/a"))])
def test_a_config_that_is_unsafe_is_refused(bad):
    with pytest.raises(ValueError):
        Config(**bad).checked()


def test_a_config_does_not_print_its_keys():
    text = repr(Config(keys=(b"k" * 32,), user_key=b"u" * 32))
    assert "kkk" not in text and "uuu" not in text


# Rotation


def test_a_rotated_token_works_and_the_old_one_is_stolen_after_its_grace(manager):
    from dataclasses import replace

    manager.config = replace(manager.config, rotate_every=0.05)
    s = new(manager)
    visits.add(s)
    s.commit()
    old = again(manager, s)
    time.sleep(0.06)
    first = again(manager, s)
    first.run(first.core.before_header())
    token = first.core.new_token()
    assert token and token != s.core.token.text(manager.ring)
    assert visits.get(again(manager, s)) == 1, "the old token works until the new one is used"
    used = manager.session(Request("POST", [f"{ANON}={token}"])).load()
    assert used.core.touch_due()
    used.run(used.core.touch())
    assert visits.get(again(manager, s)) == 1, "and for the grace period"
    key = manager.store.keys.session(s.core.token.handle)
    client = manager.wire.client
    previous = client.hget(key, "@previous").decode()
    ended = f"{int(time.time() * 1000) - 100000:012x}"
    client.hset(key, "@previous", previous[:23] + ended + previous[35:43] + ended)
    thief = again(manager, s)
    assert thief.core.state == "anonymous"
    assert old.core.state == "live"
    victim = manager.session(Request("POST", [f"{ANON}={token}"])).load()
    assert victim.core.state == "anonymous", "the session has ended for both"


# Clocks, lists and updates


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_that_is_an_hour_off_changes_nothing(manager, monkeypatch, ahead):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    s = new(manager)
    anything.set(s, 1)
    s.commit()
    assert anything.get(again(manager, s)) == 1
    began = real()
    s.sign_in(Login("ada"))
    assert began - 0.01 < s.info.created.timestamp() < real() + 0.01, "times are the server's"
    assert [i.handle for i in manager.sessions("ada")] == [s.info.handle]
    assert manager.revoke_user("ada") == 1
    new(manager).sign_in(Login("bob"))
    manager.revoke_everybody()
    assert not list(manager.sessions("bob"))


def test_pages_of_a_list_are_complete(manager):
    names = set()
    for i in range(230):
        s = new(manager)
        s.sign_in(Login("ada", device=f"d{i}"))
        names.add(s.info.handle)
    found = [i.handle for i in manager.sessions("ada")]
    assert len(found) == 230 and set(found) == names


def test_updates_of_threads_lose_nothing(manager):
    s = new(manager)
    anything.set(s, [])
    s.commit()
    errors = []

    def work(i):
        try:
            for j in range(5):
                anything.update(again(manager, s), lambda old: [*(old or []), f"{i}.{j}"])
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors and len(set(anything.get(again(manager, s)))) == 40


def test_an_update_whose_function_fails_changes_nothing(manager):
    s = new(manager)
    anything.set(s, 1)
    s.commit()

    def fail(old):
        raise KeyError("no")

    with pytest.raises(KeyError):
        anything.update(s, fail)
    assert anything.update(s, lambda old: old + 1) == 2
    assert json.loads(again(manager, s).core.get("v")) == 2


def names_primary(port):
    try:
        with redis.Redis(port=port, retry=None, **PATIENT) as sentinel:
            return sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "primary")
    except redis.exceptions.ConnectionError:
        return False


def test_sentinel_names_the_server(server, namespace, tmp_path):
    from redis.sentinel import Sentinel

    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor primary 127.0.0.1 {server.port} 1\n"
    )
    process = subprocess.Popen(
        ["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        await_that("Sentinel answers", lambda: names_primary(port))
        client = Sentinel([("127.0.0.1", port)]).master_for("primary", **PATIENT)
        manager = Manager(client, Config(namespace=namespace))
        s = new(manager)
        visits.add(s)
        s.sign_in(Login("ada"))
        assert visits.get(s) == 1 and len(list(manager.sessions("ada"))) == 1
        manager.close()
    finally:
        process.terminate()
        process.wait(60)
