"""The operations of the format, as flows: generators that yield steps of wire.py.

format/README.md has the rules that each flow follows. The scripts are the files in lua/.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from . import ends, record
from .calls import Call, Keys, call, milliseconds, pairs
from .errors import (
    Ended,
    Invalid,
    ReplicaError,
    TooLarge,
    Unavailable,
    UnknownOutcome,
)
from .record import Malformed, Marker, Record
from .tokens import Token, b64encode, bucket_of, random_hash
from .wire import Command, Flow, Pause, Refresh, ServerError, Trip, TripFailed

MAX_FIELDS = 1024
# Always writes: to delete a missing key is no write. It begins with a DEL, which works also if the
# memory is full, and leaves no key.
_WRITE = b"redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])"

# The server has certainly not run a command that it answers with one of these.
_NOT_RUN = (
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "NOSCRIPT",
)


@dataclass
class Snapshot:
    """What the store had, and when."""

    found: Record | Marker | None
    revocations: Mapping[bytes, bytes]
    revoked: int
    now: float  # the server's time in milliseconds
    sent: float  # time.monotonic() before and after the trip
    received: float


@dataclass
class Result:
    """The reply of a change."""

    revision: int
    time: int
    generation: int | None = None
    took_place: bool = True  # False: the reply was "kept"
    values: list[bytes | None] = field(default_factory=list)
    snapshot: Snapshot | None = None  # read after the change


@dataclass(frozen=True)
class Replicas:
    """How many replicas an end waits for, how many seconds, and whether for their disks."""

    count: int = 0
    timeout: float = 0.5
    fsync: bool = False

    def wait(self) -> Command:
        ms = round(self.timeout * 1000)
        return ("WAITAOF", 1, self.count, ms) if self.fsync else ("WAIT", self.count, ms)

    def check(self, reply: Any) -> None:
        """Raises ReplicaError if the reply counts too few."""
        if isinstance(reply, ServerError):
            raise ReplicaError(self.count, 0, f": {reply}")
        saved, got = reply if self.fsync else (1, reply)
        if not saved:
            raise ReplicaError(self.count, got, ", and the primary did not write it to its disk")
        if got < self.count:
            raise ReplicaError(self.count, got)


class Store:
    """The operations. It keeps what the process must remember; the servers have the rest."""

    replicas = Replicas()

    def __init__(self, namespace: str, cluster: bool, timeout: float) -> None:
        self.keys = Keys(namespace)
        self.cluster = cluster
        self.timeout = timeout
        self.revoked = 0  # the last revocation of everybody that is known
        self._revoked_read = -1.0
        self.ends = ends.Ends()
        self.updating: set[str] = set()  # the sessions with an update under way

    # Trips

    def ask(
        self,
        key: bytes,
        commands: Sequence[Command | Call],
        repeat: bool = True,
        address: tuple[str, int] | None = None,
    ) -> Flow[list[Any]]:
        """Sends commands, and again if they certainly did not run.

        With `repeat` it also sends them again after an unknown outcome. If the first command is a
        script, its reply alone decides: what follows it only reads.
        """
        deadline = time.monotonic() + self.timeout
        whole, asking, failures, pause, unknown = False, False, 0, 0.001, False
        target = address
        while True:
            sent = [c.command(whole) if isinstance(c, Call) else c for c in commands]
            try:
                replies: list[Any] = yield Trip(key, sent, target, asking)
            except TripFailed as err:
                self.ends.connection_lost()
                unknown = unknown or err.sent and isinstance(commands[0], Call)
                failures += 1
                if err.sent and not repeat:
                    raise UnknownOutcome(str(err)) from err
                if failures > 1 or time.monotonic() > deadline:
                    raise (UnknownOutcome if unknown else Unavailable)(str(err)) from err
                target, asking = address, False
                if self.cluster:
                    yield from self._refresh()
                continue
            decisive = replies[:1] if isinstance(commands[0], Call) else replies
            error = next((r for r in decisive if _not_run(r)), None)
            if error is None:
                return replies
            target, asking = address, False
            if error.code == "NOSCRIPT":
                whole = True
                continue
            if time.monotonic() > deadline:
                raise (UnknownOutcome if unknown else Unavailable)(str(error))
            if error.code == "ASK" and error.address:
                target, asking = error.address, True
                continue
            if error.code != "MOVED":
                yield Pause(pause)
                pause = min(pause * 2, 0.1)
            if self.cluster:
                yield from self._refresh()

    def _refresh(self) -> Flow[None]:
        try:
            yield Refresh()
        except TripFailed as err:
            raise Unavailable(str(err)) from err

    def execute(self, key: bytes, what: Call, repeat: bool = True) -> Flow[list[Any]]:
        """Calls a script, and returns its reply without the status "malformed" or "invalid"."""
        reply = (yield from self.ask(key, [what], repeat))[0]
        return check_reply(reply)

    # Reading

    def read(self, token: Token) -> Flow[Snapshot]:
        """Reads a session. Raises Malformed and Unavailable."""
        handle = token.handle
        key = self.keys.session(handle)
        yield from self.follow_revoked()
        sent = time.monotonic()
        replies = yield from self.ask(key, self._read_commands(token))
        snapshot = yield from self._snapshot(replies, sent)
        if token.anonymous and isinstance(snapshot.found, Record) and snapshot.found.user:
            # The cookie has the wrong name. Read it again, together with the revocations.
            token.anonymous = False
            return (yield from self.read(token))
        return snapshot

    def _read_commands(self, token: Token) -> list[Command | Call]:
        """Returns what reads a session. No revocation of a user concerns an anonymous one."""
        commands: list[Command | Call] = [("TIME",), ("HGETALL", self.keys.session(token.handle))]
        if not self.cluster:
            commands.append(("GET", self.keys.revoked))
        if not token.anonymous:
            commands.append(("HGETALL", self.keys.revocations(token.handle[:4])))
        return commands

    def _snapshot(self, replies: list[Any], sent: float) -> Flow[Snapshot]:
        received = time.monotonic()
        now, session, *rest = replies
        revoked = None if self.cluster else rest.pop(0)
        revocations = rest[0] if rest else {}
        for reply, name in ((session, "the session"), (revocations, "the revocations"), (now, "TIME"), (revoked, "revoked")):
            if isinstance(reply, ServerError):
                if reply.code == "WRONGTYPE":
                    raise Malformed(name, "a key of another type")
                raise Unavailable(str(reply))
        if not self.cluster:
            yield from self._learn(revoked)
        found = record.decode(pairs(session))
        return Snapshot(found, pairs(revocations), self.revoked, milliseconds(now), sent, received)

    def follow_revoked(self) -> Flow[None]:
        """Reads the revocation of everybody on a Cluster, if that is half a second ago."""
        if self.cluster and time.monotonic() - self._revoked_read > 0.5:
            yield from self.read_revoked()

    def read_revoked(self) -> Flow[float]:
        """Reads the revocation of everybody, and returns the time of that server."""
        began = time.monotonic()
        replies = yield from self.ask(self.keys.revoked, [("GET", self.keys.revoked), ("TIME",)])
        for reply in replies:
            if isinstance(reply, ServerError):
                raise Malformed("revoked", str(reply))
        yield from self._learn(replies[0])
        self._revoked_read = began
        return milliseconds(replies[1])

    def _learn(self, stored: bytes | None) -> Flow[None]:
        at = record.parse_revoked(stored)
        if at >= self.revoked:
            self.revoked = at
            return
        # A failover has lost the revocation.
        what = call("revokeall", [self.keys.revoked], self.revoked, 0)
        yield from self.execute(self.keys.revoked, what)

    # Writing

    def create(
        self,
        token: Token,
        session: bytes,
        fields: dict[str, bytes],
        idle: int,
        lifetime: int,
        first: int,
    ) -> Flow[Result]:
        size = sum(len(k.encode()) + len(v) for k, v in fields.items())
        values = [x for k, v in fields.items() for x in (k.encode(), v)]
        key = self.keys.session(token.handle)
        what = call(
            "create",
            [key],
            b64encode(session),
            token.verifier_hash,
            size,
            idle,
            lifetime,
            min(first, idle),
            0,
            *values,
        )
        sent = time.monotonic()
        replies = yield from self.ask(key, [what, *self._read_commands(token)])
        status = check_reply(replies[0])[0]
        if status not in (b"ok", b"again"):
            raise Unavailable("a session with the new id exists")
        snapshot = yield from self._snapshot_after(replies[1:], sent)
        return Result(1, 0, snapshot=snapshot)

    def _snapshot_after(self, replies: list[Any], sent: float) -> Flow[Snapshot | None]:
        """Returns what was read after a change. The change is made, whatever comes of this."""
        try:
            return (yield from self._snapshot(replies, sent))
        except Unavailable:
            return None

    def apply(
        self,
        token: Token,
        known: Record,
        now: float,
        ops: Sequence[tuple[bytes | str, bytes | str, bytes | str, bytes | str]],
        max_size: int,
        issued: bool,
        renew: tuple[str, str, int | str, int | str] | None = None,
        read_after: bool = False,
    ) -> Flow[Result]:
        """Applies a change. `known` is any version of the record, and `now` the server's time.

        `renew` is the operation "renew" or "rotate". Raises Ended, Refused, Unavailable.
        """
        key, bucket = self.keys.session(token.handle), token.handle[:4]
        verifier = token.verifier_hash
        keys = [key, self.keys.revocations(bucket)] if known.user else [key]
        due = renew is not None or known.touch_due(None if issued else verifier, now)
        args: list[bytes | str | int] = [
            verifier,
            max_size,
            self.revoked if known.created <= self.revoked else 0,
            f"{int(due)}0{int(issued)}",
        ]
        if renew:
            args += [renew[0], renew[1], renew[2], renew[3]]
        for op in ops:
            args += op
        commands: list[Command | Call] = [call("apply", keys, *args)]
        if read_after:
            commands += self._read_commands(token)
        sent = time.monotonic()
        replies = yield from self.ask(
            key, commands, repeat=renew is not None and renew[0] == "renew"
        )
        reply = check_reply(replies[0])
        if reply[0] in (b"gone", b"moved"):
            raise Ended(f"session {token.handle}: {reply[0].decode()}")
        if reply[0] == b"refused":
            raise Refused(int(reply[1]), reply[2].decode(), reply[3] if len(reply) > 3 else None)
        at = 4 if renew else 3
        result = Result(
            revision=reply[2],
            time=reply[1],
            generation=reply[3] if renew else None,
            took_place=reply[0] == b"ok",
            values=list(reply[at:]),
        )
        if read_after:
            result.snapshot = yield from self._snapshot_after(replies[1:], sent)
        return result

    def touch(self, token: Token, signed_in: bool) -> Flow[None]:
        key = self.keys.session(token.handle)
        keys = [key, self.keys.revocations(token.handle[:4])] if signed_in else [key]
        yield from self.execute(key, call("touch", keys, token.verifier_hash, self.revoked, 0))

    def end(self, handle: str, owner: str | None, known: bool) -> Flow[bool]:
        """Ends a session, and reports whether it was there. Raises Ended after a sign-in.

        `known` says that the caller has read the session, so that `owner` is right.
        """
        key = self.keys.session(handle)
        self.ends.add(handle, owner)
        if not known:
            owner = yield from self._owner(key, handle)
        keys = [key, self.keys.index(owner)] if owner else [key]
        reply = yield from self.execute(key, call("end", keys, random_hash(), 0))
        if reply[0] == b"moved":
            self.ends.add(handle, owner, moved=True)
            raise Ended(f"session {handle}: a sign-in replaced it")
        yield from self.replicate(handle[:4])
        ended = bool(reply[2])
        if ended or known:
            self.ends.add(handle, owner)
        else:
            self.ends.forget(handle)
        return ended

    def replicate(self, bucket: str | None) -> Flow[None]:
        """Waits for replicas, if it is asked for. The end before it is made.

        WAIT counts the writes of its own connection, so there is one in the same trip. Replication
        is ordered: a replica that has it has the end, too. None: an end of everybody.
        """
        if not self.replicas.count:
            return
        if bucket is None:
            key = self.keys.revoked
            write: Command | Call = call("revokeall", [key], self.revoked, 1)
        else:
            key = self.keys.marker(bucket)
            write = ("EVAL", _WRITE, 1, key)
        try:
            replies = yield from self.ask(key, [write, self.replicas.wait()])
        except Unavailable as err:
            raise ReplicaError(self.replicas.count, 0, f": {err}") from err
        self.replicas.check(replies[1])

    def _owner(self, key: bytes, handle: str) -> Flow[str | None]:
        reply = (yield from self.ask(key, [("HGET", key, "@u")]))[0]
        if not isinstance(reply, bytes):
            return None
        try:
            user, _ = record.parse_user(reply)
        except Malformed:
            return None
        return user.owner if f"{bucket_of(user.owner):04x}" == handle[:4] else None

class Refused(Exception):
    """apply.lua refused an operation. `index` does not count renew and rotate."""

    def __init__(self, index: int, why: str, present: bytes | None) -> None:
        super().__init__(f"operation {index}: {why}")
        self.index, self.why, self.present = index, why, present

    def public(self, name: str) -> Exception:
        if self.why in ("large", "fields"):
            return TooLarge(f"{name!r}: the session would exceed a limit ({self.why})")
        return Invalid(f"{name!r}: {self.why}")


def check_reply(reply: Any) -> list[Any]:
    """Returns the reply of a script. Raises Unavailable for the reply of a server that failed."""
    if isinstance(reply, ServerError):
        raise Unavailable(f"the server replied {reply}")
    if reply[0] == b"malformed":
        raise Malformed(reply[1].decode("utf-8", "replace"), "a script refused it")
    if reply[0] == b"invalid":
        raise Unavailable(f"a script refused the argument {reply[1]!r}: this is a mistake of coatcheck")
    result: list[Any] = reply
    return result


def _not_run(reply: Any) -> bool:
    return isinstance(reply, ServerError) and reply.code in _NOT_RUN
