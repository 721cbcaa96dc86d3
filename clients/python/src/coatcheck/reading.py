"""One request's session, without input and output: its state, its fields, and reading it.

The flows of this module, of committing.py and of core.py run on wire.py.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from os import urandom
from typing import Callable

from . import http, record
from .config import Config
from .errors import Ambiguous, Ended, Invalid, Sealed, SessionError
from .record import Info, Marker, Record
from .store import Snapshot
from .tokens import KeyRing, Token, owner_of
from .users import UserStore
from .view import Op, View
from .wire import Flow


class Reader:
    """States: unread, anonymous, live, ended, moved, failed."""

    def __init__(
        self,
        store: UserStore,
        config: Config,
        ring: KeyRing,
        request: http.Request,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.config, self.ring, self.request = store, config, ring, request
        self.clock = clock
        self.began = time.monotonic()
        self.cred = http.credentials_of(request, config, ring)
        self.found = self.cred.token is not None
        self.state = "unread"
        self.read_error: SessionError | None = None
        self.error: Exception | None = None  # what fails the commit
        self.reported = False  # the application has got the error
        self.lock = threading.RLock()
        self.view = View()
        self.record: Record | None = None
        self.now = 0.0  # the server's time when the record was read
        self.read_at = 0.0  # time.monotonic() then
        self.named: Record | None = None  # what the token names, also if it does not open it
        self.info: Info | None = None
        self.new_id = b""  # of a session that is not stored yet
        # The response.
        self.used = self.sent = False
        self.cookie = "keep"  # keep, set or handed out
        self.rotated: Token | None = None
        self.confirmed = 0.0
        self.issued = self.renewed = False
        self.age = 0.0
        self.signed_in_cookie = False
        self.signed_in = False  # by this request
        self.drop_cookie = self.drop_anonymous = self.drop_everywhere = False

    # State

    @property
    def token(self) -> Token:
        assert self.cred.token is not None
        return self.cred.token

    @property
    def session_id(self) -> bytes:
        if self.record:
            return self.record.id
        if not self.new_id:
            self.new_id = urandom(16)
        return self.new_id

    def handle(self) -> str:
        return self.token.handle if self.record and self.cred.token else ""

    def fail(self, error: Exception) -> None:
        """Keeps the first error for the commit."""
        if self.error is None:
            self.error = error

    def refusal(self) -> Exception | None:
        """Says why the session takes no changes."""
        if self.state == "unread":
            return RuntimeError("load the session first")
        if self.state in ("ended", "moved"):
            return Ended("the session ended, or got a new token, while the request was running")
        return self.read_error if self.state == "failed" else None

    def _raise_error(self) -> None:
        if self.error is not None:
            self.reported = True
            raise self.error

    def discard(self) -> None:
        """Drops the changes that are not committed, and the mistake that would fail the commit."""
        self.view.discard()
        self.error = None

    # Fields

    def get(self, name: str) -> bytes | None:
        """Returns a value in clear. Raises Sealed."""
        if self.state == "unread":
            raise RuntimeError("load the session first")
        value = self.view.fields.get(name)
        return None if value is None else self.ring.open(self.session_id, name, value)

    def sealed(self, name: str, value: bytes) -> bytes:
        """Returns a value as it is to be stored in this session."""
        return self.ring.seal(self.session_id, name, value) if self.config.seal else value

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
        """Makes r the session. Raises Sealed if the key of any value is missing."""
        for name, value in r.fields.items():
            if value[:1] == b"~":
                self.ring.can_open(name, value)
        info = None
        if r.user:
            try:
                info = record.decode_info(self.ring.open(r.id, "@i", r.user.info))
            except record.Malformed as err:
                raise Sealed(f"the info opens, but does not describe a user: {err}") from None
            if owner_of(self.config.user_key, info.user) != r.user.owner:
                raise SessionError("Config.user_key is not the one with which this user signed in")
        self.state, self.record, self.named, self.info = "live", r, r, info
        self.now, self.read_at = now, time.monotonic()
        self.view.rebase(r.fields)

    def _leave(self, state: str) -> None:
        self.state, self.record, self.info = state, None, None
        self._withhold()

    def _withhold(self) -> None:
        """Drops a new token from the response: its session has ended, or has a newer one."""
        if self.cookie == "set":
            self.cookie = "keep"
