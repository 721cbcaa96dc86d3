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
from .tokens import DataLocator, Locator, Token, b64encode, bucket_of, random_hash
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


# A new verifier: "renew" or "rotate", the token that has it, the grace period of the old one, and
# the age from which the old one is rotated. Both times are in milliseconds.
Renewal = tuple[str, Token, int, int]


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
        final: Sequence[str] = (),
    ) -> Flow[list[Any]]:
        """Sends commands, and again if they certainly did not run.

        With `repeat` it also sends them again after an unknown outcome. If the first command is a
        script, its reply alone decides: what follows it only reads. An error with a code in `final`
        is returned.
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
            if error is None or error.code in final:
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

    def read(self, locator: Locator) -> Flow[Snapshot]:
        """Reads a session or user data. Raises Malformed and Unavailable."""
        if isinstance(locator, Token):
            yield from self.follow_revoked()
        sent = time.monotonic()
        replies = yield from self.ask(self.keys.record(locator), self._read_commands(locator))
        snapshot = yield from self._snapshot(locator, replies, sent)
        if isinstance(locator, Token) and locator.anonymous and isinstance(snapshot.found, Record) and snapshot.found.user:
            # The cookie has the wrong name. Read it again, together with the revocations.
            locator.anonymous = False
            return (yield from self.read(locator))
        return snapshot

    def _read_commands(self, locator: Locator) -> list[Command | Call]:
        """Returns what reads a record.

        No revocation of a user concerns an anonymous session, and none at all user data.
        """
        commands: list[Command | Call] = [("TIME",), ("HGETALL", self.keys.record(locator))]
        if isinstance(locator, DataLocator):
            return commands
        if not self.cluster:
            commands.append(("GET", self.keys.revoked))
        if not locator.anonymous:
            commands.append(("HGETALL", self.keys.revocations(locator.handle[:4])))
        return commands

    def _snapshot(self, locator: Locator, replies: list[Any], sent: float) -> Flow[Snapshot]:
        received, is_session = time.monotonic(), isinstance(locator, Token)
        now, stored, *rest = replies
        revoked = rest.pop(0) if is_session and not self.cluster else None
        revocations = rest[0] if rest else {}
        what = "the session" if is_session else "the user data"
        for reply, name in ((stored, what), (revocations, "the revocations"), (now, "TIME"), (revoked, "revoked")):
            if isinstance(reply, ServerError):
                if reply.code == "WRONGTYPE":
                    raise Malformed(name, "a key of another type")
                raise Unavailable(str(reply))
        if is_session and not self.cluster:
            yield from self._learn(revoked)
        found, time_ms = record.decode(pairs(stored)), milliseconds(now)
        if isinstance(locator, DataLocator):
            found = record.user_data(found, locator.owner, time_ms)
        return Snapshot(found, pairs(revocations), self.revoked, time_ms, sent, received)

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
        locator: Locator,
        id: bytes,
        fields: dict[str, bytes],
        idle: int,
        lifetime: int,
        first: int,
    ) -> Flow[Result]:
        """Stores a new record. Raises Exists."""
        size = sum(len(k.encode()) + len(v) for k, v in fields.items())
        values = [x for k, v in fields.items() for x in (k.encode(), v)]
        key = self.keys.record(locator)
        what = call(
            "create",
            [key],
            b64encode(id),
            locator.verifier_hash,
            size,
            idle,
            lifetime,
            min(first, idle),
            0,
            *values,
        )
        sent = time.monotonic()
        replies = yield from self.ask(key, [what, *self._read_commands(locator)])
        reply = check_reply(replies[0])
        if reply[0] not in (b"ok", b"again"):
            raise Exists(f"{locator.handle}: a record with the new id exists")
        snapshot = yield from self._snapshot_after(locator, replies[1:], sent)
        return Result(1, reply[1] if reply[0] == b"ok" else 0, snapshot=snapshot)

    def _snapshot_after(self, locator: Locator, replies: list[Any], sent: float) -> Flow[Snapshot | None]:
        """Returns what was read after a change. The change is made, whatever comes of this."""
        try:
            return (yield from self._snapshot(locator, replies, sent))
        except Unavailable:
            return None

    def apply(
        self,
        locator: Locator,
        known: Record | None,
        now: float,
        ops: Sequence[tuple[bytes | str, bytes | str, bytes | str, bytes | str]],
        max_size: int,
        issued: bool,
        renew: Renewal | None = None,
        read_after: bool = False,
    ) -> Flow[Result]:
        """Applies a change. `known` is any version of the record, and `now` the server's time.

        Raises Gone if there is no live record, Ended if the verifier is not accepted, Refused, and
        Unavailable.
        """
        key, verifier, is_session = self.keys.record(locator), locator.verifier_hash, isinstance(locator, Token)
        keys = [key]
        if is_session and (known is None or known.user):
            keys.append(self.keys.revocations(locator.handle[:4]))
        due = renew is not None or known is None or known.touch_due(None if issued else verifier, now)
        args: list[bytes | str | int] = [
            verifier,
            max_size,
            self.revoked if is_session and (known is None or known.created <= self.revoked) else 0,
            f"{int(due)}0{int(issued)}",
        ]
        if renew:
            kind, new, grace, age = renew
            args += [kind, new.verifier_hash, *((grace, age) if kind == "rotate" else ("", ""))]
        for op in ops:
            args += op
        commands: list[Command | Call] = [call("apply", keys, *args)]
        if read_after:
            commands += self._read_commands(locator)
        sent = time.monotonic()
        replies = yield from self.ask(
            key, commands, repeat=renew is not None and renew[0] == "renew"
        )
        reply = check_reply(replies[0])
        if reply[0] == b"gone":
            raise Gone(f"{locator.handle}: gone")
        if reply[0] == b"moved":
            raise Ended(f"{locator.handle}: moved")
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
            result.snapshot = yield from self._snapshot_after(locator, replies[1:], sent)
        return result

    def touch(self, locator: Locator, signed_in: bool) -> Flow[None]:
        key = self.keys.record(locator)
        keys = [key, self.keys.revocations(locator.handle[:4])] if signed_in else [key]
        revoked = self.revoked if isinstance(locator, Token) else 0
        yield from self.execute(key, call("touch", keys, locator.verifier_hash, revoked, 0))

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


class Exists(Unavailable):
    """create.lua did not store the record: another one has its key."""


class Gone(Ended):
    """There is no live record under the key: it ended, expired or is revoked."""


class Refused(Exception):
    """apply.lua refused an operation. `index` does not count renew and rotate."""

    def __init__(self, index: int, why: str, present: bytes | None) -> None:
        super().__init__(f"operation {index}: {why}")
        self.index, self.why, self.present = index, why, present

    def public(self, name: str) -> Exception:
        if self.why in ("large", "fields"):
            return TooLarge(f"{name!r}: the record would exceed a limit ({self.why})")
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
