"""The admin: a Django application in one file. It lists the user's sessions, and ends them."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseRedirect
from django.template import Context, Engine
from django.urls import path

import coatcheck

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    SECRET_KEY=os.urandom(32).hex(),  # Django signs nothing here
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["coatcheck.django.SessionMiddleware"],
    SESSION_ENGINE="coatcheck.django",
    SESSION_COOKIE_NAME="__Host-session",
    COATCHECK={
        "url": os.environ["REDIS_URL"],
        "config": coatcheck.Config(
            keys=(bytes.fromhex(os.environ["SESSION_KEY"]),),
            user_key=bytes.fromhex(os.environ["USER_KEY"]),
        ),
    },
)


def health(request):
    return HttpResponse("ok")


def index(request):
    from coatcheck.django import manager

    session = request.session.coatcheck.load()
    devices = list(manager().sessions(session.user)) if session.user else []
    context = {"user": session.user or "nobody", "devices": devices, "own": session.user and session.info.handle}
    return HttpResponse(page.render(Context(context)))


def end(request):
    from coatcheck.django import manager

    session = request.session.coatcheck.load()
    if request.method != "POST" or not session.user:
        return HttpResponse("sign in first", status=401)
    try:
        manager().revoke(session.user, request.POST.get("handle", ""))
    except (coatcheck.NotFound, coatcheck.Invalid):
        return HttpResponse("no such session", status=404)
    return HttpResponseRedirect("/admin/")


urlpatterns = [path("admin/health", health), path("admin/", index), path("admin/end", end)]

page = Engine().from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Devices</title>
<link rel="stylesheet" href="/style.css">
<h1>Devices, in Python</h1>
<nav><a href="/">Start</a></nav>
<p>You are <strong id="user">{{ user }}</strong>, signed in on <span id="sessions">{{ devices|length }}</span> devices.</p>
<form method="post" action="/admin/end">
<table>
{% for d in devices %}<tr><td>{{ d.user_agent|truncatechars:40 }}</td>
<td>{% if d.handle == own %}this device{% else %}<button class="end" name="handle" value="{{ d.handle }}">End</button>{% endif %}</td></tr>
{% endfor %}</table>
</form>
</html>
"""
)

application = get_wsgi_application()
