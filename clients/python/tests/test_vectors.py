"""All of format/vectors. The count of cases is printed at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coatcheck import errors, record, tokens

VECTORS = Path(__file__).parents[3] / "format" / "vectors"
counts: dict[str, int] = {}


def load(name: str):
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def count(name: str, n: int) -> None:
    assert n > 0
    counts[name] = n


def ring(case) -> tokens.KeyRing:
    return tokens.KeyRing((bytes.fromhex(case["key"]),) if case.get("key") else ())


def test_tokens():
    cases = load("tokens")
    for c in cases:
        if not c["valid"]:
            with pytest.raises(tokens.NotAToken):
                tokens.parse_token(c["token"], ring(c))
            continue
        t = tokens.parse_token(c["token"], ring(c))
        assert t.bucket == c.get("bucket", 0) and t.generation == c.get("generation", 0)
        assert t.selector.hex() == c["selector"] and t.verifier.hex() == c["verifier"]
        assert t.verifier_hash == c["verifier_hash"] and t.handle == c["handle"]
        assert session_key("coatcheck", t.handle) == c["redis_key"]
        if len(c["token"]) == 76 or "key" not in c:
            assert t.text(ring(c)) == c["token"]
    count("tokens", len(cases))


def session_key(ns: str, handle: str) -> str:
    from coatcheck.calls import Keys

    return Keys(ns).session(handle).decode()


def test_csrf_tokens():
    cases = load("csrf")
    for c in cases:
        session = bytes.fromhex(c["id"])
        if c["valid"]:
            tokens.check_csrf(session, c["token"])
            assert tokens.csrf_token(session, bytes.fromhex(c["pad"])) == c["token"]
        else:
            with pytest.raises(errors.CSRF):
                tokens.check_csrf(session, c["token"])
    count("csrf", len(cases))


def test_sealed_values():
    pytest.importorskip("cryptography")
    cases = load("sealed")
    for c in cases:
        session = tokens.b64decode(c["id"])
        if "why" in c:
            with pytest.raises(errors.Sealed):
                plain = ring(c).open(session, c["name"], c["sealed"].encode())
                if c["name"] == "@i":
                    try:
                        record.decode_info(plain)
                    except record.Malformed as err:
                        raise errors.Sealed(str(err)) from None
            continue
        sealed = ring(c).seal(session, c["name"], c["plain"].encode(), bytes.fromhex(c["nonce"]))
        assert sealed.decode() == c["sealed"] and sealed.decode()[2:6] == c["key_id"]
        assert ring(c).open(session, c["name"], sealed).decode() == c["plain"]
    count("sealed", len(cases))


def test_users():
    cases = load("users")
    for c in cases:
        key = bytes.fromhex(c["key"]) if c.get("key") else None
        owner = tokens.owner_of(key, bytes.fromhex(c["user"]))
        assert owner == c["owner"] and f"{tokens.bucket_of(owner):04x}" == c["bucket"]
        from coatcheck.calls import Keys

        keys = Keys("coatcheck")
        assert keys.index(owner).decode() == c["index"]
        assert keys.revocations(tokens.bucket_of(owner)).decode() == c["revocations"]
    count("users", len(cases))


def test_events():
    pytest.importorskip("cryptography")
    cases = load("events")
    for c in cases:
        plain = ring(c).open_event(bytes.fromhex(c["entry"]))
        if "why" in c:
            assert plain is None or not json.loads(plain).get("kind"), c["why"]
        else:
            assert plain.decode() == c["plain"]
    count("events", len(cases))


def as_bytes(stored: dict[str, str]) -> dict[bytes, bytes]:
    return {k.encode(): v.encode() for k, v in stored.items()}


def test_records():
    cases = load("records")
    for c in cases["records"]:
        want, r = c["record"], record.decode(as_bytes(c["hash"]))
        assert isinstance(r, record.Record), c["name"]
        assert tokens.b64encode(r.id) == want["secret"] and r.verifier == want["current"]
        assert r.generation == want["generation"] and r.unused == want["unused"]
        assert (r.previous.issued if r.previous else 0) == want["issued_ms"]
        assert (r.idle, r.created, r.seen, r.deadline) == tuple(
            want[k] for k in ("idle_ms", "created_ms", "seen_ms", "deadline_ms")
        )
        assert (r.revision, r.size) == (want["revision"], want["size"])
        assert r.fields == {k: v.encode() for k, v in want["fields"].items()}
        if want["previous"]:
            p = want["previous"]
            until = p["until_ms"] if p["until_ms"] is not None else p["grace_ms"]
            assert (r.previous.verifier, r.previous.accepted, r.previous.time) == (
                p["verifier"],
                p["accepted"],
                until,
            )
        if want["user"]:
            check_user(r.user, want["user"], c["hash"])
    for c in cases["refused"]:
        with pytest.raises(record.Malformed):
            record.decode(as_bytes(c["hash"]))
            pytest.fail(c["name"])
    count("records", len(cases["records"]) + len(cases["refused"]))


def check_user(user: record.User, want, stored) -> None:
    assert (user.owner, user.authenticated, user.level, user.persistent) == tuple(
        want[k] for k in ("owner", "authenticated_ms", "level", "persistent")
    )
    if want["sealed"]:
        assert user.info.decode() == want["sealed"]
        return
    info = record.decode_info(user.info)
    assert tokens.b64encode(info.user) == want["id"]
    assert list(info.methods) == (want["methods"] or [])
    assert (info.device, info.user_agent, info.address) == tuple(
        want[k] for k in ("device", "agent", "address")
    )
    assert info.encode() == user.info
    for name, part in record.info_parts(info.encode()):
        assert stored[name] == part.decode()


def test_reading():
    cases = load("reading")
    for c in cases["reads"]:
        got = outcome(cases, c)
        finding, wrong, touch, expires = got
        assert finding == c["outcome"], (c["name"], wrong)
        assert (touch, expires) == (c["touch_due"], c["expires_ms"]), c["name"]
    count("reading", len(cases["reads"]))


def outcome(cases, c):
    stored, now = c["stored"], cases["now_ms"]
    try:
        for name, kinds in (("session", "hash"), ("revocations", "hash"), ("revoked", "string")):
            if stored[name]["type"] not in (kinds, "none"):
                raise record.Malformed(name, "another type")
        revoked = stored["revoked"]
        at = record.parse_revoked(revoked["text"].encode() if revoked["type"] == "string" else None)
        found = record.decode(as_bytes(stored["session"]["hash"]))
        f = record.decide(
            found,
            as_bytes(stored["revocations"]["hash"]),
            at,
            cases["selector"],
            c["token"]["verifier"],
            c["token"]["generation"],
            now,
            c["request_began_ms"],
        )
    except record.Malformed as err:
        return "error", err.name, False, 0
    if f.outcome in ("current", "grace"):
        return f.outcome, "", f.record.touch_due(c["token"]["verifier"], now), f.record.expires
    return f.outcome, "", False, 0
