"""The operation on a session and the data of its user together, as a flow: the join."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Sequence

from .calls import Call, call
from .store import Snapshot, check_reply
from .tokens import DataLocator, Token
from .users import UserStore
from .wire import Command, Flow, ServerError


@dataclass(frozen=True)
class Move:
    """A field that moves: its value in the session, and those in the user data before and after."""

    name: str
    value: bytes
    before: bytes | None
    after: bytes


@dataclass(frozen=True)
class Joined:
    """The outcome of a join, and both records after it if they could be read.

    The status is ok, gone, moved, busy or none; or why the store refused the move `index`:
    conflict, large or fields.
    """

    status: str
    index: int = 0
    session: Snapshot | None = None
    data: Snapshot | None = None


class DataStore(UserStore):
    """Adds the join."""

    def join(
        self, session: Token, data: DataLocator, moves: Sequence[Move], max_size: int
    ) -> Flow[Joined]:
        """Moves fields from a session to the data of its user, all of them or none.

        It may be repeated: what was moved already is a conflict.
        """
        yield from self.follow_revoked()
        keys = [self.keys.record(session), self.keys.record(data), self.keys.revocations(session.handle[:4])]
        args: list[bytes | str | int] = [session.verifier_hash, max_size, self.revoked, 0, len(moves)]
        for m in moves:
            args += [m.name.encode(), m.value]
        for m in moves:
            args += [m.name.encode(), b"" if m.before is None else b"=" + m.before, m.after]
        reads = self._read_commands(session), self._read_commands(data)
        commands: list[Command | Call] = [call("join", keys, *args), *reads[0], *reads[1]]
        sent = time.monotonic()
        replies = yield from self.ask(keys[0], commands, final=("TRYAGAIN",))
        if isinstance(replies[0], ServerError) and replies[0].code == "TRYAGAIN":
            return Joined("busy")  # the slot moves, and its keys are on two servers
        reply, index = check_reply(replies[0]), 0
        status = reply[0].decode()
        if status == "refused":
            index, status = reply[2], reply[3].decode()
        first = 1 + len(reads[0])
        return Joined(
            status,
            index,
            (yield from self._snapshot_after(session, replies[1:first], sent)),
            (yield from self._snapshot_after(data, replies[first:], sent)),
        )
