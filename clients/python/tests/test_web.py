"""WSGI and ASGI middleware: the guarantees of the Go middleware."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import httpx
import pytest
from patience import PATIENT
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import coatcheck
from coatcheck import AsyncManager, Config, Counter, Login, Manager, Value
from coatcheck import asgi as casgi
from coatcheck import wsgi as cwsgi

theme, visits = Value("theme", str), Counter("visits")
COOKIE, ANON = "__Host-session", "__Host-session-anon"


class Browser:
    """Keeps cookies, and calls a WSGI application as a server does."""

    def __init__(self, app):
        self.app, self.cookies, self.sent_at = app, {}, []

    def request(self, path="/", method="POST", **headers):
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "shop.test",
            "HTTP_COOKIE": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
            **{f"HTTP_{k.upper()}": v for k, v in headers.items()},
        }  # fmt: skip
        answer = {}

        def start_response(status, headers, exc_info=None):
            answer.update(status=int(status[:3]), headers=headers)
            return lambda data: None

        body = self.app(environ, start_response)
        try:
            text = b"".join(body).decode()
        finally:
            getattr(body, "close", lambda: None)()
        for name, value in answer["headers"]:
            if name.lower() == "set-cookie":
                pair = value.partition(";")[0].partition("=")
                self.cookies[pair[0]] = pair[2]
                if not pair[2]:
                    del self.cookies[pair[0]]
        return answer["status"], text, answer["headers"]


def header(headers, name):
    return [v for k, v in headers if k.lower() == name.lower()]


def wsgi_app(manager, handler):
    def app(environ, start_response):
        s = cwsgi.load(environ)
        body = handler(s, environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("ETag", '"x"')])
        return body if not isinstance(body, str) else [body.encode()]

    return cwsgi.Middleware(app, manager)


def stored(manager, **cookies):
    request = coatcheck.Request(cookies=[f"{k}={v}" for k, v in cookies.items()])
    return manager.session(request).load()


def test_wsgi_commits_before_the_header_and_sets_a_secure_cookie(manager):
    def handler(s, path):
        visits.add(s)
        return str(visits.get(s))

    b = Browser(wsgi_app(manager, handler))
    status, text, headers = b.request()
    assert (status, text) == (200, "1")
    (cookie,) = header(headers, "Set-Cookie")
    assert cookie.startswith(f"{ANON}=AQ") or cookie.startswith(f"{ANON}=A")
    assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert header(headers, "Cache-Control") == ["no-store"] and header(headers, "Vary") == ["Cookie"]
    assert b.request()[:2] == (200, "2")
    status, _, headers = b.request()
    assert header(headers, "Cache-Control") == ["private, no-cache"]
    assert not header(headers, "Set-Cookie")


def test_wsgi_reading_stores_nothing(manager):
    b = Browser(wsgi_app(manager, lambda s, path: str(theme.get(s))))
    assert b.request()[:2] == (200, "None") and not b.cookies


def test_wsgi_an_exception_discards_the_changes(manager):
    def handler(s, path):
        visits.add(s)
        if path == "/fail":
            raise RuntimeError("no")
        return str(visits.get(s))

    b = Browser(wsgi_app(manager, handler))
    b.request()
    with pytest.raises(RuntimeError):
        b.request("/fail")
    assert b.request()[1] == "2"


def test_wsgi_an_application_that_answers_its_exception_changes_nothing(manager):
    def app(environ, start_response):
        s = cwsgi.load(environ)
        visits.add(s)
        try:
            if environ["PATH_INFO"] == "/fail":
                raise RuntimeError("no")
            start_response("200 OK", [])
        except RuntimeError:
            start_response("500 Oops", [], sys.exc_info())
        return [str(visits.get(s)).encode()]

    b = Browser(cwsgi.Middleware(app, manager))
    b.request()
    assert b.request("/fail")[0] == 500
    assert b.request()[1] == "2"


def test_wsgi_a_failed_commit_replaces_the_response(manager):
    def handler(s, path):
        theme.set(s, "\ud800" if path == "/bad" else "dark")
        return "saved"

    b = Browser(wsgi_app(manager, handler))
    b.request()
    status, text, headers = b.request("/bad")
    assert status == 500 and "saved" not in text and not header(headers, "ETag")
    assert theme.get(stored(manager, **b.cookies)) == "dark"


def test_wsgi_a_stream_commits_before_its_first_byte_and_after_its_last(manager):
    seen = []

    def handler(s, path):
        visits.add(s)

        def stream():
            yield b""
            yield b"first"
            seen.append(visits.get(stored(manager, **cookies(s))))
            visits.add(s)
            yield b"second"

        return stream()

    def cookies(s):
        return {COOKIE: s.core.token.text(manager.ring)}

    b = Browser(wsgi_app(manager, handler))
    assert b.request()[1] == "firstsecond"
    assert seen == [1]
    assert visits.get(stored(manager, **b.cookies)) == 2


def test_wsgi_a_client_that_hangs_up_loses_nothing(manager):
    b = Browser(wsgi_app(manager, lambda s, path: (visits.add(s), "x")[1]))
    b.request()
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "HTTP_HOST": "a", "HTTP_COOKIE": f"{ANON}={b.cookies[ANON]}"}
    body = b.app(environ, lambda *a: lambda data: None)
    next(iter(body))
    body.close()  # the server found the connection closed
    assert visits.get(stored(manager, **b.cookies)) == 2


def test_wsgi_sign_in_and_sign_out_change_the_cookies(manager):
    def handler(s, path):
        if path == "/in":
            s.sign_in(Login("ada", methods=("pwd",), device="Firefox"))
        if path == "/out":
            s.sign_out()
        if path == "/set":
            theme.set(s, "dark")
        return s.user

    b = Browser(wsgi_app(manager, handler))
    b.request("/set")
    anonymous = b.cookies[ANON]
    assert b.request("/in")[1] == "ada"
    assert set(b.cookies) == {COOKIE}
    assert Browser(b.app).request()[1] == "" and theme.get(stored(manager, **{ANON: anonymous})) is None
    assert [i.device for i in manager.sessions("ada")] == ["Firefox"]
    old = b.cookies[COOKIE]
    b.request("/out")
    assert not b.cookies and not list(manager.sessions("ada"))
    again = Browser(b.app)
    again.cookies[COOKIE] = old
    assert again.request()[1] == ""


def test_wsgi_a_request_of_another_site_is_refused(manager):
    b = Browser(wsgi_app(manager, lambda s, path: (theme.set(s, path), "ok")[1]))
    b.request("/one")
    assert b.request("/two", sec_fetch_site="cross-site")[0] == 403
    assert b.request("/two", origin="https://evil.test")[0] == 403
    assert b.request("/two", origin="https://shop.test")[0] == 200
    assert theme.get(stored(manager, **b.cookies)) == "/two"
    # A cross-site request without the cookie must not get a new one.
    assert Browser(b.app).request("/new", sec_fetch_site="cross-site")[0] == 403


def test_wsgi_a_store_that_is_down_is_a_503_and_signs_nobody_out(server, namespace):
    manager = Manager.open(server.url, Config(namespace=namespace), **PATIENT)
    out = []

    def handler(s, path):
        visits.add(s)
        if path == "/slow":
            server.stop()
        return "saved"

    b = Browser(wsgi_app(manager, handler))
    b.request()
    before = dict(b.cookies)
    status, text, headers = b.request("/slow")
    assert status == 503 and "saved" not in text and header(headers, "Retry-After") in ([], ["1"])
    status, text, headers = b.request()
    assert status == 503 and not header(headers, "Set-Cookie") and b.cookies == before
    assert header(headers, "Retry-After") == ["1"]
    assert not out

    def sign_out(environ, start_response):
        try:
            cwsgi.session(environ).sign_out()
        except coatcheck.Unavailable as err:
            start_response("503 x", [])
            return [str(err).encode()]

    b.app = cwsgi.Middleware(sign_out, manager)
    status, _, headers = b.request()
    assert status == 503 and not b.cookies, "a sign-out deletes the cookie although the store is down"
    server.start()
    assert Browser(wsgi_app(manager, handler)).request()[0] == 200, "it works again"
    manager.close()


def test_wsgi_two_cookies_of_different_sessions_are_refused(manager):
    b = Browser(wsgi_app(manager, lambda s, path: (theme.set(s, path), "ok")[1]))
    b.request("/one")
    one = b.cookies.pop(ANON)
    b.request("/two")
    two = b.cookies[ANON]
    b.cookies = {}
    status, _, headers = b.request("/x", cookie=f"{ANON}={one}; {ANON}={two}")
    assert status == 400 and len(header(headers, "Set-Cookie")) >= 2


def test_wsgi_bearer_tokens(url, namespace):
    manager = Manager.open(url, Config(namespace=namespace, bearer=True), **PATIENT)
    b = Browser(wsgi_app(manager, lambda s, path: s.bearer_token() if path == "/token" else s.user))
    token = b.request("/token")[1]
    assert not b.cookies
    status, _, headers = b.request("/", authorization=f"Bearer {token}")
    assert status == 200 and header(headers, "Vary") == ["Cookie", "Authorization"]
    manager.close()


# ASGI, with Starlette.


def starlette_app(manager, **routes):
    def endpoint(handler):
        async def serve(request):
            return await handler(await casgi.load(request.scope), request)

        return serve

    app = Starlette(routes=[Route(f"/{n}", endpoint(h), methods=["GET", "POST"]) for n, h in routes.items()])
    return casgi.Middleware(app, manager)


def client(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.test")


def with_manager(url, test, **config):
    async def main():
        manager = AsyncManager.open(url, Config(commit_timeout=60, **config), **PATIENT)
        try:
            await test(manager)
        finally:
            await manager.close()

    asyncio.run(main())


def test_asgi_commits_before_the_header(url, namespace):
    async def count(s, request):
        visits.add(s)
        return PlainTextResponse(str(visits.get(s)))

    async def test(manager):
        async with client(starlette_app(manager, count=count)) as c:
            r = await c.post("/count")
            assert r.text == "1" and r.headers["cache-control"] == "no-store"
            assert f"{ANON}=" in r.headers["set-cookie"] and "Secure" in r.headers["set-cookie"]
            answers = await asyncio.gather(*(c.post("/count") for _ in range(20)))
            assert {a.status_code for a in answers} == {200}
            assert (await c.post("/count")).text == "22"

    with_manager(url, test, namespace=namespace)


def test_asgi_an_exception_discards_and_a_failed_commit_replaces(url, namespace):
    async def fail(s, request):
        visits.add(s)
        raise RuntimeError("no")

    async def bad(s, request):
        theme.set(s, "\ud800")
        return PlainTextResponse("saved", headers={"etag": "x"})

    async def count(s, request):
        visits.add(s)
        return PlainTextResponse(str(visits.get(s)))

    async def test(manager):
        app = starlette_app(manager, fail=fail, bad=bad, count=count)
        async with client(app) as c:
            await c.post("/count")
            with pytest.raises(RuntimeError):
                await c.post("/fail")
            r = await c.post("/bad")
            assert r.status_code == 500 and "saved" not in r.text and "etag" not in r.headers
            assert (await c.post("/count")).text == "2"

    with_manager(url, test, namespace=namespace)


def test_asgi_streams_and_clients_that_hang_up(url, namespace):
    async def stream(s, request):
        visits.add(s)

        async def body():
            yield b"first"
            visits.add(s)
            yield b"second"

        return StreamingResponse(body())

    async def test(manager):
        app = starlette_app(manager, stream=stream)
        async with client(app) as c:
            assert (await c.post("/stream")).text == "firstsecond"
            token = c.cookies[ANON]
            s = await manager.session(coatcheck.Request(cookies=[f"{ANON}={token}"])).load()
            assert visits.get(s) == 2
            # The server cancels the request while it commits.
            visits.add(s, 10)
            task = asyncio.create_task(s.commit())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.gather(*manager._tasks)
            s = await manager.session(coatcheck.Request(cookies=[f"{ANON}={token}"])).load()
            assert visits.get(s) == 12

    with_manager(url, test, namespace=namespace)


def test_asgi_a_store_that_is_down_is_a_503(server, namespace):
    async def count(s, request):
        visits.add(s)
        return PlainTextResponse(str(visits.get(s)))

    async def test(manager):
        async with client(starlette_app(manager, count=count)) as c:
            await c.post("/count")
            server.stop()
            r = await c.post("/count")
            assert r.status_code == 503 and "set-cookie" not in r.headers and r.headers["retry-after"] == "1"
            server.start()
            assert (await c.post("/count")).status_code == 200

    with_manager(server.url, test, namespace=namespace)


def test_asgi_a_websocket_commits_before_the_handshake_and_refuses_other_sites(url, namespace):
    sent = []

    async def app(scope, receive, send):
        s = await casgi.load(scope)
        visits.add(s)
        await send({"type": "websocket.accept"})

    async def call(manager, cookie, origin):
        sent.clear()
        headers = [(b"host", b"shop.test"), (b"cookie", cookie.encode()), (b"origin", origin)]
        scope = {"type": "websocket", "headers": headers}

        async def send(message):
            sent.append(message["type"])

        await casgi.Middleware(app, manager)(scope, None, send)
        return list(sent)

    async def test(manager):
        s = await manager.session(coatcheck.Request()).load()
        visits.add(s)
        await s.commit()
        cookie = f"{ANON}={s.core.token.text(manager.ring)}"
        assert await call(manager, cookie, b"https://shop.test") == ["websocket.accept"]
        assert await call(manager, cookie, b"https://evil.test") == ["websocket.close"]
        assert await call(manager, "", b"https://shop.test") == ["websocket.close"]
        s = await manager.session(coatcheck.Request(cookies=[cookie])).load()
        assert visits.get(s) == 2

    with_manager(url, test, namespace=namespace)


def test_threads_and_tasks_of_one_request_share_its_session(manager, url, namespace, monkeypatch):
    """A call that talks to the store makes the others wait."""
    s = manager.session(coatcheck.Request("POST")).load()
    visits.add(s)
    s.commit()
    running, together, run = [], [], manager.wire.run

    def alone(flow):
        running.append(1)
        together.append(len(running))
        time.sleep(0)
        try:
            return run(flow)
        finally:
            running.pop()

    monkeypatch.setattr(manager.wire, "run", alone)

    def work():
        for _ in range(50):
            visits.add(s)
            s.commit()

    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert visits.get(s) == 401 and set(together) == {1}
    cookie = f"{ANON}={s.core.token.text(manager.ring)}"

    async def test(manager):
        s = await manager.session(coatcheck.Request("POST", [cookie])).load()
        run = manager.wire.run
        together.clear()

        async def alone(flow):
            running.append(1)
            together.append(len(running))
            try:
                return await run(flow)
            finally:
                running.pop()

        monkeypatch.setattr(manager.wire, "run", alone)

        async def work():
            for _ in range(20):
                visits.add(s)
                await s.commit()

        await asyncio.gather(*(work() for _ in range(8)))
        assert visits.get(s) == 561 and set(together) == {1}

    with_manager(url, test, namespace=namespace)
