"""Config.csrf: the middleware checks CSRF tokens as that of the Go library does."""

from __future__ import annotations

import asyncio
import email
import io

import flask
import pytest
from patience import PATIENT

import coatcheck
from coatcheck import Config, CrossOrigin, Value, http
from coatcheck import asgi as casgi
from coatcheck import flask as cflask
from coatcheck import wsgi as cwsgi
from coatcheck.csrf import find_token

v = Value("v")
ANON = "__Host-session-anon"
URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=xyz"


def config(namespace):
    return Config(namespace=namespace, csrf=True, csrf_exempt=("POST /webhook", "/hooks/"))


def part(name, value, more=""):
    return f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


@pytest.mark.parametrize("kind, body, want", [
    (URLENCODED, b"csrf_token=abc&a=1", "abc"), (URLENCODED, b"a=1&csrf%5Ftoken=a%2Bc", "a+c"),
    (URLENCODED, b"a=1;csrf_token=abc", ""), (URLENCODED, b"xcsrf_token=abc", ""), (URLENCODED, b"", ""),
    (URLENCODED.upper() + "; charset=utf-8", b"csrf_token=abc", "abc"),
    (MULTIPART, (part("csrf_token", "abc") + part("a", "1") + "--xyz--\r\n").encode(), "abc"),
    (MULTIPART, (part("a", "1") + part("csrf_token", "abc") + "--xyz--\r\n").encode(), "abc"),
    (MULTIPART, part("csrf_token", "abc").encode(), ""),  # cut off
    (MULTIPART, (part("csrf_token", "abc", '; filename="f"') + "--xyz--\r\n").encode(), ""),
    ("multipart/form-data", b"--\r\n", ""), (MULTIPART, b"\xff\x00--xyz--xyz\r\n\r\n--xyz", ""),
])
def test_the_token_of_a_form_is_found(kind, body, want):
    assert find_token(kind, body) == want


@pytest.mark.parametrize("method, path, want", [
    ("POST", "/webhook", True), ("PUT", "/webhook", False), ("POST", "/webhook/", False), ("PUT", "/hooks/a/b", True),
    ("PUT", "/hooks", False), ("POST", "/hooks/../buy", False), ("POST", "/hooks/./a", False), ("POST", "//hooks/a", False),
])
def test_exempt_routes(method, path, want):
    assert http.is_exempt(method, path, ("POST /webhook", "/hooks/")) is want


@pytest.mark.parametrize("bad", ["webhook", "post /a", "POST  /a", "/a b", ""])
def test_a_pattern_of_another_form_is_refused(bad):
    with pytest.raises(ValueError, match="csrf_exempt"):
        Config(csrf_exempt=(bad,)).checked()


# What http.CrossOriginProtection of Go says of these.
@pytest.mark.parametrize("origin, passes", [
    ("https://shop.test", True), ("http://shop.test", True), ("//shop.test", True), ("", True), ("https://shop.test/x", True),
    ("https://evil.test", False), ("null", False), ("https://SHOP.test", False), ("https://shop.test:443", False),
    ("https://shop.test:8443", False), ("https://shop.test@evil.test", False), ("shop.test", False), ("file://", False),
    ("https://shop.test.evil.test", False), ("http://[bad", False), ("https://shop.test\\@evil.test", False),
    ("https://evil.test#@shop.test", False), ("https:////shop.test", False), ("https://shop\t.test", False),
    ("\x01https://shop.test", False), ("https://shop.test\x7f", False), ("1://shop.test", False), ("://shop.test", False),
    ("https://shop.test,https://evil.test", False), ("https://sh%6Fp.test", False),
])
def test_an_origin_passes_as_with_the_go_library(origin, passes):
    request = http.Request("POST", origin=origin, host="shop.test")
    if passes:
        http.check_origin(request, ())
    else:
        with pytest.raises(CrossOrigin):
            http.check_origin(request, ())


@pytest.mark.parametrize("fetch_site, origin", [
    ("same-origin,cross-site", ""), ("cross-site,same-origin", ""), ("same-origin, same-origin", ""), ("none,", ""),
    ("same-origin", "https://shop.test,https://evil.test"), ("", "https://evil.test,https://shop.test"),
    ("", "https://shop.test,https://shop.test"), ("", "https://evil.test,https://x.b.test"),
    ("cross-site,same-origin", "https://a.test"), ("cross-site", "https://evil.test, https://x.b.test"),
])
def test_repeated_lines_are_refused(fetch_site, origin):
    request = http.Request("POST", fetch_site=fetch_site, origin=origin, host="shop.test")
    with pytest.raises(CrossOrigin):
        http.check_origin(request, ("https://a.test", "https://*.b.test"))
    http.check_origin(http.Request("GET", fetch_site=fetch_site, origin=origin, host="shop.test"), ())


@pytest.mark.parametrize("name, lines", [
    ("sec-fetch-site", ["same-origin", "cross-site"]), ("origin", ["https://shop.test", "https://evil.test"]),
    ("origin", ["https://shop.test", ""]),
])
def test_a_server_hands_repeated_lines_over_and_they_are_refused(name, lines):
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Handler(WSGIRequestHandler):
        def __init__(self):
            self.server = type("S", (WSGIServer,), {"__init__": lambda self: None, "base_environ": {}})()
            self.client_address, self.path, self.command, self.request_version = ("", 0), "/", "POST", "HTTP/1.1"
            self.headers = email.message_from_string("".join(f"{name}: {v}\n" for v in lines) + "Host: shop.test\n\n")

        def address_string(self):
            return ""

    headers = [(b"host", b"shop.test"), *((name.encode(), v.encode()) for v in lines)]
    scope = {"type": "http", "method": "POST", "headers": headers}
    for request in (cwsgi.request_of(Handler().get_environ()), casgi.request_of(scope)):
        assert request.host == "shop.test"
        with pytest.raises(CrossOrigin):
            http.check_origin(request, ())


@pytest.mark.parametrize("origin, host", [("http://[bad", "shop.test"), ("null", ""), ("https://evil.test", "shop.test"),
                                          ("https://shop.test.evil.test", "shop.test"), ("https://", "")])
def test_an_origin_of_another_site_is_refused(origin, host):
    with pytest.raises(CrossOrigin):
        http.check_origin(http.Request("POST", origin=origin, host=host), ())


def test_trusted_origins_may_have_the_wildcard_of_django():
    trusted = ("https://a.test", "https://*.b.test")
    for origin in ("https://a.test", "https://x.b.test", "https://y.x.b.test"):
        http.check_origin(http.Request("POST", origin=origin, host="shop.test", fetch_site="cross-site"), trusted)
    for origin in ("https://b.test", "http://x.b.test", "https://xb.test", "https://x.a.test"):
        with pytest.raises(CrossOrigin):
            http.check_origin(http.Request("POST", origin=origin, host="shop.test"), trusted)


class Wsgi:
    """An application under the WSGI middleware."""

    def __init__(self, url, namespace):
        self.manager = coatcheck.Manager.open(url, config(namespace), **PATIENT)
        self.app = cwsgi.Middleware(self.answer, self.manager)

    def answer(self, environ, start_response):
        body = environ["wsgi.input"].read()
        if environ["REQUEST_METHOD"] == "POST":
            v.set(cwsgi.load(environ), len(body))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    def token(self):
        s = self.manager.session(coatcheck.Request("POST")).load()
        text = s.csrf_token()
        return f"{ANON}={s.core.token.text(self.manager.ring)}", text

    def call(self, method, path, cookie="", kind="", body=b"", header=""):
        found = {}
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "shop.test", "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": kind, "HTTP_COOKIE": cookie, "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "https", "SERVER_NAME": "shop.test", "SERVER_PORT": "443",
        }
        if header:
            environ["HTTP_X_CSRF_TOKEN"] = header
        elif "form" in kind and cookie:  # the middleware must not read on
            environ["wsgi.input"] = io.BytesIO(body + b"next request")

        def start_response(status, headers, exc_info=None):
            found["status"] = int(status[:3])
            return lambda data: None

        reply = b"".join(self.app(environ, start_response))
        return found["status"], reply


class Flask(Wsgi):
    """The same with Flask."""

    def __init__(self, url, namespace):
        self.manager = coatcheck.Manager.open(url, config(namespace), **PATIENT)
        self.app = flask.Flask(__name__)
        cflask.Sessions(self.app, self.manager)

        @self.app.route("/<path:path>", methods=["GET", "POST"])
        def answer(path):
            if flask.request.method == "POST":
                v.set(flask.session.coatcheck.load(), 1)
            return flask.request.get_data()


class Asgi:
    """An application under the ASGI middleware."""

    def __init__(self, url, namespace):
        self.url, self.config = url, config(namespace)
        self.sync = coatcheck.Manager.open(url, self.config, **PATIENT)

    def token(self):
        s = self.sync.session(coatcheck.Request("POST")).load()
        text = s.csrf_token()
        return f"{ANON}={s.core.token.text(self.sync.ring)}", text

    async def answer(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] == "POST":
            v.set(await casgi.load(scope), len(body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def call(self, method, path, cookie="", kind="", body=b"", header=""):
        pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]
        messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
        messages[-1]["more_body"] = False
        headers = [(b"host", b"shop.test"), (b"cookie", cookie.encode()), (b"content-type", kind.encode())]
        if header:
            headers.append((b"x-csrf-token", header.encode()))
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        async def test():
            manager = coatcheck.AsyncManager.open(self.url, self.config, **PATIENT)
            scope = {"type": "http", "method": method, "path": path, "headers": headers}
            await casgi.Middleware(self.answer, manager)(scope, receive, send)
            await manager.close()

        asyncio.run(test())
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture(params=[Wsgi, Flask, Asgi])
def site(request, url, namespace):
    return request.param(url, namespace)


def test_an_unsafe_request_of_a_session_needs_a_token_of_it(site):
    cookie, token = site.token()
    _, stranger = site.token()
    form = f"csrf_token={token}&a=1".encode()
    assert site.call("POST", "/buy", cookie, URLENCODED, form)[0] == 200
    assert site.call("POST", "/buy", cookie, header=token)[0] == 200
    assert site.call("POST", "/buy", cookie, MULTIPART, (part("csrf_token", token) + "--xyz--\r\n").encode())[0] == 200
    for kind, body, header in (
        ("", b"", ""), (URLENCODED, b"a=1", ""), (URLENCODED, form, stranger), ("text/plain", form, ""),
        (URLENCODED, b"csrf_token=" + stranger.encode(), ""), ("", b"", "x" * 48),
        (URLENCODED, b"a=" + b"x" * (64 << 10) + b"&" + form, ""),
    ):
        assert site.call("POST", "/buy", cookie, kind, body, header)[0] == 403, (kind, body[:50], header)
    assert site.call("GET", "/buy", cookie)[0] == 200
    assert site.call("POST", "/webhook", cookie)[0] == 200 and site.call("POST", "/hooks/a", cookie)[0] == 200
    assert site.call("POST", "/webhook/a", cookie)[0] == 403
    assert site.call("POST", "/buy")[0] == 200, "without a cookie there is nothing to protect"
    gone = f"{ANON}={coatcheck.tokens.Token.new().text(coatcheck.tokens.KeyRing())}"
    assert site.call("POST", "/buy", gone)[0] == 200, "a stranger could leave this cookie out"


def test_the_application_reads_the_whole_body(site):
    cookie, token = site.token()
    body = f"csrf_token={token}&a=".encode() + b"x" * 200_000
    status, found = site.call("POST", "/buy", cookie, URLENCODED, body)
    assert status == 200 and found == body
