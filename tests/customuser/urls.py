"""Nothing but sign-in."""

from django.urls import include, path

urlpatterns = [path("spatio/", include("spatio_django.urls"))]
