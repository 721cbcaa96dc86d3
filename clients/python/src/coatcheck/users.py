"""The operations on users, as flows: sign-in, lists, revocation, and the repetition of ends."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Sequence

from . import ends, record
from .calls import Call, call, milliseconds, pairs, scores
from .errors import NotFound, Revoked, TooMany, Unavailable, UnknownOutcome
from .record import Malformed, Marker, Record
from .store import Snapshot, Store, check_reply
from .tokens import Token, b64encode, bucket_of
from .wire import Command, Flow, Primaries, ServerError, Trip, TripFailed

DAY_MS = 86400000
MAX_KEYS = 1000
UNCONFIRMED_MS = 60000
_BATCH = 500


@dataclass(frozen=True)
class SignIn:
    """A sign-in: what signin.lua stores."""

    token: Token
    id: bytes
    owner: str
    user: str  # the last 7 characters of "@u"
    info: bytes
    idle: int
    lifetime: int
    max_per_user: int
    refuse_extra: bool
    elapsed: Callable[[], float]  # milliseconds since the authentication began
    ago: int
    # Makes the fields of the new session from the old session's record.
    fields: Callable[[Record | None], dict[str, bytes]]


class UserStore(Store):
    """Adds the operations on users."""

    # Users

    def sign_in(self, s: SignIn, old: Token | None, old_owner: str | None) -> Flow[Snapshot | None]:
        """Signs in, in the steps of format/README.md, and returns the new session.

        None: it is stored, and could not be read. It may have ended since: another sign-in may have
        ended it at once. That concerns the next request.
        """
        now = yield from self.read_revoked()
        began = int(now - s.elapsed())
        if began <= self.revoked:
            raise Revoked("everybody was revoked after the authentication began")
        name = s.token.handle[5:]
        before: Record | None = None
        if old is not None:
            before = yield from self._leave(old, name)
        try:
            snapshot = yield from self._store_user(s, old if before else None, before)
        except UnknownOutcome:
            raise
        except BaseException as err:
            if before and old and not isinstance(err, GeneratorExit):
                yield from self._stay(old, name)
            raise
        try:
            yield from self.read_revoked()
        except Unavailable as err:
            raise UnknownOutcome(f"the revocation of everybody is not known: {err}") from err
        if began <= self.revoked:
            yield from self._end_named(s.owner, [s.token.handle])
            raise Revoked("everybody was revoked after the authentication began")
        if before and old:
            same = before.user is not None and before.user.owner == s.owner
            self.ends.add(old.handle, before.user.owner if before.user else None, moved=True)
            if not same:
                yield from self._left(old, name, before)
        if s.max_per_user or before:
            snapshot = yield from self._confirm(s.token)
        return snapshot

    def _leave(self, old: Token, name: str) -> Flow[Record | None]:
        key = self.keys.session(old.handle)
        keys = [key, self.keys.revocations(old.handle[:4])]
        reply = yield from self.execute(
            key, call("move", keys, "leave", name, old.verifier_hash, self.revoked)
        )
        if reply[0] in (b"gone", b"moved"):
            return None
        found = record.decode(pairs(reply[2]))
        return found if isinstance(found, Record) else None

    def _stay(self, old: Token, name: str) -> Flow[None]:
        key = self.keys.session(old.handle)
        try:
            yield from self.execute(key, call("move", [key], "stay", name))
        except Unavailable:
            pass  # the old session accepts changes again after ten seconds

    def _left(self, old: Token, name: str, before: Record) -> Flow[None]:
        key = self.keys.session(old.handle)
        keys = [key, self.keys.index(before.user.owner)] if before.user else [key]
        try:
            yield from self.execute(key, call("move", keys, "left", name))
        except Unavailable:
            pass  # it is repeated: see ends.py

    def _confirm(self, token: Token) -> Flow[Snapshot | None]:
        key = self.keys.session(token.handle)
        keys = [key, self.keys.revocations(token.handle[:4])]
        what = call("touch", keys, token.verifier_hash, self.revoked, 0)
        sent = time.monotonic()
        try:
            replies = yield from self.ask(key, [what, *self._read_commands(token)])
            check_reply(replies[0])
        except Unavailable as err:
            raise UnknownOutcome(f"the sign-in was not confirmed: {err}") from err
        return (yield from self._snapshot_after(token, replies[1:], sent))

    def _store_user(self, s: SignIn, old: Token | None, before: Record | None) -> Flow[Snapshot | None]:
        fields = s.fields(before)
        same = before is not None and before.user is not None and before.user.owner == s.owner
        old_name = old.handle[5:] if old and same else ""
        size = sum(len(k.encode()) + len(v) for k, v in fields.items())
        values: list[bytes | str] = []
        for part, text in record.info_parts(s.info):
            values += [part, text]
        for k, v in fields.items():
            values += [k.encode(), v]
        key, bucket = self.keys.session(s.token.handle), s.token.bucket
        first = UNCONFIRMED_MS if before or s.max_per_user else s.idle
        deadline = time.monotonic() + self.timeout
        while True:
            now, version, names = yield from self._index(s, old_name)
            others = [self.keys.session(f"{bucket:04x}-{n}") for n in names]
            what = call(
                "signin",
                [key, self.keys.index(s.owner), self.keys.revocations(bucket), *others],
                b64encode(s.id),
                s.token.verifier_hash,
                size,
                s.idle,
                s.lifetime,
                first,
                version,
                max(0, int(now - s.elapsed())),
                s.ago,
                s.max_per_user,
                int(s.refuse_extra),
                self.revoked,
                old_name,
                s.user,
                *values,
            )
            sent = time.monotonic()
            replies = yield from self.ask(key, [what, *self._read_commands(s.token)])
            reply = check_reply(replies[0])
            status = reply[0]
            if status == b"changed" and time.monotonic() < deadline:
                continue
            if status == b"revoked":
                raise Revoked("the user was revoked after the authentication began")
            if status == b"full":
                raise TooMany("the user has as many sessions as allowed")
            if status not in (b"ok", b"again"):
                raise Unavailable(f"sign-in: {status.decode()}")
            if status == b"ok":
                for ended in reply[2]:
                    self.ends.add(f"{bucket:04x}-{ended.decode()}", s.owner)
            return (yield from self._snapshot_after(s.token, replies[1:], sent))

    def _index(self, s: SignIn, old_name: str) -> Flow[tuple[float, str, list[str]]]:
        """Returns the server's time, the version of the index, and the sessions to pass."""
        index, version, names = self.keys.index(s.owner), "", list[str]()
        commands: list[Command | Call] = [("TIME",)]
        if s.max_per_user:
            commands.append(("ZRANGE", index, 0, -1, "WITHSCORES"))
        elif s.token.selector[0] % 8 == 0:
            commands.append(("ZRANDMEMBER", index, 20, "WITHSCORES"))
        replies = yield from self.ask(index, commands)
        for reply in replies:
            if isinstance(reply, ServerError):
                raise Unavailable(str(reply))
        if len(replies) > 1:
            entries = dict(scores(replies[1]))
            version = entries.pop(b"@rev", "0") if s.max_per_user else ""
            entries.pop(b"@rev", None)
            names = [n.decode() for n in entries]
            if len(names) > MAX_KEYS - 4:
                yield from self._shorten(s, names, old_name)
                return (yield from self._index(s, old_name))
        if old_name and old_name not in names:
            names.append(old_name)
        return milliseconds(replies[0]), version, names

    def _shorten(self, s: SignIn, names: list[str], old_name: str) -> Flow[None]:
        """Makes an index with too many names short: ended sessions, then those over the limit."""
        bucket = f"{s.token.bucket:04x}"
        yield from self._clean(s.owner, [f"{bucket}-{n}" for n in names])
        reply = (yield from self.ask(self.keys.index(s.owner), [("ZRANGE", self.keys.index(s.owner), 0, -1)]))[0]
        left = [n.decode() for n in reply if n not in (b"@rev", old_name.encode())]
        extra = left[: max(0, len(left) - s.max_per_user)]
        if extra and s.refuse_extra:
            raise TooMany("the user has as many sessions as allowed")
        yield from self._end_named(s.owner, [f"{bucket}-{n}" for n in extra])

    def _clean(self, owner: str, handles: Sequence[str]) -> Flow[None]:
        base = [self.keys.index(owner), self.keys.revocations(bucket_of(owner))]
        for batch in _batches(handles):
            keys = base + [self.keys.session(h) for h in batch]
            yield from self.execute(keys[0], call("clean", keys))

    def _end_user(self, owner: str, action: str, argument: bytes | str | int, handles: Iterable[str]) -> Flow[list[Any]]:
        keys = [self.keys.index(owner), self.keys.revocations(bucket_of(owner))]
        keys += [self.keys.session(h) for h in handles]
        reply = yield from self.execute(keys[0], call("enduser", keys, action, argument, self.revoked))
        for name in reply[3]:
            self.ends.add(f"{bucket_of(owner):04x}-{name.decode()}", owner)
        return reply

    def _end_named(self, owner: str, handles: Sequence[str]) -> Flow[int]:
        n = 0
        for batch in _batches(handles):
            reply = yield from self._end_user(owner, "only", "", batch)
            n += len(reply[3])
        return n

    def revoke(self, owner: str, handle: str) -> Flow[None]:
        """Ends one session of a user. Raises NotFound."""
        if handle[:4] != f"{bucket_of(owner):04x}" or not (yield from self._end_named(owner, [handle])):
            raise NotFound(f"the user has no session {handle}")
        yield from self.replicate(handle[:4])

    def revoke_user(self, owner: str, keep: Sequence[str], longest: int) -> Flow[int]:
        """Ends a user's sessions but those to keep, and returns how many there were."""
        bucket = f"{bucket_of(owner):04x}"
        kept = [h for h in keep if h[:4] == bucket]
        yield from self.follow_revoked()
        reply = yield from self._end_user(owner, "all", max(longest, DAY_MS), kept)
        revocation, n = reply[2], 0
        self.ends.add_revocation(owner, revocation)
        while reply[5]:
            handles = [f"{bucket}-{name.decode()}" for name in reply[5]]
            reply = yield from self._end_user(owner, "again", revocation, handles)
            n += len(reply[3])
        yield from self.replicate(bucket)
        return n

    def revoke_everybody(self) -> Flow[None]:
        """Ends all sessions."""
        reply = yield from self.execute(self.keys.revoked, call("revokeall", [self.keys.revoked], "", 0))
        at = int(reply[2])
        self.revoked = max(self.revoked, at)
        try:
            primaries = yield Primaries()
        except TripFailed as err:
            raise Unavailable(str(err)) from err
        latest = at
        for address in primaries:
            replies = yield from self.ask(self.keys.revoked, [("TIME",)], address=address)
            latest = max(latest, int(milliseconds(replies[0])))
        latest = min(latest, at + 60000)
        reply = yield from self.execute(self.keys.revoked, call("revokeall", [self.keys.revoked], latest, 0))
        self.revoked = max(self.revoked, int(reply[2]))
        for address in primaries:
            yield from self._remove_revoked(address)
        yield from self.replicate(None)

    def _remove_revoked(self, address: tuple[str, int] | None) -> Flow[None]:
        cursor: bytes | int = 0
        pattern = f"{self.keys.namespace}:{{????}}:s:*"
        while True:
            scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            cursor, found = (yield from self.ask(self.keys.revoked, [scan], address=address))[0]
            lives = []
            if found:
                lives = yield from self.ask(self.keys.revoked, [("HGET", k, "@l") for k in found], address=address)
            gone = [k for k, life in zip(found, lives) if _created(life) <= self.revoked]
            if gone:
                yield from self.ask(self.keys.revoked, [("DEL", k) for k in gone], address=address)
            if int(cursor) == 0:
                return

    def list_page(self, owner: str, after: tuple[int, str] | None, count: int) -> Flow[tuple[list[tuple[str, Record]], tuple[int, str] | None]]:
        """Returns a page of a user's sessions, the newest first, and where the next one begins."""
        yield from self.follow_revoked()
        index, members = self.keys.index(owner), count + 16
        while True:
            start = "+inf" if after is None else after[0]
            command = ("ZRANGE", index, start, "-inf", "BYSCORE", "REV", "LIMIT", 0, members, "WITHSCORES")
            reply = (yield from self.ask(index, [command]))[0]
            if isinstance(reply, ServerError):
                raise Unavailable(str(reply))
            entries = scores(reply)
            more = len(entries) == members
            page = [
                (int(score), name.decode())
                for name, score in entries
                if name != b"@rev" and (after is None or (int(score), name.decode()) < after)
            ]
            if page or not more:
                break
            members *= 2
        more = more or len(page) > count
        page = page[:count]
        live = yield from self._live(owner, page)
        return live, page[-1] if page and more else None

    def _live(self, owner: str, page: Sequence[tuple[int, str]]) -> Flow[list[tuple[str, Record]]]:
        bucket = f"{bucket_of(owner):04x}"
        names = ["@s", "@l", "@previous", "@overtaken", "@u", "@moving", "@ended", "@moved"]
        names += record.info_names(512)
        handles = [f"{bucket}-{name}" for _, name in page]
        if not handles:
            return []
        wanted = [names] * len(handles)
        found, revocations, now = yield from self._metadata(handles, wanted)
        long = {}
        for i, stored in enumerate(found):
            if b"@u" in stored:
                _, size = record.parse_user(stored[b"@u"])
                if size > 512:
                    long[i] = names[:8] + record.info_names(size)
        if long:
            again = [handles[i] for i in long]
            reread, revocations, now = yield from self._metadata(again, list(long.values()))
            for i, stored in zip(long, reread):
                found[i] = stored
        live, missing = [], []
        for (score, name), handle, stored in zip(page, handles, found):
            r = _metadata_record(stored)
            if r is None:
                missing.append(handle)
            if not isinstance(r, Record) or self.ends.refusal(handle):
                continue
            if r.created != score:
                raise Malformed(handle, "the user's index has another time of creation")
            revoked = r.created <= self.revoked or (
                r.user and record.revoked_at(revocations, r.user.owner, name, r.created)
            )
            if not revoked and now < r.expires:
                live.append((handle, r))
        if missing:
            yield from self._clean(owner, missing)
        return live

    def _metadata(self, handles: Sequence[str], names: Sequence[Sequence[str]]) -> Flow[tuple[list[dict[bytes, bytes]], dict[bytes, bytes], float]]:
        keys = [self.keys.session(h) for h in handles]
        commands: list[Command | Call] = [("HMGET", k, *n) for k, n in zip(keys, names)]
        commands += [("HGETALL", self.keys.revocations(handles[0][:4])), ("TIME",)]
        if not self.cluster:
            commands.append(("GET", self.keys.revoked))
        replies = yield from self.ask(keys[0], commands)
        for reply in replies:
            if isinstance(reply, ServerError):
                raise Malformed("a listed session", str(reply))
        if not self.cluster:
            yield from self._learn(replies.pop())
        found = [
            {n.encode(): v for n, v in zip(some, reply) if v is not None}
            for some, reply in zip(names, replies)
        ]
        return found, pairs(replies[-2]), milliseconds(replies[-1])

    # Repeated ends: see ends.py

    def repeat_ends(self) -> Flow[None]:
        """Repeats what is due. A failure leaves the rest due."""
        if self.ends.watches():
            yield from self._watch_primaries()
        for handle, owner, moved in self.ends.due():
            if self.ends.stopped:
                return
            key = self.keys.session(handle)
            try:
                if moved:
                    keys = [key, self.keys.index(owner)] if owner else [key]
                    yield from self.execute(key, call("move", keys, "again"))
                else:
                    if owner:
                        index = self.keys.index(owner)
                        yield from self.ask(index, [("ZREM", index, handle[5:])])
                    yield from self.ask(key, [("EVAL", ends.REPEAT, 1, key)])
            except Unavailable:
                self.ends.connection_lost()
                return
        for owner, revocation in self.ends.due_revocations():
            if self.ends.stopped:
                return
            try:
                yield from self._end_user(owner, "again", revocation, [])
            except Unavailable:
                self.ends.connection_lost()
                return

    def _watch_primaries(self) -> Flow[None]:
        """Makes all ends due if a primary has changed."""
        try:
            addresses = yield Primaries()
            ids = set()
            for address in addresses:
                reply = (yield Trip(self.keys.revoked, [("INFO", "replication")], address))[0]
                if isinstance(reply, bytes):
                    m = re.search(rb"master_replid:([0-9a-f]+)", reply)
                    ids.add(m.group(1) if m else b"")
        except TripFailed:
            self.ends.connection_lost()
            return
        self.ends.primaries(frozenset(ids))


def _created(life: Any) -> int:
    """Returns when a session with this "@l" was created. Markers have none: they stay."""
    if life is None:
        return record.MAX_TIME
    if not isinstance(life, bytes) or not re.fullmatch(rb".{22}[0-9a-f]{36}", life):
        return 0  # malformed: nobody can use it
    return int(life[22:34], 16)


def _metadata_record(stored: dict[bytes, bytes]) -> Record | Marker | None:
    """Decodes a record without its fields."""
    state = stored.get(b"@s", b"")
    if len(state) == 56:
        stored = {**stored, b"@s": state[:36] + b"00000000" + state[44:]}
    return record.decode(stored)


def _batches(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return [items[i : i + _BATCH] for i in range(0, len(items), _BATCH)]
