"""format/vectors/changes.json and scripts.json: the scripts on a real server."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from test_vectors import count, load

from coatcheck.calls import SCRIPTS
from coatcheck.view import Op

PLACEHOLDER = re.compile(r"<([+-][0-9]+)>|\[([+-][0-9]+)\]")
TOLERANCE = 5000


@pytest.fixture(scope="module")
def client(url):
    if url.startswith("redis-cluster"):
        pytest.skip("the vectors are for a single server")
    return redis.Redis.from_url(url, decode_responses=True, protocol=2)


def at(text: str, now: int) -> str:
    """Replaces the placeholders by times."""
    return PLACEHOLDER.sub(
        lambda m: f"{now + int(m[1]):012x}" if m[1] else str(now + int(m[2])), text
    )


def fits(got: Any, want: Any, now: int) -> bool:
    """Compares a reply or a stored text with a vector. Times may differ by some seconds."""
    if isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            return False
        if all(fits(g, w, now) for g, w in zip(got, want)):
            return True
        if len(want) % 2 or not all(isinstance(w, str) for w in want[::2]):
            return False
        ours = dict(zip(map(str, got[::2]), got[1::2]))  # a hash, in no order
        theirs = dict(zip(want[::2], want[1::2]))
        return ours.keys() == theirs.keys() and all(fits(ours[k], theirs[k], now) for k in theirs)
    if want == "TIME":
        return isinstance(got, int) and abs(got - now) < TOLERANCE
    if not isinstance(want, str):
        return type(got) is type(want) and got == want
    pattern, end, times = "", 0, []
    for m in PLACEHOLDER.finditer(want):
        digits = "([0-9a-f]{12})" if m[1] else "([0-9]+)"
        pattern += re.escape(want[end : m.start()]) + digits
        times.append((now + int(m[1] or m[2]), 16 if m[1] else 10))
        end = m.end()
    found = re.fullmatch(pattern + re.escape(want[end:]), str(got), re.DOTALL)
    return found is not None and all(
        abs(int(text, base) - time) < TOLERANCE for text, (time, base) in zip(found.groups(), times)
    )


def put(client: redis.Redis, stored: dict[str, Any], now: int) -> None:
    pipe = client.pipeline(transaction=False)
    for key, value in stored.items():
        for name, text in value.get("hash", {}).items():
            pipe.hset(key, name, at(text, now))
        for name, score in value.get("scores", {}).items():
            pipe.zadd(key, {name: float(at(score, now))})
        if value.get("text"):
            pipe.set(key, at(value["text"], now))
        for entry in value.get("stream", ()):
            pipe.execute_command("XADD", key, *entry)
        if value.get("ttl", 0) > 0:
            pipe.pexpire(key, value["ttl"])
    pipe.execute()


def content(client: redis.Redis, key: str) -> dict[str, Any]:
    kind = client.type(key)
    if kind == "hash":
        return {"hash": client.hgetall(key)}
    if kind == "zset":
        return {"scores": {m: f"{s:.0f}" for m, s in client.zrange(key, 0, -1, withscores=True)}}
    if kind == "stream":
        return {"stream": [[i, *(x for p in e.items() for x in p)] for i, e in client.xrange(key)]}
    return {"text": client.get(key)} if kind == "string" else {}


def check(client: redis.Redis, v: dict[str, Any]) -> None:
    name = f"{v['script']} {v['name']}"
    keys = client.keys("vector:*")
    if keys:
        client.delete(*keys)
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    put(client, v["before"], now)
    args = [at(a, now) for a in v["args"]]
    script = SCRIPTS[v["script"].removesuffix(".lua")]
    try:
        got = client.evalsha(script.sha, len(v["keys"]), *v["keys"], *args)
    except redis.exceptions.NoScriptError:
        got = client.eval(script.source, len(v["keys"]), *v["keys"], *args)
    assert fits(got, v["reply"], now), f"{name}: the reply is {got}, not {v['reply']}"
    assert set(client.keys("vector:*")) == set(v["after"]), name
    for key, want in v["after"].items():
        have = content(client, key)
        for kind, value in want.items():
            if kind == "ttl":
                left = client.pttl(key)
                good = left == -1 if value == 0 else left > 0 and (value < 0 or abs(left - value) < TOLERANCE)
                assert good, f"{name}: {key} expires after {left}, not {value}"
            elif kind in ("hash", "scores"):
                assert have[kind].keys() == value.keys(), f"{name}: {have}"
                assert all(fits(have[kind][k], value[k], now) for k in value), f"{name}: {have}"
            else:
                assert fits(have[kind], value, now), f"{name}: {have}"


def test_scripts(client):
    cases = load("scripts")
    for v in cases:
        check(client, v)
    count("scripts", len(cases))


def test_changes(client):
    cases = load("changes")
    for v in cases:
        key = "vector:{0000}:s:AAAAAAAAAAAAAAAAAAAAAA"
        before = {key: v["before"]} if v["before"] else {}
        after = {key: v["after"]} if v["after"] else {}
        check(client, {**v, "script": "apply.lua", "keys": [key], "before": before, "after": after})
        check_arguments(v)
    count("changes", len(cases))


def check_arguments(v: dict[str, Any]) -> None:
    """Compares the operations that this package sends for a change."""
    want = v["args"][4:]
    renew = v["change"]["renew"]
    if renew:
        want = want[4:]
    got: list[str] = []
    for op in v["change"]["ops"]:
        made = Op(op["kind"], op["key"], utf8(op["value"]), utf8(op["old"]), int(op["delta"] or 0))
        if op["min"] is not None:
            made.within = int(op["min"]), int(op["max"])
        elif op["kind"] == "limit":
            made.most = int(op["max"])
        got += [x.decode() if isinstance(x, bytes) else x for x in made.arguments()]
    assert got == want, v["name"]


def utf8(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
