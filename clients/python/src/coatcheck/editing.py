"""One record as a request sees and changes it: its fields, and the commit of their changes.

A session is such a record, and so is the data of a user. The flows of this module, and of those
that build on it, run on wire.py.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from typing import Callable, Sequence

from . import record
from .config import Config
from .datastore import DataStore
from .errors import Invalid, Limit, SessionError, TooLarge, Unavailable
from .record import Record
from .store import MAX_FIELDS, Refused, Renewal, Result, Snapshot
from .tokens import KeyRing, Locator
from .view import Op, View, run
from .wire import Flow, Pause

_MAX_ATTEMPTS = 100
_UNREAD = "it was not read: call load or reload first"


class Conflict(Exception):
    """An atomic change was refused: swap, a bounded add, or limit.

    `present` is the value that is stored now. `index` says which operation it was.
    """

    def __init__(self, index: int, present: bytes | None) -> None:
        self.index, self.present = index, present


def jitter(attempt: int) -> Pause:
    """Returns a random pause before an attempt, so that requests that compete take turns."""
    return Pause(random.random() * 0.001 * (1 << min(attempt, 5)))


class Editor:
    """States: unread, anonymous (not stored), live. A session has more: see reading.py."""

    issued = False  # the request issued the token that opens the record

    def __init__(
        self, store: DataStore, config: Config, ring: KeyRing, lock: threading.RLock | None = None
    ) -> None:
        self.store, self.config, self.ring = store, config, ring
        self.state = "unread"
        self.error: Exception | None = None  # what fails the commit
        self.reported = False  # the application has got the error
        self.lock = lock or threading.RLock()
        self.view = View()
        self.record: Record | None = None
        self.now = 0.0  # the server's time when the record was read
        self.read_at = 0.0  # time.monotonic() then

    # What kinds of record do in their own ways

    @property
    def locator(self) -> Locator:
        """Names the record in the store."""
        raise NotImplementedError

    @property
    def binding(self) -> bytes:
        """What sealed values are bound to. They open nowhere else."""
        raise NotImplementedError

    def handle(self) -> str:
        """Names the record for logs; "" if it is not stored."""
        raise NotImplementedError

    def _become(self, r: Record, now: float) -> None:
        """Makes r the record. Raises Sealed if the key of any value is missing."""
        raise NotImplementedError

    def _store(self, ops: list[Op], renew: Renewal | None, read_after: bool) -> Flow[Result]:
        """Sends changes to the store."""
        raise NotImplementedError

    def _lost(self, error: SessionError) -> None:
        """Notes what an error of a commit says about the record."""

    # State

    def fail(self, error: Exception) -> None:
        """Keeps the first error for the commit."""
        if self.error is None:
            self.error = error

    def refusal(self) -> Exception | None:
        """Says why the record takes no changes."""
        return RuntimeError(_UNREAD) if self.state == "unread" else None

    def _raise_error(self) -> None:
        if self.error is not None:
            self.reported = True
            raise self.error

    def discard(self) -> None:
        """Drops the changes that are not committed, and the mistake that would fail the commit."""
        self.view.discard()
        self.error = None

    def _can_open(self, r: Record) -> None:
        """Raises Sealed if the key of any value is missing."""
        for name, value in r.fields.items():
            if value[:1] == b"~":
                self.ring.can_open(name, value)

    def _hold(self, r: Record, now: float) -> None:
        self.state, self.record = "live", r
        self.now, self.read_at = now, time.monotonic()
        self.view.rebase(r.fields)

    def _server_now(self) -> float:
        return self.now + (time.monotonic() - self.read_at) * 1000

    def adopt(self, s: Snapshot | None) -> bool:
        """Makes what was read after a change the record. Returns False if that cannot be.

        The change is made, whatever comes of this: the next change finds out why.
        """
        if s is None or not isinstance(s.found, Record):
            return False
        if s.found.status(self.locator.verifier_hash, s.now) not in ("current", "grace"):
            return False
        try:
            self._become(s.found, s.now)
        except SessionError:
            return False
        return True

    def read_again(self) -> Flow[bool]:
        try:
            s = yield from self.store.read(self.locator)
        except SessionError:
            return False
        return self.adopt(s)

    # Fields

    def get(self, name: str) -> bytes | None:
        """Returns a value in clear. Raises Sealed."""
        if self.state == "unread":
            raise RuntimeError(_UNREAD)
        value = self.view.fields.get(name)
        return None if value is None else self.ring.open(self.binding, name, value)

    def sealed(self, name: str, value: bytes) -> bytes:
        """Returns a value as it is to be stored in this record."""
        return self.ring.seal(self.binding, name, value) if self.config.seal else value

    def stored(self, name: str) -> bytes | None:
        return self.view.fields.get(name)

    def entries(self, field: str) -> dict[str, bytes]:
        """Returns the entries of a map as they are stored, sorted by key."""
        start = len(field) + 1
        with self.lock:
            found = {n[start:]: v for n, v in self.view.fields.items() if n.startswith(field + ":")}
        return dict(sorted(found.items(), key=lambda e: e[0].encode()))

    def change(self, op: Op) -> None:
        """Makes a change for the commit. A mistake is kept, and fails the commit."""
        with self.lock:
            if self.error is not None:
                return
            error = self.refusal()
            if error is None and op.name and not record.check_name(op.name):
                error = Invalid(f"{op.name[:80]!r} is not the name of a field or an entry")
            try:
                if error is None:
                    if op.value is not None:
                        op = replace(op, value=self.sealed(op.name, op.value))
                    self.view.change(op)
            except SessionError as err:
                error = err
            if error is not None:
                self.fail(error)

    # Committing

    def commit(self, read_after: bool = True) -> Flow[None]:
        """Stores the changes, and reads what others have changed, unless read_after is False."""
        self._raise_error()
        if self.view.ops:
            yield from self._send(read_after=read_after)

    def _send(
        self, last: Sequence[Op] = (), renew: Renewal | None = None, read_after: bool = False
    ) -> Flow[Result]:
        """Commits the changes, with more operations or a new token. Errors fail the commit.

        Raises Conflict if one of `last` is refused. That does not fail the commit.
        """
        ops = self.view.begin()
        every, pending = [*ops, *last], len(ops)
        try:
            return (yield from self._store(every, renew, read_after))
        except Refused as err:
            self.view.restore(every[:pending])
            if err.index >= pending and err.why in ("conflict", "entries"):
                raise Conflict(err.index - pending, err.present) from None
            name = every[err.index].name if err.index < len(every) else ""
            error = err.public(name)
        except SessionError as err:
            self.view.restore(every[:pending])
            self._lost(err)
            error = err
        self.fail(error)
        self.reported = True
        raise error

    def _apply(
        self, ops: list[Op], renew: Renewal | None = None, read_after: bool = False
    ) -> Flow[Result]:
        """Changes a record that is stored."""
        assert self.record is not None
        result = yield from self.store.apply(
            self.locator,
            self.record,
            self._server_now(),
            [op.arguments() for op in ops],
            self.config.max_size,
            self.issued,
            renew,
            read_after,
        )
        self.view.settle(ops, result.values)
        self.adopt(result.snapshot)
        return result

    def _new_fields(self, ops: list[Op]) -> tuple[dict[str, bytes], list[bytes | None]]:
        """Returns the fields of a new record, and the values of the operations that make them."""
        fields: dict[str, bytes] = {}
        values: list[bytes | None] = []
        for i, op in enumerate(ops):
            before = fields.get(op.name)
            run(fields, op)
            values.append(fields[op.name] if op.kind == "add" else before if op.kind == "take" else None)
            why = op.exceeded(fields, before)
            if why:
                raise Refused(i, why, before)
        self._check_size(fields)
        return fields, values

    def _check_size(self, fields: dict[str, bytes]) -> None:
        size = sum(len(k.encode()) + len(v) for k, v in fields.items())
        if size > self.config.max_size or len(fields) > MAX_FIELDS:
            raise TooLarge(f"{size} bytes in {len(fields)} fields are over a limit")

    def touch_due(self) -> bool:
        """Reports whether the use of the record must be written."""
        raise NotImplementedError

    # Atomic changes of one value

    def take(self, name: str) -> Flow[bytes | None]:
        """Removes a value, and returns it to one caller."""
        self._can_send(name)
        stored = self.view.fields.get(name)
        if stored is None:
            return None
        self.ring.can_open(name, stored)
        at = len(self.view.ops)
        result = yield from self._send(last=[Op("take", name)])
        value = result.values[at] if at < len(result.values) else None
        return None if value is None else self.ring.open(self.binding, name, value)

    def _can_send(self, name: str) -> None:
        error = self.refusal()
        if error is None and not record.check_name(name):
            error = Invalid(f"{name[:80]!r} is not the name of a field or an entry")
        if error is not None:
            self.fail(error)
        self._raise_error()

    def update(self, name: str, f: Callable[[bytes | None], bytes]) -> Flow[None]:
        """Replaces a value by what f makes of it. f gets None if there is no value."""
        self._can_send(name)
        deadline = time.monotonic() + self.config.commit_timeout
        key, turns, waited = self.handle(), self.store.updating, False
        # Updates of a record take turns in this process, so that they do not make each other's
        # comparisons fail.
        while key and key in turns:
            waited = True
            if time.monotonic() > deadline:
                raise self._busy(name)
            yield Pause(0.002)
        try:
            if key:
                turns.add(key)
            if waited:
                yield from self.read_again()
            stored = self.view.fields.get(name)
            for attempt in range(_MAX_ATTEMPTS):
                present = None if stored is None else self.ring.open(self.binding, name, stored)
                value = self.sealed(name, f(present))
                try:
                    yield from self._send(last=[Op("swap", name, value, stored)])
                    return
                except Conflict as err:
                    stored = err.present
                if time.monotonic() > deadline:
                    break
                if attempt:
                    yield jitter(attempt)
            raise self._busy(name)
        finally:
            turns.discard(key)

    def bounded(self, *ops: Op) -> Flow[bytes | None]:
        """Commits operations that may be refused because of a limit. Returns the first's value."""
        first = ops[0]
        self._can_send(first.name)
        if first.value is not None:
            ops = (replace(first, value=self.sealed(first.name, first.value)), *ops[1:])
        at = len(self.view.ops)
        try:
            result = yield from self._send(last=ops)
        except Conflict as err:
            if self.state == "live":
                yield from self.read_again()
            op = ops[err.index]
            if op.within is None:
                raise Limit(f"field {op.name!r}: at most {op.most} entries are allowed") from None
            least, most = op.within
            raise Limit(
                f"field {op.name!r}: with {op.delta:+d} the count would not be from {least} to {most}"
            ) from None
        return result.values[at] if at < len(result.values) else None

    def _busy(self, name: str) -> Unavailable:
        error = Unavailable(f"other requests keep changing {name!r}")
        self.fail(error)
        self.reported = True
        return error
