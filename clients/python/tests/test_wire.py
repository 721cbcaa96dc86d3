"""The connection to Redis: replies in pieces, and connections that are kept."""

from __future__ import annotations

import os

import pytest
import redis

import coatcheck
from coatcheck import Config, Counter, Manager, Request, Value
from coatcheck.resp import ServerError, pack, parse

visits, anything = Counter("n"), Value("v")


def text_of(reply):
    return [str(r) if isinstance(r, ServerError) else r for r in reply]


def test_replies_that_arrive_in_pieces_are_read_whole():
    data = (
        b"*4\r\n$2\r\nok\r\n:12\r\n$-1\r\n*2\r\n$0\r\n\r\n$1\r\nx\r\n"
        b"*2\r\n$1\r\na\r\n$9\r\n\r\n$1\r\nb\r\n\r\n*0\r\n*-1\r\n+OK\r\n:-7\r\n$4\r\n\r\n\r\n\r\n"
        b"-ASK 7 10.0.0.1:6379\r\n-ERR no\r\n"
    )
    whole = [[b"ok", 12, None, [b"", b"x"]], [b"a", b"\r\n$1\r\nb\r\n"], [], None, b"OK", -7, b"\r\n\r\n"]
    found = parse(data, 9)
    assert text_of(found) == [*whole, "ASK 7 10.0.0.1:6379", "ERR no"]
    assert found[7].code == "ASK" and found[7].address == ("10.0.0.1", 6379)
    assert found[8].code == "ERR" and found[8].address is None
    for end in range(len(data)):
        assert parse(data[:end], 9) is None, data[:end]


@pytest.mark.parametrize("data", [b"%1\r\n$1\r\na\r\n:1\r\n", b"\r\n", b":x\r\n", b"$1\r\nab\r\n", b":1\r\n:2\r\n"])
def test_what_is_no_reply_is_an_error(data):
    with pytest.raises(ValueError):
        parse(data, 1)


def test_commands_are_packed_as_redis_py_does():
    commands = [("SET", "é", b"\r\n\xff", 12), (b"PING",)]
    theirs = redis.Connection().pack_commands(commands)
    assert pack([*commands, pack([("GET", "a")])]) == b"".join(theirs) + b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"


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


def kept(manager):
    return len(manager.wire._kept)


def test_a_kept_connection_that_the_server_closed_is_replaced(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace))
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    assert kept(manager) == 1
    for _ in range(3):
        server.client().client_kill_filter(_type="normal")
        visits.add(s)
        s.commit()
    assert visits.get(s) == 4 and kept(manager) == 1
    in_use = manager.wire.client.connection_pool._in_use_connections
    assert len(in_use) == 1
    manager.close()
    assert not in_use and kept(manager) == 0
    s.reload()
    assert visits.get(s) == 4 and not in_use, "a closed manager keeps none"


def test_a_connection_with_unread_replies_is_not_kept(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace), socket_timeout=0.2)
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    server.pause()
    with pytest.raises(coatcheck.Unavailable):
        s.reload()
    assert kept(manager) == 0
    server.resume()
    s.reload()
    assert visits.get(s) == 1
    manager.close()


def test_a_forked_process_does_not_use_the_kept_connections_of_its_parent(url, namespace):
    manager = Manager.open(url, Config(namespace=namespace))
    s = manager.session(Request("POST")).load()
    visits.add(s)
    s.commit()
    mine = {id(c) for c in manager.wire._kept}
    child = os.fork()
    if child == 0:
        try:
            s.reload()
            ids = {id(c) for c in manager.wire._kept}
            os._exit(0 if visits.get(s) == 1 and not ids & mine else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    s.reload()
    assert visits.get(s) == 1
    manager.close()
