"""Addresses of the example."""

from django.urls import include, path

urlpatterns = [
    path("", include("pages.urls")),
    path("spatio/", include("spatio_django.urls")),
]
