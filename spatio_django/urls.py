"""Our addresses: include them as ``path("spatio/", include("spatio_django.urls"))``."""

from django.urls import path

from spatio_django import account_views, views

app_name = "spatio"

urlpatterns = [
    path("login/", views.LoginView.as_view(), name="login"),
    path("callback/", views.CallbackView.as_view(), name="callback"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("account/", account_views.AccountView.as_view(), name="account"),
    path("account/connect/", account_views.ConnectView.as_view(), name="connect"),
    path("account/disconnect/", account_views.DisconnectView.as_view(), name="disconnect"),
]
