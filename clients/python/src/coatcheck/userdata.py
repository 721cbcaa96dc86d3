"""The data of a user, as a request or a worker sees and changes it: reading and committing it.

It is a record beside the sessions of the user. Its name is the hash of the user, and no token opens
it. format/README.md has the rules, under "User data".
"""

from __future__ import annotations

import time
from os import urandom
from typing import TYPE_CHECKING

from .config import Config
from .datastore import DataStore
from .editing import Editor, jitter
from .errors import Ended, SessionError, Unavailable
from .login import ms
from .record import Malformed, Record
from .store import Exists, Gone, Renewal, Result
from .tokens import DataLocator, KeyRing, b64decode, b64encode
from .view import Op
from .wire import Flow

if TYPE_CHECKING:
    from .core import Core

_LIFETIME_MS = 3_153_600_000_000  # 100 years: only the idle limit is meant to end user data
_TOUCH_MS = 3_600_000  # how exactly a use is recorded, at most
_MAX_ATTEMPTS = 20


class DataEditor(Editor):
    """The data of one user. `through` is the session that opened it; None: a worker did."""

    def __init__(
        self, store: DataStore, config: Config, ring: KeyRing, owner: str, through: Core | None = None
    ) -> None:
        super().__init__(store, config, ring, through.lock if through else None)
        self._locator, self.through = DataLocator(owner), through

    @property
    def locator(self) -> DataLocator:
        return self._locator

    def handle(self) -> str:
        return f"user data {self._locator.handle}"

    # Reading

    def load(self) -> Flow[None]:
        """Reads the data. Raises Unavailable, or Sealed if the key of any value is missing."""
        try:
            s = yield from self.store.read(self._locator)
            if isinstance(s.found, Record):
                self._become(s.found, s.now)
            else:
                self.begin_anew()
        except SessionError:
            self.state = "unread"
            raise

    def reload(self) -> Flow[None]:
        """Drops the changes, and reads the data again."""
        self.discard()
        yield from self.load()
        if self.touch_due():
            yield from self.touch()

    @property
    def binding(self) -> bytes:
        """The owner: the data may expire and be created anew, with another id."""
        return b64decode(self._locator.owner) or b""

    def _become(self, r: Record, now: float) -> None:
        self._can_open(r)
        self._hold(r, now)

    def begin_anew(self) -> None:
        """Makes the data empty. It is not stored: it never was, or it has expired."""
        self.state, self.record = "anonymous", None
        self.view.rebase({})

    # Committing

    def _store(self, ops: list[Op], renew: Renewal | None, read_after: bool) -> Flow[Result]:
        if self.through is not None:
            yield from self.through.admit(self._locator.owner)
        return (yield from self._put(ops, read_after))

    def _put(self, ops: list[Op], read_after: bool = False) -> Flow[Result]:
        """Stores changes. Creates data that is not there, also if it expired since it was read."""
        for attempt in range(_MAX_ATTEMPTS):
            if attempt > 1:
                yield jitter(attempt)
            try:
                if self.state == "anonymous":
                    return (yield from self._create(ops))
                return (yield from self._apply(ops, read_after=read_after))
            except Exists:
                yield from self._follow()
            except Gone:
                self.begin_anew()
            except Ended:
                raise _not_of_owner() from None
        raise Unavailable("the user data is created and deleted again and again")

    def _follow(self) -> Flow[None]:
        """Goes on with the data that is stored now, if there is any."""
        s = yield from self.store.read(self._locator)
        if isinstance(s.found, Record):
            self._become(s.found, s.now)

    def create_empty(self) -> Flow[None]:
        """Stores data without fields, if no other request does it first."""
        try:
            yield from self._create([])
        except Exists:
            yield from self._follow()

    def _create(self, ops: list[Op]) -> Flow[Result]:
        fields, values = self._new_fields(ops)
        # Each creation has another id. Otherwise two requests that find the data expired would make
        # the same one, and the change of the second would count as a repetition of the first.
        id = urandom(16)
        idle = ms(self.config.user_data_timeout)
        result = yield from self.store.create(
            self._locator, id, fields, idle, _LIFETIME_MS, idle
        )
        result.values = values
        now = result.time
        made = Record(
            secret=b64encode(id),
            verifier=self._locator.owner,
            unused=False,
            revision=1,
            size=sum(len(k.encode()) + len(v) for k, v in fields.items()),
            seen=now,
            created=now,
            deadline=now + _LIFETIME_MS,
            idle=idle,
            fields=fields,
        )
        self._hold(made, now)
        self.adopt(result.snapshot)
        return result

    def empty(self) -> Flow[None]:
        """Removes all fields. Reads none of them: it also empties data whose key was dropped."""
        clear = [Op("clear").arguments()]
        try:
            yield from self.store.apply(self._locator, None, 0, clear, self.config.max_size, issued=False)
        except Gone:
            pass
        except Ended:
            raise _not_of_owner() from None

    # Touching

    def touch_due(self) -> bool:
        r, now = self.record, self._server_now()
        if self.state != "live" or r is None or now - r.seen <= min(r.idle / 20, _TOUCH_MS):
            return False
        return r.touch_due(None, now)

    def touch(self) -> Flow[None]:
        """Records the use of the data."""
        try:
            yield from self.store.touch(self._locator, signed_in=False)
        except SessionError as err:
            self.config.logger.warning("a use of %s was not recorded: %s", self.handle(), err)


def _not_of_owner() -> Malformed:
    return Malformed("@s", "its verifier is not the owner of the user data")
