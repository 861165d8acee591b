"""The old package's addresses, a page that says who is there, and what the page adds."""

from django.apps import apps
from django.urls import URLPattern, URLResolver, include, path

from tests.moving.page import code
from tests.urls import state

urlpatterns: list[URLPattern | URLResolver] = [path("state/", state), path("me/", state)]
if apps.is_installed("allauth"):
    urlpatterns += [path("accounts/", include("allauth.urls"))]
elif apps.is_installed("social_django"):
    urlpatterns += [path("old/", include("social_django.urls", namespace="social"))]
else:
    urlpatterns += [path("oidc/", include("mozilla_django_oidc.urls"))]

exec(code("urls.py"))  # noqa: S102 - the page's own lines
