"""
Authlib's documented views. They keep what the provider tells in the session; a site with users signs them in.

https://docs.authlib.org/en/latest/client/django.html
"""

from authlib.integrations.django_client import OAuth
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path

from benchmarks.sites.catalogue import DJANGOS_BACKEND

oauth = OAuth()
oauth.register("spatio")


def login(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider."""
    response: HttpResponse = oauth.spatio.authorize_redirect(request, request.build_absolute_uri("/auth/"))
    return response


def authorized(request: HttpRequest) -> HttpResponse:
    """Sign the person in."""
    token = oauth.spatio.authorize_access_token(request)
    request.session["user"] = token["userinfo"]
    user = User.objects.get(username=token["userinfo"]["sub"])
    auth.login(request, user, backend=DJANGOS_BACKEND)
    return redirect(settings.LOGIN_REDIRECT_URL)


urlpatterns = [path("login/", login), path("auth/", authorized)]
