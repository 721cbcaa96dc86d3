"""Cost of a read and of a write request beside the incumbents, in turns in one run.

Prints microseconds of CPU of the process and of redis-server for one request: the median of the
rounds, and the range. Then two races show what concurrent requests do to each.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import threading
import time
from typing import Any, Callable

import django
import flask
import redis
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

from conftest import Server

from coatcheck import Config, Manager
from coatcheck.flask import Sessions

ROUNDS, REQUESTS = int(os.environ.get("ROUNDS", "7")), int(os.environ.get("REQUESTS", "300"))
server = Server()
manager = Manager.open(server.url, Config(namespace="bench"))
middleware = "django.contrib.sessions.middleware.SessionMiddleware"
settings.configure(
    SECRET_KEY="x" * 50, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[middleware],
    INSTALLED_APPS=["django.contrib.sessions", "django.contrib.auth", "django.contrib.contenttypes"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache", LOGGING_CONFIG=None,
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": server.url}},
    COATCHECK={"url": server.url, "config": Config(namespace="bench")},
)  # fmt: skip
django.setup()

gates: dict[str, Any] = {}


def act(session: Any, what: str, key: str) -> str:
    """What each application does in a request. The session is a dict."""
    if what == "write":
        session["n"] = session.get("n", 0) + 1
    elif what == "put":
        session[key] = 1
    elif what == "slow":
        session[key] = 1
        gates["reached"].wait(10)
        gates["go"].wait(10)
    elif what == "fill":
        session.update({"n": 0, "theme": "dark", "cart": list(range(10)), "name": "Ada Lovelace"})
    return ",".join(k for k in session.keys() if k.startswith("k"))


def django_view(request: Any, what: str, key: str) -> HttpResponse:
    if what == "out":
        request.session.flush()
        return HttpResponse("bye")
    return HttpResponse(act(request.session, what, key))


urlpatterns = [path("<what>/<key>", django_view)]


def django_app(engine: str, mw: str) -> Callable[..., Any]:
    from django.core.handlers.wsgi import WSGIHandler

    settings.SESSION_ENGINE, settings.MIDDLEWARE = engine, [mw]
    return WSGIHandler()


def flask_app(set_up: Callable[[flask.Flask], Any]) -> Callable[..., Any]:
    app = flask.Flask(__name__)
    set_up(app)

    @app.route("/<what>/<key>")
    def view(what: str, key: str) -> str:
        if what == "out":
            out = getattr(flask.session, "sign_out", None) or flask.session.clear
            out()
            return "bye"
        return act(flask.session, what, key)

    return app


def flask_session(app: flask.Flask) -> None:
    from flask_session import Session

    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(server.url), SECRET_KEY="x")
    Session(app)


class Browser:
    """Calls an application as a server does, and keeps the cookies."""

    def __init__(self, app: Callable[..., Any], cookies: dict[str, str] | None = None) -> None:
        self.app, self.cookies = app, dict(cookies or {})

    def get(self, path: str) -> tuple[int, str]:
        from io import BytesIO

        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "localhost", "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "https", "wsgi.input": BytesIO(),
            "wsgi.errors": sys.stderr, "HTTP_COOKIE": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
        }  # fmt: skip
        status = []

        def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            status[:] = [int(line[:3])]
            for name, value in headers:
                if name == "Set-Cookie":
                    k, _, v = value.partition(";")[0].partition("=")
                    self.cookies[k] = v.strip('"')
                    if not self.cookies[k]:
                        del self.cookies[k]

        body = self.app(environ, start_response)
        text = b"".join(body).decode()
        getattr(body, "close", lambda: None)()
        return status[0], text


def server_cpu() -> float:
    info = manager.wire.client.info("cpu")
    return info["used_cpu_user"] + info["used_cpu_sys"]


def measure(browser: Browser, what: str) -> tuple[float, float]:
    browser.get("/fill/k")
    browser.get("/read/k")
    mine, theirs = time.process_time(), server_cpu()
    for _ in range(REQUESTS):
        browser.get(f"/{what}/k")
    mine, theirs = time.process_time() - mine, server_cpu() - theirs
    return mine / REQUESTS * 1e6, theirs / REQUESTS * 1e6


def race(app: Callable[..., Any]) -> tuple[str, str]:
    """Two requests that write different keys; and a request that writes during a sign-out."""
    first = Browser(app)
    first.get("/fill/k")

    def during_slow(key: str, path: str) -> Browser:
        gates.update(reached=threading.Barrier(2), go=threading.Event())
        other = Browser(app, first.cookies)
        thread = threading.Thread(target=lambda: other.get(f"/slow/{key}"))
        thread.start()
        gates["reached"].wait(10)
        token = dict(first.cookies)
        first.get(path)
        gates["go"].set()
        thread.join()
        return Browser(app, token)

    during_slow("k1", "/put/k2")
    keys = sorted(first.get("/read/k")[1].split(","))
    after = during_slow("k3", "/out/k").get("/read/k")[1]
    lost = "no" if keys == ["k1", "k2"] else f"yes, only {keys} is there"
    return lost, "yes" if after else "no"


def main() -> None:
    coat = ("coatcheck.django", "coatcheck.django.SessionMiddleware")
    apps = {
        "Django, cache": django_app("django.contrib.sessions.backends.cache", middleware),
        "Django, coatcheck": django_app(*coat),
        "Flask-Session": flask_app(flask_session),
        "Flask, coatcheck": flask_app(lambda app: Sessions(app, manager)),
    }
    browsers = {name: Browser(app) for name, app in apps.items()}
    print("| CPU, microseconds a request | process | redis-server |\n|---|---|---|")
    for what in ("read", "write"):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in apps}
        for _ in range(ROUNDS):
            for name, browser in browsers.items():
                found[name].append(measure(browser, what))
        for name, rounds in found.items():
            cells = [
                f"{statistics.median(c):.0f} ({min(c):.0f}–{max(c):.0f})" for c in zip(*rounds)
            ]
            print(f"| {what}: {name} | {' | '.join(cells)} |")
    print("\n| race | a write of another key is lost | the session is back after sign-out |\n|---|---|---|")
    logging.disable(logging.CRITICAL)  # the refused requests
    for name, app in apps.items():
        result = race(app)
        print(f"| {name} | {' | '.join(result)} |")
        assert "coatcheck" not in name or result == ("no", "no")


if __name__ == "__main__":
    try:
        main()
    finally:
        server.close()
