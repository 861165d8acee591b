"""Addresses of the pages."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.front, name="front"),
    path("me/", views.me, name="me"),
    path("me/asked/", views.asked, name="asked"),
    path("me/careful/", views.careful, name="careful"),
]
