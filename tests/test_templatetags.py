"""The buttons."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import Context, RequestContext, Template
from django.test import RequestFactory

from spatio_django.links import login_url


def render(rf: RequestFactory, source: str, url: str = "/") -> str:
    """Render a page of a site."""
    request: Any = rf.get(url)
    request.user = AnonymousUser()
    return Template("{% load spatio %}" + source).render(RequestContext(request))


def test_the_button_is_an_ordinary_link(rf: RequestFactory) -> None:
    """It works without script, and brings the stylesheet along."""
    html = render(rf, "{% spatio_login_button %}")

    assert 'href="/spatio/login/"' in html
    assert "Sign in with Spatio" in html
    assert html.count("stylesheet") == 1
    assert "<script" not in html
    assert "style=" not in html


def test_two_buttons_bring_one_stylesheet(rf: RequestFactory) -> None:
    """Once per page."""
    html = render(rf, "{% spatio_login_button %}{% spatio_logout_button %}{% spatio_login_button %}")

    assert html.count('rel="stylesheet"') == 1


@pytest.mark.parametrize(
    ("source", "url", "target"),
    [
        ("{% spatio_login_button %}", "/?next=/other/%3Fa=1", "/other/?a=1"),
        ("{% spatio_login_button next='/mine/' %}", "/?next=/other/", "/mine/"),
        ("{% spatio_login_button next=request.path %}", "/page/", "/page/"),
        ("{% spatio_login_button %}", "/?next=//evil.example", None),
        ("{% spatio_login_button %}", "/page/?a=1", None),
    ],
)
def test_the_button_keeps_next(rf: RequestFactory, source: str, url: str, target: str | None) -> None:
    """The page that the visitor wanted survives the click; another site's doesn't."""
    html = render(rf, source, url).replace("&amp;", "&")

    assert f'href="{login_url(target)}"' in html


def test_without_a_page_to_land_on_the_button_leads_back(rf: RequestFactory, settings: Any) -> None:
    """Django's default leads to /accounts/profile/, which few sites have: no first sign-in ends in a 404."""
    settings.LOGIN_REDIRECT_URL = "/accounts/profile/"

    html = render(rf, "{% spatio_login_button %}", "/page/?a=1").replace("&amp;", "&")

    assert f'href="{login_url("/page/?a=1")}"' in html


def test_a_page_without_a_request_has_a_button_too() -> None:
    """Error pages and e-mails are rendered so."""
    html = Template("{% load spatio %}{% spatio_login_button %}").render(Context())

    assert 'href="/spatio/login/"' in html


def test_labels_can_be_given(rf: RequestFactory) -> None:
    """And are escaped."""
    buttons = "{% spatio_login_button label=request.GET.q %}{% spatio_logout_button label='Bye' next='/x/' %}"
    html = render(rf, buttons, "/?q=<b>")

    assert "&lt;b&gt;" in html
    assert "Bye" in html
    assert 'value="/x/"' in html


def test_the_sign_out_button_posts_with_the_token(rf: RequestFactory) -> None:
    """A form, so that no picture on another site signs anyone out."""
    html = render(rf, "{% spatio_logout_button %}")

    assert "<form" in html
    assert 'method="post"' in html.lower()
    assert 'action="/spatio/logout/"' in html
    assert "csrfmiddlewaretoken" in html
    assert 'name="next"' not in html
