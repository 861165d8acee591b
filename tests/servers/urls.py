"""Addresses of the example, and its static files, which a site's web server would have."""

from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("pages.urls")),
    path("spatio/", include("spatio_django.urls")),
    path("static/<path:path>", serve, {"insecure": True}),
]
