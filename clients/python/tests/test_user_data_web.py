"""The data of a user through the WSGI and ASGI middleware: what a response commits, and when."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENT
from shop import FIELDS, cart, theme
from starlette.responses import PlainTextResponse, StreamingResponse
from steps import settle
from test_web import Browser, client, starlette_app, wsgi_app

import coatcheck
from coatcheck import AsyncManager, Config, Login, Manager, Value

last = Value("last")


async def handle(s, path):
    """The application, with threads or asyncio. Returns the body."""
    _, what, *args = path.split("/")
    if what == "in":
        await settle(s.sign_in(Login("ada")))
    elif what == "out":
        await settle(s.sign_out())
    else:
        data = await settle(s.user_data())
        cart.add(data, args[0])
        last.set(s, args[0])
        if what == "fail":
            raise RuntimeError("no")
        if what == "bad":
            theme.set(s if args[1] == "session" else data, "\ud800")
        if what == "stream":
            return data
    return " ".join(f"{k}={n}" for k, n in cart.all(await settle(s.user_data())).items()) or "empty"


class Wsgi:
    kind = Manager

    def __init__(self, manager, loop):
        self.manager = manager

    def run(self, awaitable):
        return awaitable

    def browser(self):
        def handler(s, path):
            try:
                handle(s, path).send(None)
            except StopIteration as stop:
                body = stop.value
            return body if isinstance(body, str) else self.streamed(body)

        browser = Browser(wsgi_app(self.manager, handler))

        def get(path):
            try:
                return browser.request("/" + path)[:2]
            except RuntimeError:
                return 500, ""

        return get

    @staticmethod
    def streamed(data):
        for fruit in ("a", "b"):
            yield fruit.encode()
            cart.add(data, fruit)


class Asgi:
    kind = AsyncManager

    def __init__(self, manager, loop):
        self.manager, self.loop = manager, loop

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def browser(self):
        async def handler(s, request):
            body = await handle(s, request.url.path[2:])
            return PlainTextResponse(body) if isinstance(body, str) else StreamingResponse(self.streamed(body))

        app = starlette_app(self.manager, **{"x/{path:path}": handler})
        browser = client(app)

        def get(path):
            try:
                r = self.run(browser.post("/x/" + path))
            except RuntimeError:
                return 500, ""
            return r.status_code, r.text

        return get

    @staticmethod
    async def streamed(data):
        for fruit in ("a", "b"):
            yield fruit.encode()
            cart.add(data, fruit)


@pytest.fixture(params=[Wsgi, Asgi])
def site(request, url, namespace):
    loop = asyncio.new_event_loop()
    manager = request.param.kind.open(url, Config(namespace=namespace, user_fields=FIELDS, commit_timeout=60), **PATIENT)
    found = request.param(manager, loop)
    yield found
    found.run(manager.close())
    loop.close()


def test_two_devices_share_a_cart_and_an_anonymous_cart_joins(site):
    phone, laptop = site.browser(), site.browser()
    assert phone("add/apple") == (200, "apple=1")
    assert phone("in") == (200, "apple=1")
    assert laptop("add/apple") == (200, "apple=1") and laptop("add/pear") == (200, "apple=1 pear=1")
    assert laptop("in") == (200, "apple=2 pear=1")
    assert phone("add/pear") == (200, "apple=2 pear=2")
    assert laptop("out") == (200, "empty") and laptop("in") == (200, "apple=2 pear=2")


def test_a_handler_that_fails_changes_nothing(site):
    phone = site.browser()
    phone("in")
    phone("add/apple")
    assert phone("fail/apple")[0] == 500
    assert phone("bad/apple/session")[0] == 500 and phone("bad/apple/data")[0] == 500
    assert phone("add/pear") == (200, "apple=1 pear=1")


def test_a_stream_commits_before_its_first_byte_and_at_its_end(site):
    phone = site.browser()
    phone("in")
    assert phone("stream/apple") == (200, "ab")
    assert phone("add/apple") == (200, "a=1 apple=2 b=1")


def test_a_session_that_was_revoked_during_the_request_gets_409(site, monkeypatch):
    phone = site.browser()
    phone("in")
    phone("add/apple")
    before_header = coatcheck.core.Core.before_header

    def revoked(core, *args):
        yield from site.manager._revoke_user("ada", ())
        return (yield from before_header(core, *args))

    with monkeypatch.context() as patch:
        patch.setattr(coatcheck.core.Core, "before_header", revoked)
        assert phone("add/apple")[0] == 409
    phone("in")
    assert phone("add/pear") == (200, "apple=1 pear=1")
