"""The session engine with a real Django: auth, concurrent requests, errors."""

from __future__ import annotations

import threading
import uuid
from urllib.parse import urlencode

import django
import pytest
from patience import PATIENT
from django.conf import settings
from django.http import HttpResponse, JsonResponse

import coatcheck
from coatcheck import Config, Counter, Counters, Login

basket = Counters("basket")
COOKIE, ANON = "__Host-session", "__Host-session-anon"


@pytest.fixture(scope="module", autouse=True)
def configured(url):
    settings.configure(
        SECRET_KEY="x" * 50,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        MIDDLEWARE=[
            "coatcheck.django.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "coatcheck.django.UserMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        SESSION_ENGINE="coatcheck.django",
        SESSION_COOKIE_NAME=COOKIE,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGGING_CONFIG=None,
        COATCHECK={
            "url": url + "?" + urlencode(PATIENT),
            "config": Config(
                namespace=f"t{uuid.uuid4().hex[:12]}", keep_fields=("cart",), user_fields=(basket,)
            ),
            "user_field": "username",
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, run_syncdb=True)
    from django.contrib.auth.models import User

    User.objects.create_user("ada", password="secret")


def put(request, key):
    request.session[key] = request.GET["v"]
    return HttpResponse("ok")


def get(request, key):
    return HttpResponse(str(request.session.get(key)))


def append(request):
    request.session.setdefault("list", []).append(request.GET["v"])
    request.session.modified = True
    return HttpResponse("ok")


def sign_in(request):
    from django.contrib.auth import authenticate, login

    login(request, authenticate(username="ada", password="secret"))
    return HttpResponse("ok")


def sign_out(request):
    from django.contrib.auth import logout

    logout(request)
    return HttpResponse("ok")


def new_password(request):
    from django.contrib.auth import update_session_auth_hash

    request.user.set_password("secret")
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("ok")


def answers_itself(request):
    try:
        request.session.get("a")
    except coatcheck.Unavailable:
        return HttpResponse("sorry", status=500)
    return HttpResponse("ok")


def who(request):
    return HttpResponse(str(request.user))


def fail(request):
    request.session["a"] = "lost"
    raise RuntimeError("no")


def count(request):
    Counter("n").add(request.session.coatcheck.load())
    return HttpResponse("ok")


def add(request, fruit):
    if "in" in request.GET:
        sign_in(request)
    basket.add(request.session.user_data(), fruit)
    if "fail" in request.GET:
        raise RuntimeError("no")
    return JsonResponse(basket.all(request.session.user_data()))


def csrf(request):
    from django.middleware.csrf import get_token

    return HttpResponse(get_token(request))


gates: dict[str, threading.Event] = {}


def slow(request):
    request.session["slow"] = request.GET["v"]
    gates["reached"].set()
    assert gates["go"].wait(60)
    return HttpResponse("ok")


from django.urls import path  # noqa: E402

urlpatterns = [
    path("put/<key>", put), path("get/<key>", get), path("append", append), path("in", sign_in),
    path("out", sign_out), path("who", who), path("fail", fail), path("count", count),
    path("add/<fruit>", add), path("slow", slow), path("csrf", csrf),
    path("password", new_password), path("answers", answers_itself),
]  # fmt: skip


@pytest.fixture
def browser():
    from django.test import Client

    client = Client(raise_request_exception=False)
    client.defaults["wsgi.url_scheme"] = "https"
    return client


def manager():
    from coatcheck.django import manager

    return manager()


def test_values_and_secure_cookie(browser):
    r = browser.get("/put/theme?v=dark")
    cookie = r.cookies[ANON].OutputString()
    assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert r["Cache-Control"] == "no-store" and r["Vary"] == "Cookie"
    r = browser.get("/get/theme")
    assert r.content == b"dark" and not r.cookies and r["Cache-Control"] == "private, no-cache"
    assert not browser.get("/get/other").cookies


def test_a_list_that_was_changed_in_place_is_stored(browser):
    browser.get("/append?v=a")
    browser.get("/append?v=b")
    assert browser.get("/get/list").content == b"['a', 'b']"


def test_login_gives_a_new_token_and_logout_ends_the_session(browser):
    browser.get("/put/cart?v=1")
    browser.get("/put/planted?v=1")
    anonymous = browser.cookies[ANON].value
    assert browser.get("/in").status_code == 200
    token = browser.cookies[COOKIE].value
    assert token and token != anonymous and not browser.cookies[ANON].value
    assert browser.get("/who").content == b"ada"
    assert browser.get("/get/cart").content == b"1"
    assert browser.get("/get/planted").content == b"None"
    assert [i.user for i in manager().sessions("1")] == ["1"]
    assert browser.get("/out").status_code == 200
    assert not browser.cookies[COOKIE].value
    browser.cookies[COOKIE] = token
    assert browser.get("/who").content == b"AnonymousUser"


def test_a_new_password_renews_the_token(browser):
    browser.get("/in")
    old = browser.cookies[COOKIE].value
    assert browser.get("/password").status_code == 200
    assert browser.cookies[COOKIE].value not in ("", old)
    assert browser.get("/who").content == b"ada"
    browser.cookies[COOKIE] = old
    assert browser.get("/who").content == b"AnonymousUser"


def test_two_devices_of_a_user_share_what_belongs_to_the_user(browser):
    from django.test import Client

    other = Client(raise_request_exception=False)
    other.defaults["wsgi.url_scheme"] = "https"
    assert browser.get("/add/apple").json() == {"apple": 1}
    browser.get("/in")
    assert other.get("/add/apple").json() == {"apple": 1}
    assert other.get("/add/pear?in=1").json() == {"apple": 2, "pear": 1}
    assert browser.get("/add/pear").json() == {"apple": 2, "pear": 2}
    assert browser.get("/add/pear?fail=1").status_code == 500
    assert other.get("/add/plum").json() == {"apple": 2, "pear": 2, "plum": 1}
    manager().delete_user("1")
    assert browser.get("/add/apple").json() == {"apple": 1} and browser.get("/who").content == b"AnonymousUser"


def test_an_exception_discards_the_changes(browser):
    browser.get("/put/a?v=1")
    assert browser.get("/fail").status_code == 500
    assert browser.get("/get/a").content == b"1"


def test_concurrent_requests_lose_no_write_and_do_not_bring_a_session_back(browser):
    from django.test import Client

    browser.get("/in")
    gates.update(reached=threading.Event(), go=threading.Event())
    other = Client(raise_request_exception=False)
    other.cookies = browser.cookies.copy()
    result = []
    thread = threading.Thread(target=lambda: result.append(other.get("/slow?v=1").status_code))
    thread.start()
    assert gates["reached"].wait(60)
    browser.get("/put/fast?v=1")
    gates["go"].set()
    thread.join()
    assert result == [200]
    assert browser.get("/get/fast").content == b"1" and browser.get("/get/slow").content == b"1"

    token = browser.cookies[COOKIE].value
    gates.update(reached=threading.Event(), go=threading.Event())
    thread = threading.Thread(target=lambda: result.append(other.get("/slow?v=2").status_code))
    thread.start()
    assert gates["reached"].wait(60)
    browser.get("/out")
    gates["go"].set()
    thread.join()
    assert result[1] == 409
    browser.cookies[COOKIE] = token
    assert browser.get("/who").content == b"AnonymousUser"


def test_counters_of_other_services_are_kept(browser):
    browser.get("/count")
    browser.get("/put/a?v=1")
    browser.get("/count")
    assert browser.get("/get/n").content == b"2"


def test_a_user_whom_another_service_signed_in(browser):
    s = manager().session(coatcheck.Request("POST")).load()
    s.sign_in(Login("ada"))
    browser.cookies[COOKIE] = s.core.token.text(manager().ring)
    assert browser.get("/who").content == b"ada"


def test_auth_keys_alone_sign_nobody_in(browser):
    from django.contrib.auth.models import User

    user = User.objects.get(username="ada")
    s = manager().session(coatcheck.Request("POST")).load()
    for key, value in (
        ("_auth_user_id", str(user.pk)),
        ("_auth_user_backend", "django.contrib.auth.backends.ModelBackend"),
        ("_auth_user_hash", user.get_session_auth_hash()),
    ):
        coatcheck.Value(key).set(s, value)
    s.commit()
    browser.cookies[ANON] = s.core.token.text(manager().ring)
    assert browser.get("/who").content == b"AnonymousUser"


def test_what_is_not_json_fails_the_request(browser):
    from coatcheck.django import SessionStore

    store = SessionStore()
    store["x"] = object()
    with pytest.raises(coatcheck.Invalid):
        store.save()


def test_client_force_login(browser):
    from django.contrib.auth.models import User

    browser.force_login(User.objects.get(username="ada"))
    assert browser.get("/who").content == b"ada"


def test_a_store_that_is_down_is_a_503(browser, server, monkeypatch):
    from coatcheck import django as engine

    down = coatcheck.Manager.open(server.url, Config(), **PATIENT)
    monkeypatch.setattr(engine, "manager", lambda: down)
    browser.get("/put/a?v=1")
    token = browser.cookies[ANON].value
    server.stop()
    for url in ("/get/a", "/put/a?v=2", "/who", "/answers"):
        r = browser.get(url)
        assert r.status_code == 503 and r["Retry-After"] == "1" and not r.cookies, url
    assert browser.cookies[ANON].value == token
    server.start()
    assert browser.get("/get/a").status_code == 200


@pytest.mark.parametrize("in_session", [True, False])
def test_the_csrf_tokens_of_django_work_with_these_sessions(in_session):
    from django.test import Client, override_settings

    order = [*settings.MIDDLEWARE[:1], "django.middleware.csrf.CsrfViewMiddleware", *settings.MIDDLEWARE[1:]]
    with override_settings(MIDDLEWARE=order, CSRF_USE_SESSIONS=in_session):
        client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        token = client.get("/csrf").content.decode()
        assert client.post("/put/a?v=1").status_code == 403
        assert client.post("/put/a?v=1", {"csrfmiddlewaretoken": token}).status_code == 200
        assert client.get("/in").status_code == 200
        assert client.post("/put/a?v=2", {"csrfmiddlewaretoken": token}).status_code == 403, "a sign-in changes it"
        token = client.get("/csrf").content.decode()
        assert client.post("/put/a?v=2", headers={"X-CSRFToken": token}).status_code == 200
        r = client.post("/put/a?v=3", headers={"X-CSRFToken": token, "Sec-Fetch-Site": "cross-site"})
        assert r.status_code == 403, "the origin counts as well"
        assert client.get("/get/a").content == b"2"


def test_csrf_without_the_middleware_of_django_is_refused(monkeypatch):
    from django.core.exceptions import ImproperlyConfigured

    from coatcheck.django import SessionMiddleware

    monkeypatch.setitem(settings.COATCHECK, "config", Config(csrf=True))
    with pytest.raises(ImproperlyConfigured, match="CsrfViewMiddleware"):
        SessionMiddleware(lambda request: None)
    monkeypatch.setattr(settings, "MIDDLEWARE", [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"])
    SessionMiddleware(lambda request: None)


def test_a_user_id_that_no_user_of_the_model_can_have_is_a_stranger(browser, monkeypatch):
    from django.contrib.auth.models import User
    from django.core.exceptions import ValidationError

    def refuse(**kwargs):
        raise ValidationError("not a UUID")

    s = manager().session(coatcheck.Request("POST")).load()
    s.sign_in(Login("not a uuid"))
    browser.cookies[COOKIE] = s.core.token.text(manager().ring)
    monkeypatch.setattr(User._default_manager, "filter", refuse)
    assert browser.get("/who").content == b"AnonymousUser"
