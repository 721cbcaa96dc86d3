"""ASGI middleware, for HTTP and for the handshake of WebSockets.

    app = coatcheck.asgi.Middleware(app, manager)

    async def app(scope, receive, send):
        session = await coatcheck.asgi.load(scope)

With Starlette and FastAPI: `session = await coatcheck.asgi.load(request.scope)`.

What the application changes is committed before the first byte of the response leaves. A commit
that has begun goes on if the client hangs up.
"""

from __future__ import annotations

import sys
from typing import Any, Awaitable, Callable, MutableMapping

from . import csrf, http
from .errors import HeaderSent, SessionError
from .manager import AsyncManager
from .session import AsyncSession

KEY = "coatcheck.session"
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def session(scope: Scope) -> AsyncSession:
    """Returns the session of a request, which may not be read yet."""
    found = scope.get(KEY)
    if not isinstance(found, AsyncSession):
        raise SessionError("no session in this request: wrap the application in asgi.Middleware")
    return found


async def load(scope: Scope) -> AsyncSession:
    """Returns the session of a request, and reads it. Raises Unavailable, Ambiguous or Sealed."""
    return await session(scope).load()


def request_of(scope: Scope) -> http.Request:
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers", ()):
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def joined(name: str) -> str:  # as a WSGI server does
        return ",".join(headers.get(name, ()))

    return http.Request(
        method=scope.get("method", "GET"),
        cookies=headers.get("cookie", []),
        authorization=headers.get("authorization", []),
        fetch_site=joined("sec-fetch-site"),
        origin=joined("origin"),
        host=joined("host"),
        websocket=scope["type"] == "websocket",
    )


async def csrf_token_of(scope: Scope, receive: Receive) -> tuple[str, Receive]:
    """Returns the CSRF token in the header of a request or in the beginning of its form.

    Also returns what receives the body from the beginning.
    """
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    token, kind = headers.get("x-csrf-token", ""), headers.get("content-type", "")
    if token or not csrf.is_form(kind):
        return token, receive
    messages: list[Message] = []
    begin, more = b"", True
    while more and len(begin) < csrf.MAX_PEEK:
        messages.append(await receive())
        begin += messages[-1].get("body", b"")
        more = messages[-1].get("more_body", False)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return csrf.find_token(kind, begin[: csrf.MAX_PEEK]), again


def _encoded(headers: http.Headers) -> list[tuple[bytes, bytes]]:
    return [(k.encode("latin-1").lower(), v.encode("latin-1")) for k, v in headers]


def _decoded(headers: Any) -> http.Headers:
    return [(k.decode("latin-1"), v.decode("latin-1")) for k, v in headers or ()]


class Middleware:
    """Gives each request its session, in the key "coatcheck.session" of the scope."""

    def __init__(self, app: App, manager: AsyncManager) -> None:
        self.app, self.manager = app, manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its response."""

    def __init__(self, m: Middleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.middleware, self.receive, self.send = m, receive, send
        self.websocket = scope["type"] == "websocket"
        self.session = m.manager.session(request_of(scope))
        self.scope = {**scope, KEY: self.session}
        self.began = False  # the header has left, or that of an error instead
        self.error: Exception | None = None
        self.start: Message | None = None

    async def run(self) -> None:
        core = self.session.core
        if core.cred.in_cookie:
            try:
                http.check_origin(core.request, core.config.trusted_origins)
                if core.config.csrf and await self.session.run(core.needs_csrf(self.scope.get("path", ""))):
                    token, self.receive = await csrf_token_of(self.scope, self.receive)
                    core.check_csrf(token)
            except SessionError as err:
                await self._fail(err)
                return
        try:
            await self.middleware.app(self.scope, self.receive, self._send)
        except SessionError as err:
            core.discard()
            if self.error is None:
                if self.began:
                    raise
                await self._fail(err)
        except BaseException:
            core.discard()  # a handler that fails changes nothing
            raise
        await self._finish()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            # Starlette sends the header before it asks for the body.
            await self._begin(message)
        elif message["type"] == "websocket.accept":
            await self._accept(message)
        elif self.error is None:
            await self.send(message)

    async def _begin(self, message: Message) -> None:
        core = self.session.core
        cause = sys.exc_info()[1]
        if message["status"] >= 400 and cause is not None:
            # An error handler, such as Starlette's, answers for a handler that has failed.
            core.discard()
            if message["status"] == 500 and isinstance(cause, SessionError):
                await self._fail(cause)
                return
        try:
            await self.session.run(core.before_header())
        except Exception as err:
            # An application that knows of the error may answer itself.
            if not (core.reported and message["status"] >= 400):
                await self._fail(err)
                return
        headers = core.headers(_decoded(message.get("headers")))
        self.began = True
        await self.send({**message, "headers": _encoded(headers)})

    async def _accept(self, message: Message) -> None:
        """Commits before the handshake. It cannot carry a new session: browsers may ignore it."""
        core = self.session.core
        try:
            if core.cookie == "set" or core.state == "anonymous" and core.view.ops:
                raise HeaderSent("a WebSocket's handshake carries no cookie: store the session before")
            await self.session.run(core.before_header(can_set_cookie=False))
        except Exception as err:
            await self._fail(err)
            return
        self.began = True
        await self.send(message)

    async def _fail(self, err: Exception) -> None:
        core = self.session.core
        core.discard()
        core.sent = self.began = True
        self.error = err
        log, status = core.config.logger, getattr(err, "status", 500)
        (log.error if status >= 500 else log.info)("request failed: %s: %s", type(err).__name__, err)
        if self.websocket:
            await self.send({"type": "websocket.close", "code": 1011 if status >= 500 else 1008})
            return
        given = _decoded(self.start.get("headers")) if self.start else []
        kept = [(k, v) for k, v in given if k.lower() not in http.BODY_HEADERS]
        headers = core.headers(kept + http.error_headers(err))
        start = {"type": "http.response.start", "status": status, "headers": _encoded(headers)}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": http.error_body(err)})

    async def _finish(self) -> None:
        """Runs after the response: commits what a stream has changed, and records the use."""
        core = self.session.core
        if core.has_changes() or core.touch_due():
            await self.session.run(core.after_response(failed=self.error is not None))
