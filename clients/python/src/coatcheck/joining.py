"""Joining: the user's fields of a session move to the data of the user, at sign-in or later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .datastore import Joined, Move
from .editing import jitter
from .errors import Decode, Ended, Invalid, SessionError, TooLarge, Unavailable, UnknownOutcome
from .userdata import DataEditor
from .view import MAX_INT, MIN_INT, Op, parse_integer
from .wire import Flow

if TYPE_CHECKING:
    from .core import Core

_MAX_ATTEMPTS = 20


class Join:
    """Moves Config.user_fields from a session to the data of its user, in one atomic step.

    The store compares what was read, so nothing is lost or counted twice, whatever is repeated.
    """

    def __init__(self, session: Core, data: DataEditor) -> None:
        self.session, self.data = session, data

    def run(self) -> Flow[None]:
        """Makes the join, if the session has such fields.

        Raises Ended, Unavailable, Sealed, and TooLarge, Invalid or Decode if the fields do not fit:
        they stay in the session.
        """
        s = self.session
        deadline = time.monotonic() + s.config.commit_timeout
        for attempt in range(_MAX_ATTEMPTS):
            if s.error is not None or not s.user_fields():
                return
            if (yield from self._attempt()):
                return
            if time.monotonic() > deadline:
                break
            if attempt:
                yield jitter(attempt)
        raise Unavailable("other requests keep changing the user data")

    def _attempt(self) -> Flow[bool]:
        """Joins once. Returns False if others have changed what was read: it is read again."""
        s, d = self.session, self.data
        if d.state == "anonymous":
            yield from d.create_empty()
        try:
            moves = self._plan()
        except (Invalid, Decode) as err:
            raise self._stay(err) from None
        try:
            joined = yield from s.store.join(s.token, d.locator, moves, s.config.max_size)
        except UnknownOutcome as err:
            yield from self._read_both(Joined("conflict"), err)
            return False
        if joined.status == "ok":
            s.view.settle([Op("unset", m.name) for m in moves], [])
            d.view.settle([Op("set", m.name, m.after) for m in moves], [])
            s.adopt(joined.session)
            d.adopt(joined.data)
        elif joined.status == "none":
            d.begin_anew()
        elif joined.status in ("gone", "moved"):
            s.leave("ended" if joined.status == "gone" else "moved")
            raise Ended("the session ended, or got a new token, before its fields joined the user data")
        elif joined.status == "conflict":
            yield from self._read_both(joined, "a value has changed")
        elif joined.status != "busy":  # then a later request joins
            raise self._stay(TooLarge(f"{moves[joined.index].name!r}: {joined.status}"))
        return joined.status in ("ok", "busy")

    def _plan(self) -> list[Move]:
        """Returns what is to move. Raises Invalid, Decode or Sealed."""
        s, d, moves = self.session, self.data, []
        for name, value in s.user_fields().items():
            before = d.view.base.get(name)
            if s.config.user_fields_by_name[name.partition(":")[0]].counts:
                after = _sum(name, before or b"0", value)
            else:
                after = s.ring.reseal(s.binding, d.binding, name, value)
            moves.append(Move(name, value, before, after))
        return moves

    def _read_both(self, joined: Joined, why: object) -> Flow[None]:
        for editor, snapshot in ((self.session, joined.session), (self.data, joined.data)):
            if not editor.adopt(snapshot) and not (yield from editor.read_again()):
                raise Unavailable(f"joining the session and the user data: {why}")

    def _stay(self, error: SessionError) -> SessionError:
        """Explains why the fields stay in the session."""
        return type(error)(
            f"{error}: the fields of the session {self.session.handle()} do not fit into its user's "
            "data, and stay in the session. Make room, or remove them from the session: "
            "Manager.user_data opens the data without them"
        )


def _sum(name: str, a: bytes, b: bytes) -> bytes:
    x, y = parse_integer(a), parse_integer(b)
    if x is None or y is None:
        raise Decode(f"field {name!r} is not a counter")
    if not MIN_INT <= x + y <= MAX_INT:
        raise Invalid(f"field {name!r}: the sum {x} + {y} does not fit in 64 bits")
    return str(x + y).encode()
