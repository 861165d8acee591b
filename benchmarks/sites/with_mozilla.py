"""mozilla-django-oidc's documented URLs. It knows people by e-mail address, so there is nothing to join."""

from django.urls import include, path

urlpatterns = [path("oidc/", include("mozilla_django_oidc.urls"))]
