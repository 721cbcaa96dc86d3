"""What a response says after a sign-in whose session did not live to see it."""

from __future__ import annotations

import time

import pytest
from patience import PATIENT
from visitor import new

from coatcheck import Config, Login, Manager, Request, Value

v = Value("v")


@pytest.fixture
def manager(url, namespace):
    m = Manager.open(url, Config(namespace=namespace, max_per_user=2), **PATIENT)
    yield m
    m.close()


def respond(s):
    """Commits after the time from which a new token is checked again."""
    time.sleep(0.06)
    s.run(s.core.before_header())
    return s.core.new_token()


def cookie_of(manager, s):
    return f"__Host-session={s.core.token.text(manager.ring)}"


def test_a_sign_in_whose_session_another_one_ended_has_succeeded(manager):
    s = new(manager)
    s.sign_in(Login("ada"))
    for _ in range(2):
        new(manager).sign_in(Login("ada"))
    assert respond(s) is not None
    assert manager.session(Request("GET", [cookie_of(manager, s)])).load().user == ""


def test_a_token_that_another_request_superseded_does_not_leave(manager):
    s = new(manager)
    s.sign_in(Login("ada"))
    manager.session(Request("POST", [cookie_of(manager, s)])).load().sign_in(Login("bob"))
    assert respond(s) is None
    s = new(manager)
    s.sign_in(Login("ada"))
    manager.session(Request("POST", [cookie_of(manager, s)])).load().renew()
    assert respond(s) is None
    s = new(manager)
    s.sign_in(Login("ada"))
    assert respond(s) is not None
    s = new(manager)
    v.set(s, 1)
    s.commit()
    anonymous = f"__Host-session-anon={s.core.token.text(manager.ring)}"
    manager.session(Request("POST", [anonymous])).load().sign_out()
    assert respond(s) is None
