"""One request's session: committing its changes, new tokens, and recording its use."""

from __future__ import annotations

import time

from . import http
from .errors import Ended, HeaderSent, NotSignedIn, SessionError
from .login import ms
from .reading import Reader
from .record import Record
from .store import Renewal, Result
from .tokens import Token
from .view import Op
from .wire import Flow

_ROTATION_GRACE_MS = 30000
_RECHECK_AFTER = 0.05  # seconds


class Committer(Reader):
    """Adds what writes to the session."""

    # Committing

    def _lost(self, error: SessionError) -> None:
        if isinstance(error, Ended):
            self.leave("ended")

    def _store(self, ops: list[Op], renew: Renewal | None, read_after: bool) -> Flow[Result]:
        if self.state == "anonymous":
            return (yield from self._create(ops))
        return (yield from self._apply(ops, renew, read_after))

    def may_issue_token(self) -> None:
        """Raises the reason if the response cannot carry a new token."""
        if self.sent:
            raise HeaderSent("the response header has left")
        if self.cookie == "handed out":
            return
        if self.cred.in_header:
            raise NotSignedIn("the token in Authorization opens no session: use bearer_token")
        # A request that another site caused came without the cookie, because of SameSite. A new
        # cookie would replace the visitor's own.
        http.check_origin(self.request, self.config.trusted_origins)

    def _create(self, ops: list[Op]) -> Flow[Result]:
        self.may_issue_token()
        fields, values = self._new_fields(ops)
        c, token = self.config, Token.new()
        token.anonymous = True
        assert c.idle_timeout is not None and c.first_use_timeout is not None
        result = yield from self.store.create(
            token,
            self.record_id,
            fields,
            ms(c.idle_timeout),
            ms(c.lifetime),
            ms(c.first_use_timeout),
        )
        self._issue(token, persistent=c.cookie.persistent, age=c.lifetime, signed_in=False)
        result.values = values
        found = result.snapshot.found if result.snapshot else None
        if isinstance(found, Record) and result.snapshot:
            self._become(found, result.snapshot.now)
        else:  # it has ended since, or was not read; the token leaves nevertheless
            self._forget("ended")
        return result

    def _apply(
        self, ops: list[Op], renew: Renewal | None = None, read_after: bool = False
    ) -> Flow[Result]:
        result = yield from super()._apply(ops, renew, read_after)
        self.confirmed = time.monotonic()
        return result

    def _issue(self, token: Token, persistent: bool, age: float, signed_in: bool) -> None:
        """Makes a token the session's, on its way to the client in a cookie."""
        self.cred.token, self.found = token, True
        self.age = age if persistent else 0
        self.signed_in_cookie = signed_in
        self.rotated, self.confirmed = None, time.monotonic()
        self.issued, self.renewed = True, False
        if self.cookie != "handed out" and not self.cred.in_header:
            self.cookie = "set"

    def before_header(self, can_set_cookie: bool = True) -> Flow[None]:
        """The middleware's commit. After it, it is too late for a new cookie."""
        try:
            if self.error is not None:
                raise self.error
            rotation = self._due_rotation() if can_set_cookie else None
            if rotation and not self.view.ops:
                try:
                    self._rotated(rotation[1], (yield from self._apply([], rotation)))
                except SessionError as err:  # the old token stays good
                    self.config.logger.warning("a token was not rotated: %s", err)
            elif rotation:
                self._rotated(rotation[1], (yield from self._send(renew=rotation)))
            elif self.view.ops:
                yield from self._send()
            yield from self._recheck_cookie()
        finally:
            self.sent = True

    def _due_rotation(self) -> Renewal | None:
        every, r = self.config.rotate_every, self.record
        if not every or self.state != "live" or r is None or self.sent or self.cookie != "keep":
            return None
        if not self.cred.in_cookie or self.now - r.issued < every * 1000:
            return None
        p, shown = r.previous, self.token.verifier_hash == r.verifier
        accepted = p is not None and p.accepted and (r.unused or self.now < p.time)
        pending = accepted and r.unused
        if accepted if shown else not pending:
            return None
        token = self.token.renewed(0)
        return "rotate", token, _ROTATION_GRACE_MS, ms(every)

    def _rotated(self, token: Token, result: Result) -> None:
        """Sends the new token. The request goes on with its own."""
        if not result.took_place or result.generation is None or self.record is None:
            return
        self.rotated = Token(token.bucket, token.selector, result.generation, token.verifier)
        self.cookie = "set"
        self._cookie_of_record(self.record)

    def _cookie_of_record(self, r: Record) -> None:
        persistent = r.user.persistent if r.user else self.config.cookie.persistent
        self.signed_in_cookie = r.user is not None
        self.age = (r.deadline - self._server_now()) / 1000 if persistent else 0

    def _recheck_cookie(self) -> Flow[None]:
        """Drops a new token that another request has superseded meanwhile.

        A sign-in has succeeded, even if its session has ended at once: the token leaves.
        """
        if self.cookie != "set" or self.rotated or time.monotonic() - self.confirmed < _RECHECK_AFTER:
            return
        try:
            s = yield from self.store.read(self.token)
        except SessionError:
            return
        if isinstance(s.found, Record):
            superseded = s.found.verifier != self.token.verifier_hash
        else:
            superseded = not self.signed_in or s.found is not None and s.found.moved
        if superseded:
            self.leave("ended")

    def renew(self) -> Flow[None]:
        """Changes the token."""
        error = self.refusal()
        if error is not None:
            self.fail(error)
        self._raise_error()
        if self.state != "live":
            if self.view.ops:
                yield from self._send()
            return
        if self.sent:
            self.fail(HeaderSent("the response header has left"))
            self._raise_error()
        assert self.record is not None
        token = self.token.renewed(0)
        first = self.issued and not self.renewed and self.cookie == "set"
        result = yield from self._send(renew=("renew", token, 0, 0))
        token = Token(token.bucket, token.selector, result.generation or 0, token.verifier)
        r = self.record
        persistent = r.user.persistent if r.user else self.config.cookie.persistent
        self._issue(
            token, persistent, (r.deadline - self._server_now()) / 1000, signed_in=r.user is not None
        )
        self.renewed = not first
        try:  # the record has the new token
            s = yield from self.store.read(token)
            if isinstance(s.found, Record) and s.found.verifier == token.verifier_hash:
                self._become(s.found, s.now)
        except SessionError:
            pass

    # Touching

    def reload(self) -> Flow[None]:
        """Drops the changes, and reads the session again."""
        had = self.record is not None
        self.discard()
        yield from self._read()
        if had and self.state == "anonymous":
            self.state = "ended"
        if self.state in ("anonymous", "ended", "moved"):
            self._withhold()
        if self.state == "failed":
            assert self.read_error is not None
            raise self.read_error
        if self.state in ("ended", "moved"):
            raise Ended("the session has ended, or has a new token")
        if self.touch_due():
            yield from self.touch()

    def touch_due(self) -> bool:
        if self.state != "live" or self.record is None:
            return False
        if self.issued and not self.renewed:
            return False  # the request that creates a session does not use it
        verifier = None if self.issued else self.token.verifier_hash
        return self.record.touch_due(verifier, self._server_now())

    def touch(self) -> Flow[None]:
        """Records the use of the session."""
        assert self.record is not None
        try:
            if self.renewed:
                yield from self.store.apply(
                    self.token, self.record, self._server_now(), [], self.config.max_size, True
                )
            else:
                yield from self.store.touch(self.token, self.record.user is not None)
        except Ended:
            pass
        except SessionError as err:
            self.config.logger.warning("a use of session %s was not recorded: %s", self.handle(), err)
