"""The site that the tests sign in to."""

import re
from pathlib import Path

from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import include, path

from spatio_django.decorators import spatio_login_required
from spatio_django.tokens import SpatioRequest


def front(request: HttpRequest) -> HttpResponse:
    """Show a page for guests, with the button."""
    return render(request, "front.html")


def plain(request: HttpRequest) -> HttpResponse:
    """Show a page that uses neither session nor user."""
    return HttpResponse("plain")


@login_required
def me(request: HttpRequest) -> HttpResponse:
    """Show who is signed in, with the sign-out button."""
    return render(request, "me.html")


@login_required
def other(request: HttpRequest) -> HttpResponse:
    """Show another page for people who are signed in."""
    return HttpResponse(f"other page of {request.user.get_username()} {request.META['QUERY_STRING']}")


def state(request: SpatioRequest) -> JsonResponse:
    """Tell what ``request.spatio`` knows."""
    account = request.spatio.account
    return JsonResponse(
        {
            "user": request.user.get_username(),
            "account": account and account.sub,
            "scopes": sorted(request.spatio.scopes),
        }
    )


async def aplain(request: HttpRequest) -> HttpResponse:
    """Show a page from an async view."""
    user = await request.auser()
    return HttpResponse(f"async {user.get_username()}")


@permission_required("auth.add_user")
def for_editors(request: HttpRequest) -> HttpResponse:
    """Show a page that needs a permission."""
    return HttpResponse("for editors")


@user_passes_test(lambda user: user.is_staff)
def for_staff(request: HttpRequest) -> HttpResponse:
    """Show a page for staff."""
    return HttpResponse("for staff")


def checked(request: HttpRequest) -> HttpResponse:
    """Show another, with the admin's decorator and our login page."""
    return HttpResponse("for staff")


@staff_member_required
def member(request: HttpRequest) -> HttpResponse:
    """Show another, with the admin's login page."""
    return HttpResponse("for staff")


@spatio_login_required(max_age=300)
def recent(request: HttpRequest) -> HttpResponse:
    """Show a page that needs a recent sign-in."""
    return HttpResponse("recent")


@spatio_login_required
def only_spatio(request: HttpRequest) -> HttpResponse:
    """Show a page for people who signed in with Spatio, not with a password."""
    return HttpResponse("only Spatio")


@spatio_login_required(scopes=["files"])
async def files(request: HttpRequest) -> HttpResponse:
    """Show a page that needs a scope."""
    return HttpResponse("files")


urlpatterns = [
    path("", front, name="front"),
    path("plain/", plain),
    path("aplain/", aplain),
    path("me/", me, name="me"),
    path("other/", other),
    path("state/", state),
    path("editors/", for_editors),
    path("staff/", for_staff),
    path("checked/", staff_member_required(checked, login_url="spatio:login")),
    path("member/", member),
    path("recent/", recent),
    path("files/", files),
    path("only/", only_spatio),
    path("admin/", admin.site.urls),
    path("spatio/", include("spatio_django.urls")),
]

# The view for a first password, as docs/connecting.md shows it.
_text = (Path(__file__).parent.parent / "docs" / "connecting.md").read_text()
exec(next(block for block in re.findall(r"```python\n(.*?)```", _text, re.DOTALL) if "PasswordView" in block))  # noqa: S102 - the page's own lines
