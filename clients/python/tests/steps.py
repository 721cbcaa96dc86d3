"""The step function of the contract suite: makes one request, and reports the outcome.

The same code drives Manager and AsyncManager: calls of a Manager return values, and those of an
AsyncManager are awaited.
"""

from __future__ import annotations

import inspect
import json
import threading
import time
from dataclasses import replace
from typing import Any, Callable

from patience import PATIENT

import coatcheck
from coatcheck import Counter, Counters, Login, Map, Request, Value

OUTCOMES = [
    (coatcheck.UnknownOutcome, "unknown outcome"),
    (coatcheck.Unavailable, "unavailable"),
    (coatcheck.Ended, "ended"),
    (coatcheck.TooLarge, "too large"),
    (coatcheck.Limit, "limit"),
    (coatcheck.Invalid, "invalid"),
    (coatcheck.Decode, "decode"),
    (coatcheck.Sealed, "sealed"),
    (coatcheck.TooMany, "too many"),
    (coatcheck.Revoked, "revoked"),
    (coatcheck.NotFound, "not found"),
]
SESSIONLESS = {
    "sessions", "count sessions", "revoke", "revoke user", "revoke everybody", "data of", "delete user",
}  # fmt: skip
KINDS = {"value": Value, "map": Map, "counter": Counter, "counters": Counters}


async def settle(x: Any) -> Any:
    return await x if inspect.isawaitable(x) else x


def complete(coroutine: Any) -> Any:
    """Runs a coroutine that waits for nothing, as with a Manager."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("it waits")


def outcome_of(error: Exception) -> str:
    return next((word for kind, word in OUTCOMES if isinstance(error, kind)), "other")


def config_of(options: dict[str, Any]) -> coatcheck.Config:
    seconds = {
        "idle_ms": "idle_timeout",
        "first_use_ms": "first_use_timeout",
        "lifetime_ms": "lifetime",
        "max_remember_ms": "max_remember",
        "user_data_timeout_ms": "user_data_timeout",
    }
    given = {to: options[name] / 1000 for name, to in seconds.items() if options.get(name)}
    for name in ("max_size", "max_per_user", "refuse_extra", "seal"):
        if options.get(name):
            given[name] = options[name]
    return coatcheck.Config(
        commit_timeout=60,
        namespace=options["namespace"],
        keep_fields=tuple(options.get("keep_fields") or ()),
        user_fields=tuple(KINDS[kind](name) for name, kind in (options.get("user_fields") or {}).items()),
        keys=tuple(bytes.fromhex(k) for k in options.get("keys") or ()),
        user_key=bytes.fromhex(options["user_key"]) if options.get("user_key") else None,
        **given,
    )


class Steps:
    """Serves requests of the step protocol with one kind of manager."""

    def __init__(self, kind: type = coatcheck.Manager) -> None:
        self.kind = kind
        self.managers: dict[str, Any] = {}
        self.open: dict[str, Any] = {}
        self.lock = threading.Lock()

    def manager(self, options: dict[str, Any]) -> Any:
        key = json.dumps(options, sort_keys=True)
        with self.lock:
            if key not in self.managers:
                manager = self.kind.open(options["url"], config_of(options), **PATIENT)
                if options.get("rotate_ms"):  # below the minute that Config allows
                    manager.config = replace(manager.config, rotate_every=options["rotate_ms"] / 1000)
                manager.clock = clock_of(options)
                self.managers[key] = manager
            return self.managers[key]

    async def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Makes the request, and returns the reply without the id."""
        reply: dict[str, Any] = {"outcome": "ok", "values": []}
        name = request.get("request")
        try:
            with self.lock:
                session = self.open.pop(name, None) if name else None
            manager = None
            if session is None:
                manager = self.manager(request["client"])
                token = request.get("token")
                cookies = [f"__Host-session={token}"] if token else []
                session = manager.session(Request("POST", cookies))
            else:
                manager = session._manager
        except Exception as err:
            outcome = "unavailable" if is_connection(err) else outcome_of(err)
            return {"outcome": outcome, "values": [], "session": None, "error": repr(err)}
        core = session.core
        try:
            actions = request.get("do") or []
            if not actions or any(a[0] not in SESSIONLESS for a in actions):
                await settle(session.load())
            for action in actions:
                value = await act(manager, session, action)
                if value is not NOTHING:
                    reply["values"].append(value)
                for of in (core, *core.opened):
                    if of.error is not None:
                        raise of.error
            if not request.get("open"):
                await settle(session.run(core.before_header()))
        except Exception as err:
            if is_connection(err):
                err = coatcheck.Unavailable(str(err))
            reply["outcome"], reply["error"] = outcome_of(err), repr(err)
            core.discard()
        if request.get("open") and reply["outcome"] == "ok":
            with self.lock:
                self.open[name] = session
        else:
            if core.new_token() is not None:
                reply["token"] = core.new_token()
            elif core.drop_cookie or core.drop_anonymous or core.drop_everywhere:
                reply["token"] = None
            if reply["outcome"] == "ok" and core.touch_due():
                await settle(session.run(core.touch()))
        reply["session"] = core.handle() or None
        return reply

    async def close(self) -> None:
        for manager in self.managers.values():
            await settle(manager.close())

    def make_sync(self, request: dict[str, Any]) -> dict[str, Any]:
        return complete(self.make(request))


def clock_of(options: dict[str, Any]) -> Callable[[], float]:
    """Returns the clock of a client. The package uses no other, but for time.monotonic."""
    ahead = options.get("clock_ms", 0) / 1000
    return lambda: time.time() + ahead


def is_connection(err: Exception) -> bool:
    import redis.exceptions

    return isinstance(err, (redis.exceptions.RedisError, OSError)) and not isinstance(
        err, coatcheck.SessionError
    )


NOTHING = object()


def login_of(given: dict[str, Any], now: float) -> Login:
    began = given.get("began_ago_ms")
    return Login(
        user=given.get("user", ""),
        methods=tuple(given.get("methods") or ()),
        level=given.get("level", 0),
        device=given.get("device", ""),
        user_agent=given.get("user_agent", ""),
        address=given.get("address", ""),
        remember=given.get("remember_ms", 0) / 1000,
        lifetime=given.get("lifetime_ms", 0) / 1000,
        began=None if began is None else now - began / 1000,
    )


async def act(manager: Any, s: Any, action: list[Any]) -> Any:
    """Makes one action, and returns its value or NOTHING."""
    word, *args = action
    field, colon, key = args[0].partition(":") if args and isinstance(args[0], str) else ("", "", "")
    if word == "data":
        return await act(manager, await settle(s.user_data()), args)
    if word == "get":
        return Map(field).get(s, key) if colon else Value(field).get(s)
    if word == "has":
        return s.core.get(args[0]) is not None
    if word == "set":
        Map(field).set(s, key, args[1]) if colon else Value(field).set(s, args[1])
    elif word == "set broken":
        Map(field).set(s, key, "\ud800") if colon else Value(field).set(s, "\ud800")
    elif word == "unset":
        Map(field).delete(s, key) if colon else Value(field).delete(s)
    elif word == "take":
        return await settle(Map(field).take(s, key) if colon else Value(field).take(s))
    elif word == "append":
        more = args[1]
        f = lambda old: (old or []) + [more]  # noqa: E731
        return await settle(Map(field).update(s, key, f) if colon else Value(field).update(s, f))
    elif word == "count":
        return str(Counters(field).get(s, key) if colon else Counter(field).get(s))
    elif word == "add":
        n = int(args[1])
        Counters(field).add(s, key, n) if colon else Counter(field).add(s, n)
    elif word == "add within":
        n, *bounds = [int(a) for a in args[1:]]
        found = Counters(field).add_within(s, key, n, *bounds) if colon else Counter(field).add_within(s, n, *bounds)
        return str(await settle(found))
    elif word == "set within":
        await settle(Map(field).set_within(s, key, args[1], int(args[2])))
    elif word == "entries":
        return Map(field).all(s)
    elif word == "counts":
        return {k: str(n) for k, n in Counters(field).all(s).items()}
    elif word == "clear" and not args:
        s.clear()
    elif word == "clear":
        Map(field).clear(s)
    elif word in ("commit", "renew", "sign out"):
        await settle(getattr(s, word.replace(" ", "_"))())
    elif word == "sign in":
        await settle(s.sign_in(login_of(args[0], manager.clock())))
    elif word == "user":
        return s.user or None
    elif word == "info":
        names = ("user", "methods", "level", "device", "user_agent", "address")
        return {n: list(v) if isinstance(v := getattr(s.info, n), tuple) else v for n in names}
    elif word == "lifetime":
        r = s.core.record
        return r.deadline - r.created
    elif word in SESSIONLESS:
        return await act_on_users(manager, word, *args)
    else:
        raise ValueError(f"unknown action {word!r}")
    return NOTHING


async def act_on_users(manager: Any, word: str, user: str = "", *args: Any) -> Any:
    """Makes one action that needs no session."""
    if word == "data of":
        data = await settle(manager.user_data(user))
        value = await act(manager, data, list(args))
        await settle(data.commit())
        return value
    if word in ("sessions", "count sessions"):
        found = manager.sessions(user)
        handles = [i.handle async for i in found] if hasattr(found, "__aiter__") else [i.handle for i in found]
        return handles if word == "sessions" else len(set(handles))
    if word == "revoke":
        await settle(manager.revoke(user, args[0]))
    elif word == "revoke user":
        return await settle(manager.revoke_user(user, args[0] if args else ()))
    elif word == "delete user":
        return await settle(manager.delete_user(user))
    elif word == "revoke everybody":
        await settle(manager.revoke_everybody())
    return NOTHING
