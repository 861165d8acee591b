"""The buttons, and what is connected: ``{% load spatio %}{% spatio_login_button %}``."""

from typing import Any

from django import template
from django.template.context import RequestContext
from django.utils.translation import gettext_lazy as _

from spatio_django import links

register = template.Library()


def stylesheet_wanted(context: RequestContext) -> bool:
    """Tell whether this is the page's first button, which brings the stylesheet along."""
    # On the outermost layer, which all templates of one page share.
    page: Any = context.render_context.dicts[0]
    first = "spatio_stylesheet" not in page
    page["spatio_stylesheet"] = True
    return first


@register.inclusion_tag("spatio_django/login_button.html", takes_context=True)
def spatio_login_button(context: RequestContext, next: str | None = None, label: str = "") -> dict[str, Any]:  # noqa: A002 - the tag's argument is named like the parameter it sets
    """
    Show the "Sign in with Spatio" button: an ordinary link, with its stylesheet, without script.

    Args:
        next: The page to land on. Default: the ``next`` that the current page was asked with; else
            ``LOGIN_REDIRECT_URL``; else, where that leads nowhere, the current page.
        label: The text. Default: "Sign in with Spatio".
    """
    # Error pages and e-mails are rendered without a request.
    request = getattr(context, "request", None)
    target = None
    if request is not None:
        fallback = None if links.login_redirect_url() else request.get_full_path()
        target = links.safe_next(request, next or request.GET.get("next") or fallback)
    return {
        "login_url": links.login_url(target),
        "label": label or _("Sign in with Spatio"),
        "stylesheet": stylesheet_wanted(context),
    }


@register.inclusion_tag("spatio_django/logout_button.html", takes_context=True)
def spatio_logout_button(context: RequestContext, next: str | None = None, label: str = "") -> dict[str, Any]:  # noqa: A002 - likewise
    """
    Show the sign-out button: a form that posts, with the CSRF token.

    Args:
        next: The page to land on. Default: ``LOGOUT_REDIRECT_URL``.
        label: The text. Default: "Sign out".
    """
    return {
        "csrf_token": context.get("csrf_token"),
        "next_url": next or "",
        "label": label or _("Sign out"),
        "stylesheet": stylesheet_wanted(context),
    }


@register.inclusion_tag("spatio_django/connect_button.html", takes_context=True)
def spatio_connect_button(
    context: RequestContext,
    next: str | None = None,  # noqa: A002 - likewise
    label: str = "",
) -> dict[str, Any]:
    """
    Show the button that connects a Spatio account to the user who is signed in: a form that posts.

    Args:
        next: The page to land on. Default: the page "Spatio account".
        label: The text. Default: "Connect Spatio".
    """
    return {
        "csrf_token": context.get("csrf_token"),
        "next_url": next or "",
        "label": label,
        "stylesheet": stylesheet_wanted(context),
    }


@register.inclusion_tag("spatio_django/account_panel.html", takes_context=True)
def spatio_account(context: RequestContext, next: str | None = None) -> dict[str, Any]:  # noqa: A002 - likewise
    """
    Show what is connected to the user who is signed in, to connect or to disconnect it.

    For a settings page of the site; by itself it is the page ``spatio:account``. Nothing for guests. One
    query, and a second one for a user without a password.

    Args:
        next: The page to land on afterwards. Default: the page "Spatio account".
    """
    from spatio_django.backends import configured  # here: its parent loads an HTTP and a JWT library

    # Not the context's "user": on a page about somebody, that may be whom it is about.
    user = getattr(getattr(context, "request", None), "user", None)
    if user is None or not user.is_authenticated:
        return {"guest": True}
    _path, backend = configured()
    return {
        "csrf_token": context.get("csrf_token"),
        "connected": backend.accounts_of(user),
        "next_url": next or "",
        "stylesheet": stylesheet_wanted(context),
    }
