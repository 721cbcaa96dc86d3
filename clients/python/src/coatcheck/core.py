"""One request's session: signing in and out, the user's data, and the header of the response."""

from __future__ import annotations

import time
from dataclasses import replace
from os import urandom

from . import csrf, http
from .committing import Committer
from .errors import (
    CSRF,
    Ended,
    Invalid,
    NotSignedIn,
    ReplicaError,
    Revoked,
    Sealed,
    SessionError,
    TooMany,
    Unavailable,
)
from .joining import Join
from .login import Login, cut, fits, ms, user_bytes
from .record import Info, Record
from .tokens import Token, bucket_of, check_csrf, csrf_token, owner_of
from .userdata import DataEditor
from .users import SignIn
from .view import Op, run
from .wire import Flow


_VARY, _VARY_BEARER = ("Cookie",), ("Cookie", "Authorization")


class Core(Committer):
    """The whole of a request's session. session.py has the classes for applications."""

    # Users

    def sign_in(self, login: Login) -> Flow[None]:
        """Makes a user the session's, under a new token, and joins the user's fields."""
        self.used = True
        yield from self._close_data()
        yield from self._enter(login)
        if self.user_fields():
            try:
                yield from self.user_data()
            except SessionError as err:
                self.config.logger.warning(
                    "the fields of the session %s did not join the data of its user; a later request tries again: %s",
                    self.handle(), err,
                )  # fmt: skip

    def _enter(self, login: Login) -> Flow[None]:
        sign_in = self._prepare(login)
        if self.state in ("ended", "moved"):
            if isinstance(self.error, Ended):
                self.error = None  # signing in is how to go on after an end
        else:
            error = self.refusal()
            if error is not None:
                self.fail(error)
        self._raise_error()
        try:
            self.may_issue_token()
        except NotSignedIn:
            pass  # bearer_token can hand out the new token
        ops = self.view.begin()
        old, before = (self.token, self.record) if self.record else (None, None)
        owner, id = sign_in["owner"], sign_in["id"]
        new = SignIn(
            **sign_in,  # type: ignore[arg-type]
            fields=lambda r: self._carry(r, owner, id, ops),  # type: ignore[arg-type]
        )
        try:
            snapshot = yield from self.store.sign_in(
                new, old, before.user.owner if before and before.user else None
            )
        except (TooMany, Revoked):
            self.view.restore(ops)
            raise
        except SessionError as err:
            self.view.restore(ops)
            self.fail(err)
            self.reported = True
            raise
        persistent = bool(login.remember) or self.config.cookie.persistent
        self._issue(new.token, persistent, new.lifetime / 1000, signed_in=True)
        self.signed_in = True
        if snapshot and isinstance(snapshot.found, Record):
            self._become(snapshot.found, snapshot.now)
        else:  # it has ended since; the token leaves nevertheless
            self._forget("ended")

    def _prepare(self, login: Login) -> dict[str, object]:
        """Checks a login. Raises Invalid."""
        c = self.config
        user = user_bytes(login.user)
        methods = tuple(login.methods)
        if len(methods) > 16 or any(not fits(m, 32) for m in methods):
            raise Invalid("Login.methods: at most 16 of at most 32 bytes")
        if isinstance(login.level, bool) or not isinstance(login.level, int) or not 0 <= login.level <= 99:
            raise Invalid("Login.level: 0 to 99")
        if login.remember and not 0.001 <= login.remember <= c.max_remember:
            raise Invalid("Login.remember: 1 ms to Config.max_remember")
        if login.lifetime and not 0.001 <= login.lifetime <= c.lifetime:
            raise Invalid("Login.lifetime: 1 ms to Config.lifetime")
        if login.remember and login.lifetime:
            raise Invalid("Login has both lifetime and remember")
        wall = self.clock()
        waited = time.monotonic() - self.began
        if login.began is not None:
            waited = max(0.0, wall - login.began)
        if waited > 24 * 3600:
            raise Invalid("Login.began: at most 24 h ago")
        ago = 0.0 if login.authenticated is None else wall - login.authenticated
        if not -60 <= ago <= 10 * 365 * 24 * 3600 - 60:
            raise Invalid("Login.authenticated: at most 10 years ago, and at most a minute ahead")
        start = time.monotonic()
        assert c.idle_timeout is not None
        idle, lifetime = c.idle_timeout, c.lifetime
        if login.remember:
            idle = lifetime = login.remember
        elif login.lifetime:
            idle, lifetime = min(idle, login.lifetime), login.lifetime
        owner, session = owner_of(c.user_key, user), urandom(16)
        info = Info(user, methods, cut(login.device, 128), cut(login.user_agent, 512), cut(login.address, 64)).encode()
        if c.seal:
            info = self.ring.seal(session, "@i", info)
        persistent = bool(login.remember) or c.cookie.persistent
        return dict(
            token=Token.new(bucket_of(owner)),
            id=session,
            owner=owner,
            user=f"{login.level:02x}{int(persistent)}{len(info):04x}",
            info=info,
            idle=ms(idle),
            lifetime=ms(lifetime),
            max_per_user=c.max_per_user,
            refuse_extra=c.refuse_extra,
            elapsed=lambda: (waited + time.monotonic() - start) * 1000,
            ago=ms(max(0.0, ago)),
        )

    def _carry(self, before: Record | None, owner: str, session: bytes, ops: list[Op]) -> dict[str, bytes]:
        """Returns the new session's fields: those that are kept, with this request's changes."""
        fields: dict[str, bytes] = {}
        kept = {*self.config.keep_fields, *self.config.user_fields_by_name}
        if before:
            same = before.user is not None and before.user.owner == owner
            for name, value in before.fields.items():
                if same or before.user is None and name.partition(":")[0] in kept:
                    fields[name] = self.ring.reseal(before.id, session, name, value)
        for op in ops:
            if op.value is not None:
                op = replace(op, value=self.ring.reseal(self.record_id, session, op.name, op.value))
            run(fields, op)
        self._check_size(fields)
        return fields

    def sign_out(self) -> Flow[None]:
        """Ends the session. The response deletes the cookie, also if the server is down."""
        self.used = True
        for data in self.opened:
            data.discard()
        if self.state == "moved" and self.named is None:
            raise Ended("a sign-in in another request replaced the session")
        error: Exception | None = None
        if self.found:
            r = self.named or self.record
            owner = r.user.owner if r and r.user else None
            try:
                yield from self.store.end(self.token.handle, owner, known=r is not None)
            except Ended:
                self.leave("moved")
                raise
            except SessionError as err:
                error = err if isinstance(err, ReplicaError) else Unavailable(f"signing out: {err}")
        self._withhold()
        self.rotated, self.signed_in = None, False
        self.drop_cookie, self.drop_anonymous = self.cred.has_cookie, self.cred.has_anonymous
        self.discard()
        self._forget("anonymous")
        self.new_id = b""
        if error is not None:
            self.state = "ended"
            self.fail(error)
            self.reported = True
            raise error
        self.found = self.cred.in_header = False

    # The data of the user

    def user_fields(self) -> dict[str, bytes]:
        """Returns what the stored session has of Config.user_fields."""
        of_user = self.config.user_fields_by_name
        if not of_user or self.state != "live":
            return {}
        return {n: v for n, v in self.view.base.items() if n.partition(":")[0] in of_user}

    def user_data(self) -> Flow[DataEditor | None]:
        """Returns the data of the user who is signed in, or None.

        If the session has fields that belong to the user, it moves them to the data.
        """
        yield from self.load()
        if self.record is None or self.record.user is None:
            return None
        owner = self.record.user.owner
        data = next((d for d in self.opened if d.locator.owner == owner), None)
        if data is None:
            data = DataEditor(self.store, self.config, self.ring, owner, through=self)
        if data.state == "unread":
            yield from data.load()
        elif self.user_fields():  # they join what the data is now, which may have another id
            yield from data.read_again()
        self.opened = [data, *(d for d in self.opened if d is not data)]
        yield from Join(self, data).run()
        return data

    def admit(self, owner: str) -> Flow[None]:
        """Raises Ended unless the session is alive and this user is signed in.

        A request, or a WebSocket, of a revoked session does not change the data of its user.
        """
        error = self.refusal()
        user = self.record.user if self.record else None
        if error is None and (user is None or user.owner != owner):
            error = Ended("the user of the data is not signed in any more")
        if error is not None:
            raise error
        finding = self._decide(self.token, (yield from self.store.read(self.token)))
        if finding.outcome not in ("current", "grace"):
            self.leave("moved" if finding.outcome in ("superseded", "moved") else "ended")
            raise Ended("the session ended, or got a new token, while the request was running")

    def _close_data(self) -> Flow[None]:
        """Commits the changes of user data before another sign-in."""
        for data in self.opened:
            try:
                yield from data.commit(read_after=False)
            except Ended:  # signing in is how to go on after an end
                data.discard()

    def before_header(self, can_set_cookie: bool = True) -> Flow[None]:
        """The middleware's commit: first the session, and then the data of its user.

        So after an error the data is unchanged, or its outcome is unknown. A request that the
        visitor repeats does not add to a cart twice.
        """
        yield from super().before_header(can_set_cookie)
        for data in self.opened:
            known = data.error is not None and data.reported
            try:
                yield from data.commit(read_after=False)
            except Exception as err:
                self.fail(err)
                self.reported = self.reported or known
                raise

    def has_changes(self) -> bool:
        """Reports whether there are changes that are not committed."""
        return any(of.view.ops for of in (self, *self.opened))

    def after_response(self, failed: bool) -> Flow[None]:
        """Commits what a stream has changed, and records the use."""
        if not failed and self.has_changes():
            try:
                for of in (self, *self.opened):
                    yield from of.commit()
            except Exception as err:
                self.config.logger.error("changes made after the response header were lost: %s", err)
        if self.touch_due():
            yield from self.touch()

    def discard(self) -> None:
        super().discard()
        for data in self.opened:
            data.discard()

    def reload(self) -> Flow[None]:
        """Drops the changes, and reads the session and the data of its user again."""
        yield from super().reload()
        for data in self.opened:
            yield from data.reload()

    def touch_due(self) -> bool:
        return super().touch_due() or any(data.touch_due() for data in self.opened)

    def touch(self) -> Flow[None]:
        """Records the use of the session, and of the data of its user."""
        if super().touch_due():
            yield from super().touch()
        for data in self.opened:
            if data.touch_due():
                yield from data.touch()

    # Tokens for pages and clients

    def csrf_token(self) -> Flow[str]:
        if self.state == "anonymous":
            self._raise_error()
            yield from self._send()
        if self.state in ("ended", "moved"):
            raise Ended("the session ended, or got a new token, while the request was running")
        if self.record is None:
            raise Unavailable("the session was not read")
        return csrf_token(self.record.id)

    def needs_csrf(self, path: str) -> Flow[bool]:
        """Reports whether a request needs a CSRF token, as docs/csrf.md says of Config.csrf."""
        method = self.request.method
        if not self.cred.in_cookie or http.is_safe(method):
            return False
        if http.is_exempt(method, path, self.config.csrf_exempt):
            return False
        try:
            yield from self.load()
        except Sealed:  # its visitor can sign out
            self.error, self.reported = None, False
        # If the cookie opens no session, the client could as well have left it out.
        return self.record is not None or self.named is not None

    def check_csrf(self, token: str) -> None:
        if not token:
            raise CSRF(csrf.MISSING)
        r = self.record or self.named
        if r is None:
            raise CSRF("there is no session that has a CSRF token")
        check_csrf(r.id, token)

    def bearer_token(self) -> Flow[str]:
        if not self.config.bearer:
            raise RuntimeError("bearer_token needs Config.bearer")
        if self.state == "live" and self.cookie == "keep" and self.cred.in_cookie:
            raise RuntimeError("this token came in a cookie, which scripts must not read: renew it first")
        error = self.refusal()
        if error is not None:
            self.fail(error)
        self._raise_error()
        if self.state == "anonymous" or self.view.ops:
            before = self.cookie
            if self.state == "anonymous":
                self.cookie = "handed out"
            try:
                yield from self._send()
            except BaseException:
                self.cookie = before
                raise
        self.cookie = "handed out"
        if self.issued:  # beside the new token, an old cookie would make every request ambiguous
            self.drop_cookie, self.drop_anonymous = self.cred.has_cookie, self.cred.has_anonymous
        return self.token.text(self.ring)

    # The response header

    def headers(self, headers: http.Headers) -> http.Headers:
        """Adds what the session has to say to the header of the response."""
        return http.merge(headers, self.additions())

    def additions(self) -> http.Additions | None:
        """Returns what to add to the header of the response. None: the request has no session."""
        if not self.used:
            return None
        vary = _VARY_BEARER if self.config.bearer else _VARY
        if not (self.cookie != "keep" or self.drop_cookie or self.drop_anonymous or self.drop_everywhere):
            return http.Additions(vary)
        c, cookies = self.config.cookie, list[str]()
        if self.cookie == "set":
            text = (self.rotated or self.token).text(self.ring)
            name = c.name if self.signed_in_cookie else c.name + http.ANONYMOUS
            cookies.append(http.set_cookie(c, name, text, self.age))
            if self.signed_in_cookie:
                self.drop_cookie, self.drop_anonymous = False, self.cred.has_anonymous
            else:
                self.drop_anonymous = False
        if self.drop_cookie:
            cookies.append(http.set_cookie(c, c.name, "", 0))
        if self.drop_anonymous:
            cookies.append(http.set_cookie(c, c.name + http.ANONYMOUS, "", 0))
        if self.drop_everywhere:
            cookies += http.delete_everywhere(c)
        return http.Additions(vary, cookies, no_store=self.cookie == "handed out")

    def new_token(self) -> str | None:
        """Returns the token that the response brings, or None."""
        if self.cookie != "set":
            return None
        return (self.rotated or self.token).text(self.ring)
