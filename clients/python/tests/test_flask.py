"""The session interface with a real Flask."""

from __future__ import annotations

import flask
import pytest
from patience import PATIENT

from coatcheck import Config, Counter, Counters, Login, Manager
from coatcheck.flask import Sessions

basket = Counters("basket")
COOKIE, ANON = "__Host-session", "__Host-session-anon"


def make_app(manager):
    app = flask.Flask(__name__)
    Sessions(app, manager)

    @app.route("/put/<key>")
    def put(key):
        flask.session[key] = flask.request.args["v"]
        return "ok"

    @app.route("/get/<key>")
    def get(key):
        return str(flask.session.get(key))

    @app.route("/append")
    def append():
        flask.session.setdefault("list", []).append(flask.request.args["v"])
        return "ok"

    @app.route("/count")
    def count():
        Counter("n").add(flask.session.coatcheck.load())
        return "ok"

    @app.route("/add/<fruit>")
    def add(fruit):
        basket.add(flask.session.user_data(), fruit)
        flask.session["last"] = fruit
        return basket.all(flask.session.user_data())

    @app.route("/in")
    def sign_in():
        flask.session["now"] = 1
        flask.session.sign_in(Login("ada"))
        return flask.session.coatcheck.user

    @app.route("/out")
    def sign_out():
        flask.session.sign_out()
        return "bye"

    @app.route("/fail")
    def fail():
        flask.session["a"] = "lost"
        raise RuntimeError("no")

    @app.route("/bad")
    def bad():
        flask.session["a"] = object()
        return "saved"

    @app.route("/stream")
    def stream():
        flask.session["a"] = "streamed"
        return flask.Response(iter(["first", "second"]))

    return app


@pytest.fixture
def manager(url, namespace):
    m = Manager.open(url, Config(namespace=namespace, keep_fields=("cart",), user_fields=(basket,)), **PATIENT)
    yield m
    m.close()


@pytest.fixture
def browser(manager):
    return make_app(manager).test_client()


def call(browser, path, **kwargs):
    return browser.get(path, base_url="https://shop.test", **kwargs)


def cookie(browser, name):
    found = browser.get_cookie(name, domain="shop.test")
    return found.value if found else None


def test_values_and_secure_cookie(browser):
    r = call(browser, "/put/theme?v=dark")
    assert r.headers["Set-Cookie"].endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert r.headers["Cache-Control"] == "no-store" and r.headers["Vary"] == "Cookie"
    r = call(browser, "/get/theme")
    assert r.text == "dark" and "Set-Cookie" not in r.headers
    assert "Set-Cookie" not in call(browser, "/get/other").headers


def test_a_list_that_was_changed_in_place_is_stored(browser):
    call(browser, "/append?v=a")
    call(browser, "/append?v=b")
    assert call(browser, "/get/list").text == "['a', 'b']"


def test_sign_in_and_sign_out(browser, manager):
    call(browser, "/put/cart?v=1")
    call(browser, "/put/planted?v=1")
    assert call(browser, "/in").text == "ada"
    assert cookie(browser, COOKIE) and not cookie(browser, ANON)
    assert [call(browser, f"/get/{k}").text for k in ("cart", "planted", "now")] == ["1", "None", "1"]
    assert len(list(manager.sessions("ada"))) == 1
    assert call(browser, "/out").text == "bye"
    assert not cookie(browser, COOKIE) and not list(manager.sessions("ada"))


def test_an_exception_and_a_failed_commit_change_nothing(browser):
    call(browser, "/put/a?v=1")
    assert call(browser, "/fail").status_code == 500
    r = call(browser, "/bad")
    assert r.status_code == 500 and "saved" not in r.text
    assert call(browser, "/get/a").text == "1"


def test_a_stream_commits_before_its_first_byte(browser):
    assert call(browser, "/stream").text == "firstsecond"
    assert call(browser, "/get/a").text == "streamed"


def test_a_request_of_another_site_is_refused(browser):
    call(browser, "/put/a?v=1")
    r = browser.post("/put/a?v=2", base_url="https://shop.test", headers={"Sec-Fetch-Site": "cross-site"})
    assert r.status_code == 403


def test_counters_of_other_services_are_kept(browser):
    call(browser, "/count")
    call(browser, "/put/a?v=1")
    call(browser, "/count")
    assert call(browser, "/get/n").text == "2"


def test_two_devices_of_a_user_share_what_belongs_to_the_user(manager, caplog):
    phone, laptop = (make_app(manager).test_client() for _ in range(2))
    assert call(phone, "/add/apple").json == {"apple": 1}
    call(phone, "/in")
    call(laptop, "/add/apple")
    call(laptop, "/in")
    assert call(laptop, "/add/pear").json == {"apple": 2, "pear": 1}
    assert call(phone, "/get/last").text == "None", "it did not belong to the user"
    assert call(phone, "/add/pear").json == {"apple": 2, "pear": 2}
    call(phone, "/out")
    assert call(phone, "/add/plum").json == {"plum": 1} and not caplog.records


def test_a_store_that_is_down_is_a_503(server):
    manager = Manager.open(server.url, Config(), **PATIENT)
    browser = make_app(manager).test_client()
    call(browser, "/put/a?v=1")
    token = cookie(browser, ANON)
    server.stop()
    for url in ("/get/a", "/put/a?v=2"):
        r = call(browser, url)
        assert r.status_code == 503 and "Set-Cookie" not in r.headers
    assert cookie(browser, ANON) == token
    server.start()
    assert call(browser, "/get/a").status_code == 200
    manager.close()
