"""Django: a session engine and a middleware over the fields of a session.

    SESSION_ENGINE = "coatcheck.django"
    SESSION_COOKIE_NAME = "__Host-session"
    COATCHECK = {"url": "redis://localhost", "config": coatcheck.Config()}
    MIDDLEWARE: "coatcheck.django.SessionMiddleware" instead of Django's own

auth.login is a sign-in, with a new token, and auth.logout is a sign-out. request.session.coatcheck
is the Session, for counters and maps. README.md says what the engine does not promise.
"""

from __future__ import annotations

import functools
from http.cookies import Morsel
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpResponse
from django.utils.functional import SimpleLazyObject

from . import http, mapping
from .errors import SessionError
from .login import Login
from .manager import Manager
from .session import Session, UserData
from .wsgi import request_of

_AUTH = ("_auth_user_id", "_auth_user_backend", "_auth_user_hash")


@functools.lru_cache(maxsize=1)
def manager() -> Manager:
    """Returns the Manager of settings.COATCHECK."""
    return Manager.open(settings.COATCHECK["url"], settings.COATCHECK.get("config"))


class SessionStore(SessionBase):  # type: ignore[misc]
    """request.session. Each key is a field, so changes of different keys do not conflict."""

    def __init__(self, session_key: str | None = None, session: Session | None = None) -> None:
        if session is None:  # as in Django's test client
            name = manager().config.cookie.name
            cookies = [f"{name}={session_key}"] if session_key else []
            session = manager().session(http.Request(cookies=cookies))
        self.coatcheck = session
        self._shown: mapping.Shown = {}
        self._renew = False
        self._remember: float = 0
        super().__init__(session_key)

    def _token(self) -> str | None:
        core = self.coatcheck.core
        return core.token.text(core.ring) if core.record else None

    session_key = property(_token)
    _session_key = property(_token, lambda self, value: None)

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        if "_session_cache" not in self.__dict__:
            self._session_cache: dict[str, Any] = self.load()
        return self._session_cache

    _session = property(_get_session)

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        values: dict[str, Any] = await sync_to_async(self._get_session)()
        return values

    def load(self) -> dict[str, Any]:
        self.coatcheck.load()
        values, self._shown = mapping.read(self.coatcheck.core)
        # The session says who is signed in. These keys alone sign nobody in.
        if values.get(_AUTH[0]) != self.coatcheck.user:
            for name in _AUTH:
                if values.pop(name, None) is not None:
                    del self._shown[name]
        return values

    def apply(self) -> None:
        """Makes the changes of the dict those of the session. Signs in after auth.login."""
        values = self.__dict__.get("_session_cache")
        if values is None:
            return
        mapping.write(self.coatcheck.core, values, self._shown)
        user = values.get(_AUTH[0])
        if user and user != self.coatcheck.user:
            self.coatcheck.sign_in(Login(str(user), remember=self._remember))
        elif self._renew:
            self.coatcheck.renew()
        self._renew = False

    def save(self, must_create: bool = False) -> None:
        self.coatcheck.load()
        self.apply()
        self.coatcheck.commit()

    def user_data(self) -> Session | UserData:
        """See Session.user_data. It signs in first if this request has called auth.login."""
        self._session  # noqa: B018 - reads the session
        self.apply()
        return self.coatcheck.user_data()

    def is_empty(self) -> bool:
        return not self._session

    def cycle_key(self) -> None:
        self._session  # noqa: B018 - reads the session
        self._renew = self.modified = True

    def flush(self) -> None:
        self._session_cache = {}
        self._shown, self._renew, self.modified = {}, False, True
        self.coatcheck.sign_out()

    def set_expiry(self, value: Any) -> None:
        """Makes a sign-in of this request remember the user: see Config.max_remember."""
        most = self.coatcheck.core.config.max_remember
        self._remember = min(value, most) if isinstance(value, (int, float)) else 0

    def create(self) -> None:
        self.coatcheck.load()

    def delete(self, session_key: str | None = None) -> None:
        self.coatcheck.sign_out()

    def exists(self, session_key: str) -> bool:
        return False

    @classmethod
    def clear_expired(cls) -> None:
        """Redis removes expired sessions."""


class SessionMiddleware(DjangoSessionMiddleware):  # type: ignore[misc]
    """Commits before the response leaves, and answers 503 if the store is down."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        config = settings.COATCHECK.get("config")
        if config and config.csrf and not any(m.endswith(".CsrfViewMiddleware") for m in settings.MIDDLEWARE):
            raise ImproperlyConfigured("Config.csrf: MIDDLEWARE lacks Django's CsrfViewMiddleware, which checks tokens")

    def process_request(self, request: Any) -> HttpResponse | None:
        session = manager().session(request_of(request.META))
        request.session = SessionStore(session=session)
        core = session.core
        trusted = (*core.config.trusted_origins, *getattr(settings, "CSRF_TRUSTED_ORIGINS", ()))
        if core.cred.in_cookie:
            try:
                http.check_origin(core.request, trusted)
            except SessionError as err:
                return error_response(err)
        return None

    def process_exception(self, request: Any, exception: Exception) -> HttpResponse | None:
        request.session.coatcheck.discard()
        if isinstance(exception, SessionError):
            return error_response(exception)
        return None

    def process_response(self, request: Any, response: Any) -> Any:
        store = getattr(request, "session", None)
        if not isinstance(store, SessionStore):
            return response
        session, core = store.coatcheck, store.coatcheck.core
        try:
            if response.status_code >= 500:  # as in Django: an error changes nothing
                session.discard()
                if core.read_error is not None:
                    response = _replaced(core, response, core.read_error)
            else:
                store.apply()
            session.run(core.before_header())
        except Exception as err:
            if not (core.reported and response.status_code >= 400):
                response = _replaced(core, response, err)
        more = core.additions()
        if more is not None:
            _add_headers(response, more)
        if core.touch_due():
            response._resource_closers.append(lambda: session.run(core.touch()))
        return response


def error_response(err: Exception) -> HttpResponse:
    response = HttpResponse(http.error_body(err), status=getattr(err, "status", 500))
    for name, value in http.error_headers(err):
        response[name] = value
    return response


def _replaced(core: Any, response: Any, err: Exception) -> HttpResponse:
    core.discard()
    core.config.logger.error("request failed: %s: %s", type(err).__name__, err)
    response.close()
    return error_response(err)


def _add_headers(response: Any, more: http.Additions) -> None:
    """Adds to a header. Django keeps cookies apart, and has one line of Vary."""
    for name in more.drops:
        if name in response:
            del response[name]
    for name, value in more.to(response.headers.items()):
        if name == "Set-Cookie":
            line = _SetCookie(value)
            key = line.key if line.key not in response.cookies else f"{line.key} {len(response.cookies)}"
            response.cookies[key] = line
        elif name == "Vary" and name in response:
            response[name] = f"{response[name]}, {value}"
        else:
            response[name] = value


class _SetCookie(Morsel):  # type: ignore[type-arg]
    """A line of Set-Cookie as it is: Morsel does not know Partitioned."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line
        name, _, value = line.partition(";")[0].partition("=")
        self.set(name, value, value)

    def OutputString(self, attrs: Any = None) -> str:
        return self.line


class UserMiddleware:
    """Sets request.user for users whom another service has signed in.

    Put it after AuthenticationMiddleware. settings.COATCHECK["user_field"] is the field of the user
    model that has the session's user id. Default: "pk".
    """

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        before = request.user
        request.user = SimpleLazyObject(lambda: self._user(request, before))
        return self.get_response(request)

    def _user(self, request: Any, before: Any) -> Any:
        if before.is_authenticated:
            return before
        user = request.session.coatcheck.load().user
        field = settings.COATCHECK.get("user_field", "pk")
        model = get_user_model()
        try:
            found = model._default_manager.filter(**{field: user}).first() if user else None
        except (ValueError, ValidationError):  # not the form of this field
            found = None
        return found if found and found.is_active else before


