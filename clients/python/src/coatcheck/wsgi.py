"""WSGI middleware.

    app = coatcheck.wsgi.Middleware(app, manager)

    def app(environ, start_response):
        session = coatcheck.wsgi.load(environ)

What the application changes is committed before the first byte of the response leaves. If the
commit fails, the client gets the error instead of the response.
"""

from __future__ import annotations

import io
import sys
from typing import Any, Callable, Iterable, Iterator

from . import csrf, http
from .errors import SessionError
from .manager import Manager
from .session import Session

KEY = "coatcheck.session"
_STATUS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    409: "Conflict", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


def session(environ: dict[str, Any]) -> Session:
    """Returns the session of a request, which may not be read yet."""
    found = environ.get(KEY)
    if not isinstance(found, Session):
        raise SessionError("no session in this request: wrap the application in wsgi.Middleware")
    return found


def load(environ: dict[str, Any]) -> Session:
    """Returns the session of a request, and reads it. Raises Unavailable, Ambiguous or Sealed."""
    return session(environ).load()


def request_of(environ: dict[str, Any]) -> http.Request:
    cookie, authorization = environ.get("HTTP_COOKIE"), environ.get("HTTP_AUTHORIZATION")
    return http.Request(
        method=environ["REQUEST_METHOD"],
        cookies=[cookie] if cookie else [],
        authorization=[authorization] if authorization else [],
        fetch_site=environ.get("HTTP_SEC_FETCH_SITE", ""),
        origin=environ.get("HTTP_ORIGIN", ""),
        host=environ.get("HTTP_HOST") or environ.get("SERVER_NAME", ""),
        websocket=environ.get("HTTP_UPGRADE", "").lower() == "websocket",
    )


def path_of(environ: dict[str, Any]) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace")


def csrf_token_of(environ: dict[str, Any]) -> str:
    """Returns the CSRF token in the header of a request or in the beginning of its form.

    The application reads the body from the beginning.
    """
    token: str = environ.get("HTTP_X_CSRF_TOKEN", "")
    kind = environ.get("CONTENT_TYPE", "")
    if token or not csrf.is_form(kind):
        return token
    try:
        left = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        left = 0
    if environ.get("wsgi.input_terminated"):  # the server knows where the body ends
        left = sys.maxsize
    source, begin = environ["wsgi.input"], b""
    while len(begin) < min(left, csrf.MAX_PEEK):
        chunk = source.read(min(left, csrf.MAX_PEEK) - len(begin))
        if not chunk:
            break
        begin += chunk
    environ["wsgi.input"] = io.BufferedReader(_Replayed(begin, source, left - len(begin)))
    return csrf.find_token(kind, begin)


class _Replayed(io.RawIOBase):
    """A body whose beginning was read. It reads no more than is left of it."""

    def __init__(self, begin: bytes, source: Any, left: int) -> None:
        self._begin, self._source, self._left = begin, source, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._begin = self._begin[: len(buffer)], self._begin[len(buffer) :]
        if not data and self._left > 0:
            data = self._source.read(min(len(buffer), self._left))
            self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def status_line(error: Exception) -> str:
    status = getattr(error, "status", 500)
    return f"{status} {_STATUS.get(status, 'Error')}"


class Middleware:
    """Gives each request its session, in the key "coatcheck.session" of environ."""

    def __init__(self, app: Callable[..., Iterable[bytes]], manager: Manager) -> None:
        self.app, self.manager = app, manager

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return _Exchange(self, environ, start_response).begin()


class _Exchange:
    """One request and its response."""

    def __init__(self, m: Middleware, environ: dict[str, Any], start: Callable[..., Any]) -> None:
        self.middleware, self.environ, self.start = m, environ, start
        self.session = m.manager.session(request_of(environ))
        environ[KEY] = self.session
        self.head: tuple[str, http.Headers, Any] | None = None
        self.write: Callable[[bytes], Any] | None = None  # set once the header has left
        self.error: Exception | None = None

    def begin(self) -> Iterable[bytes]:
        core = self.session.core
        if core.cred.in_cookie:
            try:
                http.check_origin(core.request, core.config.trusted_origins)
                if core.config.csrf and self.session.run(core.needs_csrf(path_of(self.environ))):
                    core.check_csrf(csrf_token_of(self.environ))
            except SessionError as err:
                return self._failed(err)
        try:
            body = self.middleware.app(self.environ, self._start_response)
        except SessionError as err:
            if self.write is not None:
                self.session.discard()
                raise
            return self._failed(err)
        except BaseException:
            self.session.discard()  # a handler that fails changes nothing
            raise
        return _Body(self, body)

    def _start_response(self, status: str, headers: http.Headers, exc_info: Any = None) -> Any:
        if exc_info is not None:
            self.session.discard()
            if self.write is not None:
                return self.start(status, headers, exc_info)
        self.head = (status, list(headers), exc_info)
        return self.send

    def send(self, data: bytes) -> None:
        """The `write` of start_response. The header leaves with the first byte."""
        if self.error is None and self.write is None:
            self.send_header()
        if self.error is None and self.write is not None:
            self.write(data)

    def send_header(self) -> None:
        """Commits, and sends the header: that of an error if the commit failed."""
        if self.head is None:
            raise AssertionError("the application did not call start_response")
        status, headers, exc_info = self.head
        core = self.session.core
        try:
            self.session.run(core.before_header())
        except Exception as err:
            # An application that knows of the error may answer itself.
            if not (core.reported and int(status[:3]) >= 400):
                self._fail(err, exc_info)
                return
        self.write = self.start(status, core.headers(headers), exc_info)

    def _fail(self, err: Exception, exc_info: Any = None) -> None:
        core = self.session.core
        core.discard()
        core.sent = True
        log = core.config.logger
        status = getattr(err, "status", 500)
        (log.error if status >= 500 else log.info)("request failed: %s: %s", type(err).__name__, err)
        kept = [(k, v) for k, v in (self.head[1] if self.head else []) if k.lower() not in http.BODY_HEADERS]
        headers = core.headers(kept + http.error_headers(err))
        self.error = err
        self.write = self.start(status_line(err), headers, exc_info)

    def _failed(self, err: Exception) -> Iterable[bytes]:
        self.session.discard()
        self._fail(err)
        return [http.error_body(err)]

    def close(self) -> None:
        """Runs after the response: commits what a stream has changed, and records the use."""
        self.session.run(self.session.core.after_response(failed=self.error is not None))


class _Body:
    """The body of a response. The header leaves before its first chunk that is not empty."""

    def __init__(self, exchange: _Exchange, body: Iterable[bytes]) -> None:
        self.exchange, self.body = exchange, body
        self.chunks: Iterator[bytes] | None = None
        self.done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        x = self.exchange
        if self.done:
            raise StopIteration
        try:
            if self.chunks is None:
                self.chunks = iter(self.body)
            while True:
                chunk = next(self.chunks, None)
                if x.error is None and x.write is None and (chunk or chunk is None):
                    x.send_header()
                if x.error is not None:
                    self.done = True
                    return http.error_body(x.error)
                if chunk is None:
                    self.done = True
                    raise StopIteration
                if chunk:
                    return chunk
        except StopIteration:
            raise
        except BaseException:
            x.session.discard()
            raise

    def close(self) -> None:
        try:
            close = getattr(self.body, "close", None)
            if close:
                close()
        finally:
            self.exchange.close()
