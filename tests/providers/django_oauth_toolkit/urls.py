"""The provider's addresses: django-oauth-toolkit under ``o/``, so that the issuer has a path."""

from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [
    path("o/", include("oauth2_provider.urls")),
    path("accounts/login/", LoginView.as_view()),
]
