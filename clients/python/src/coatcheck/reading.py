"""One request's session, without input and output: its state, and reading it."""

from __future__ import annotations

import time
from os import urandom
from typing import TYPE_CHECKING, Callable

from . import http, record
from .config import Config
from .datastore import DataStore
from .editing import Editor
from .errors import Ambiguous, Ended, Sealed, SessionError
from .record import Info, Marker, Record
from .store import Snapshot
from .tokens import KeyRing, Token, owner_of
from .wire import Flow

if TYPE_CHECKING:
    from .userdata import DataEditor


class Reader(Editor):
    """States: unread, anonymous, live, ended, moved, failed."""

    def __init__(
        self,
        store: DataStore,
        config: Config,
        ring: KeyRing,
        request: http.Request,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, config, ring)
        self.request, self.clock = request, clock
        self.began = time.monotonic()
        self.cred = http.credentials_of(request, config, ring)
        self.found = self.cred.token is not None
        self.read_error: SessionError | None = None
        self.named: Record | None = None  # what the token names, also if it does not open it
        self.info: Info | None = None
        self.new_id = b""  # of a session that is not stored yet
        self.opened: list[DataEditor] = []  # the data of users; that of the present user is first
        # The response.
        self.used = self.sent = False
        self.cookie = "keep"  # keep, set or handed out
        self.rotated: Token | None = None
        self.confirmed = 0.0
        self.renewed = False
        self.age = 0.0
        self.signed_in_cookie = False
        self.signed_in = False  # by this request
        self.drop_cookie = self.drop_anonymous = self.drop_everywhere = False

    # State

    @property
    def record_id(self) -> bytes:
        if self.record:
            return self.record.id
        if not self.new_id:
            self.new_id = urandom(16)
        return self.new_id

    @property
    def binding(self) -> bytes:
        return self.record_id

    @property
    def token(self) -> Token:
        assert self.cred.token is not None
        return self.cred.token

    @property
    def locator(self) -> Token:
        return self.token

    def handle(self) -> str:
        return self.token.handle if self.record and self.cred.token else ""

    def refusal(self) -> Exception | None:
        """Says why the session takes no changes."""
        if self.state in ("ended", "moved"):
            return Ended("the session ended, or got a new token, while the request was running")
        return self.read_error if self.state == "failed" else super().refusal()

    # Reading

    def load(self) -> Flow[None]:
        """Reads the session, once."""
        self.used = True
        if self.state == "unread":
            yield from self._read()
        if self.state == "failed":
            assert self.read_error is not None
            self.reported = True
            raise self.read_error

    def _read(self) -> Flow[None]:
        if self.cred.ambiguous:
            self.drop_everywhere = not self.cred.in_header
            self._cannot_read(Ambiguous("the request carries two different tokens"))
        elif not self.found:
            self._forget("anonymous")
        else:
            yield from self._read_token(self.token)
            yield from self._read_others()

    def _forget(self, state: str) -> None:
        self.state, self.record, self.named, self.info = state, None, None, None
        self.read_error = None
        self.view.rebase({})

    def _cannot_read(self, error: SessionError) -> None:
        self.state, self.read_error = "failed", error
        self.fail(error)

    def _read_token(self, token: Token) -> Flow[None]:
        try:
            snapshot = yield from self.store.read(token)
            finding = self._decide(token, snapshot)
        except SessionError as err:
            self._forget("failed")
            self._cannot_read(err)
            return
        self._forget("anonymous")
        self.named = finding.record
        if finding.outcome in ("current", "grace"):
            assert finding.record is not None
            try:
                self._become(finding.record, snapshot.now)
            except SessionError as err:
                self._cannot_read(err)
        elif finding.outcome in ("superseded", "moved"):
            self.state = "moved"
        elif finding.outcome == "ended during the request":
            self.state = "ended"
        elif finding.record is not None:
            if finding.outcome == "theft":
                yield from self._end_stolen(token)
            self.found = False  # sign_out must not end the session with this token
            self.named = None

    def _decide(self, token: Token, s: Snapshot) -> record.Finding:
        found = s.found
        refusal = self.store.ends.refusal(token.handle)
        if refusal and isinstance(found, Record):  # a failover has undone the end
            how, age = refusal
            found = Marker(how == "moved" and age < record.REMEMBERED_MS, int(s.now - age))
        return record.decide(
            found,
            s.revocations,
            s.revoked,
            token.handle[5:],
            token.verifier_hash,
            token.generation,
            s.now,
            # The request never seems to have begun earlier than it did.
            s.now - (s.sent - self.began) * 1000,
            s.now - (s.received - self.began) * 1000,
        )

    def _read_others(self) -> Flow[None]:
        """Tries the other tokens of the cookies, if the first one opens no session."""
        first, found, twins = self.cred.token, self.found, self.cred.twins
        for i, token in enumerate(self.cred.others):
            if self.state == "anonymous":
                self.cred.token, self.found = token, True
                yield from self._read_token(token)
                if i >= twins:
                    twins = len(self.cred.others)
            elif i < twins and self.state == "live" and (yield from self._opens(token)):
                self._forget("failed")
                self.drop_everywhere = True
                self._cannot_read(Ambiguous("two cookies of the same name open a session"))
                return
        if self.state == "anonymous":
            self.cred.token, self.found = first, found

    def _opens(self, token: Token) -> Flow[bool]:
        if token.handle == self.token.handle:
            return False
        try:
            snapshot = yield from self.store.read(token)
            return self._decide(token, snapshot).outcome in ("current", "grace")
        except SessionError:
            return False

    def _end_stolen(self, token: Token) -> Flow[None]:
        log = self.config.logger
        assert self.named is not None
        owner = self.named.user.owner if self.named.user else None
        try:
            yield from self.store.end(token.handle, owner, known=True)
            log.warning("a stolen token was used; session %s has ended", token.handle)
        except SessionError as err:
            log.error("a stolen token was used; session %s: %s", token.handle, err)

    def _become(self, r: Record, now: float) -> None:
        self._can_open(r)
        info = None
        if r.user:
            try:
                info = record.decode_info(self.ring.open(r.id, "@i", r.user.info))
            except record.Malformed as err:
                raise Sealed(f"the info opens, but does not describe a user: {err}") from None
            if owner_of(self.config.user_key, info.user) != r.user.owner:
                raise SessionError("Config.user_key is not the one with which this user signed in")
        self._hold(r, now)
        self.named, self.info = r, info

    def leave(self, state: str) -> None:
        self.state, self.record, self.info = state, None, None
        self._withhold()

    def _withhold(self) -> None:
        """Drops a new token from the response: its session has ended, or has a newer one."""
        if self.cookie == "set":
            self.cookie = "keep"
