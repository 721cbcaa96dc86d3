"""Flask: a session interface over the fields of a session.

    coatcheck.flask.Sessions(app, manager)

    @app.post("/sign-in")
    def sign_in():
        flask.session.sign_in(Login("ada"))

flask.session is a dict of the fields with JSON values. flask.session.coatcheck is the Session, for
counters and maps.
"""

from __future__ import annotations

from typing import Any, Iterator

import flask
from flask.sessions import SessionInterface, SessionMixin
from flask.signals import got_request_exception

from . import http, mapping
from .errors import SessionError
from .login import Login
from .manager import Manager
from .session import Session, UserData
from .wsgi import csrf_token_of, path_of, request_of


class FlaskSession(SessionMixin):
    """flask.session. It is read at the first access."""

    def __init__(self, session: Session) -> None:
        self.coatcheck = session
        self._values: dict[str, Any] | None = None
        self._shown: mapping.Shown = {}

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            self.coatcheck.load()
            self._values, self._shown = mapping.read(self.coatcheck.core)
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._read()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def apply(self) -> None:
        """Makes the changes of the dict those of the session."""
        if self._values is not None:
            mapping.write(self.coatcheck.core, self._values, self._shown)

    def sign_in(self, login: Login) -> None:
        """See Session.sign_in."""
        self._read()
        self.apply()
        self.coatcheck.sign_in(login)
        self._values = None

    def sign_out(self) -> None:
        """See Session.sign_out."""
        self._values, self._shown = None, {}
        self.coatcheck.sign_out()

    def user_data(self) -> Session | UserData:
        """See Session.user_data. It is for counters and maps, and for values: see README.md."""
        self._read()
        self.apply()
        return self.coatcheck.user_data()

    def renew(self) -> None:
        """See Session.renew."""
        self._read()
        self.apply()
        self.coatcheck.renew()

    def discard(self) -> None:
        """Drops the changes that are not committed."""
        self._values, self._shown = None, {}
        self.coatcheck.discard()


class Sessions(SessionInterface):
    """The session interface of an application. It also answers errors of this package."""

    def __init__(self, app: flask.Flask, manager: Manager) -> None:
        self.manager = manager
        app.session_interface = self
        app.before_request_funcs.setdefault(None, []).insert(0, self._check)
        app.register_error_handler(SessionError, self._answer)
        got_request_exception.connect(self._failed, app)

    def open_session(self, app: flask.Flask, request: flask.Request) -> FlaskSession:
        return FlaskSession(self.manager.session(request_of(request.environ)))

    def save_session(self, app: flask.Flask, session: Any, response: flask.Response) -> None:
        """Commits before the response leaves. An error of the commit replaces the response."""
        core = session.coatcheck.core
        try:
            session.apply()
            session.coatcheck.run(core.before_header())
        except Exception as err:
            if not (core.reported and response.status_code >= 400):
                core.discard()
                core.config.logger.error("request failed: %s: %s", type(err).__name__, err)
                response.response, response.direct_passthrough = [], False
                response.set_data(http.error_body(err))
                response.status_code = getattr(err, "status", 500)
                for name in http.BODY_HEADERS:
                    response.headers.remove(name)
                response.headers.extend(http.error_headers(err))
        more = core.additions()
        if more is not None:
            for name in more.drops:
                response.headers.remove(name)
            for name, value in more.to(response.headers):
                response.headers.add(name, value)
        if response.is_streamed or core.touch_due():
            response.call_on_close(lambda: self._touch(session.coatcheck))

    @staticmethod
    def _touch(session: Session) -> None:
        if session.core.touch_due():
            session.run(session.core.touch())

    @staticmethod
    def _check() -> None:
        session = flask.session.coatcheck  # type: ignore[attr-defined]
        core = session.core
        if core.cred.in_cookie:
            http.check_origin(core.request, core.config.trusted_origins)
            environ = flask.request.environ
            if core.config.csrf and session.run(core.needs_csrf(path_of(environ))):
                core.check_csrf(csrf_token_of(environ))

    @staticmethod
    def _answer(err: SessionError) -> flask.Response:
        flask.session.discard()  # type: ignore[attr-defined]
        response = flask.Response(http.error_body(err), getattr(err, "status", 500))
        for name, value in http.error_headers(err):
            response.headers[name] = value
        return response

    @staticmethod
    def _failed(sender: Any, **extra: Any) -> None:
        flask.session.discard()  # type: ignore[attr-defined]
