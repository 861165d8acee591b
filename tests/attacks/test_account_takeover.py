"""
Becoming somebody else by what a Spatio account says of itself: address, name, identifier, rights.

Spatio is honest about who signed in, but people choose most of what it tells about them. So here each
attacker really signs in, with claims of their choice.
"""

import base64
import json
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission

from spatio_django.models import SpatioAccount, SpatioToken
from tests.conftest import Site
from tests.misbehaving import Misbehaviour

User = get_user_model()
USERINFO = "/oauth2/userinfo"


@pytest.fixture
def people(db: None) -> dict[str, Any]:
    """Give users whom somebody might want to be: a superuser, staff, and an ordinary one."""
    root = User.objects.create_superuser("root", "root@example.org", "x")
    staff = User.objects.create_user("staff", "staff@example.org", "x", is_staff=True)
    ordinary = User.objects.create_user("mike", "mike@example.org", "x")
    return {"root": root, "staff": staff, "mike": ordinary}


def arrive(site: Site, misbehaviour: Misbehaviour, **claims: Any) -> Any:
    """Sign in as somebody of whom userinfo tells *claims*; give the user whom the site takes them for."""
    misbehaviour.json(USERINFO, **claims)
    browser = site.browser()
    response = site.sign_in(browser)
    assert response.status_code == 302, response.content.decode()
    name = browser.get("/state/").json()["user"]
    return User.objects.get(username=name)


def say(misbehaviour: Misbehaviour, site: Site, **claims: Any) -> None:
    """Say *claims* in ID token and userinfo."""
    misbehaviour.id_token(site.spatio.sign, **claims)
    misbehaviour.json(USERINFO, **claims)


VICTIMS = [
    "root@example.org",
    "staff@example.org",
    "mike@example.org",
    "MIKE@example.org",
    "Mike@EXAMPLE.ORG",
]


@pytest.mark.parametrize("verified", [True, False, None, "true", 1])
@pytest.mark.parametrize("email", VICTIMS)
def test_an_address_makes_nobody_another_user(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], email: str, verified: Any
) -> None:
    """As the package comes, no address joins anybody, verified or not: the person is a new user."""
    user = arrive(site, misbehaviour, email=email, email_verified=verified)

    assert user not in people.values()
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert not SpatioAccount.objects.filter(user__in=people.values()).exists()


#: Addresses that are not mike@example.org, whatever a database, a parser or a mail server makes of them.
LIKE_MIKE = [
    *("m\u0131ke@example.org", "mi\u212ae@example.org", "\uff4dike@example.org", "mike@example.\u1d0frg"),
    *(
        "mike@example.org@evil.example",
        "evil@evil.example,mike@example.org",
        "<mike@example.org>",
        '"mike"@example.org',
    ),
    *(
        "mike+x@example.org",
        "m.ike@example.org",
        " mike@example.org",
        "mike@example.org ",
        "mike@example.org\x01",
    ),
    *(
        "mike@example.org\n",
        "mike@\u00adexample.org",
        "mike%40example.org",
        "%mike@example.org",
        "_ike@example.org",
    ),
    *(
        "mike@example.org.",
        "mike@example.org\\",
        "mike@example.org' OR 1=1 --",
        "mike@example.o\u0433g",
        "",
        "@",
        "*",
    ),
]


@pytest.mark.parametrize("email", LIKE_MIKE)
def test_an_address_like_a_users_is_not_that_users(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], settings: Any, email: str
) -> None:
    """Even where the site joins by verified address: not by one that only looks like it."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True

    user = arrive(site, misbehaviour, email=email, email_verified=True)

    assert user not in people.values()
    user.delete()
    assert arrive(site, misbehaviour, email="mike@example.org", email_verified=True) == people["mike"]


@pytest.mark.parametrize(
    ("email", "verified", "joined"),
    [
        ("mike@example.org", True, True),
        ("MIKE@example.org", True, True),
        ("mike@example.org", False, False),
        ("mike@example.org", None, False),
        ("mike@example.org", "true", False),
        ("mike@example.org", 1, False),
        ("mike@example.org", [True], False),
        ("root@example.org", True, False),
        ("staff@example.org", True, False),
        ("STAFF@example.org", True, False),
    ],
)
def test_a_site_that_joins_by_address_joins_by_a_verified_one_of_an_ordinary_user(
    site: Site,
    misbehaviour: Misbehaviour,
    people: dict[str, Any],
    settings: Any,
    email: str,
    verified: Any,
    *,
    joined: bool,
) -> None:
    """Opted in; staff and superusers never."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True

    user = arrive(site, misbehaviour, email=email, email_verified=verified)

    assert (user == people["mike"]) == joined
    assert user not in (people["root"], people["staff"])


def test_the_word_of_the_id_token_does_not_verify_userinfos_address(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], settings: Any
) -> None:
    """Verified is the ID token's address; userinfo's is another's, and says nothing of being verified."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    misbehaviour.id_token(site.spatio.sign, email_verified=True)

    user = arrive(site, misbehaviour, email="mike@example.org", email_verified=None)

    assert user != people["mike"]


def test_a_changed_address_moves_nobody(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], settings: Any
) -> None:
    """First an account of one's own, then the victim's address: the user stays who they were (nOAuth)."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    own = arrive(site, misbehaviour)

    assert arrive(site, misbehaviour, email="mike@example.org", email_verified=True) == own

    assert own.email == User.objects.get(pk=own.pk).email == "ada@example.com"


NAMES = [
    "root",
    "ROOT",
    "\uff52oot",
    "root ",
    "r\u043e\u043et",
    "root\x01",
    "root@example.org",
    "../root",
    "",
    "x" * 400,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_makes_nobody_another_user(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], name: str
) -> None:
    """A username that is taken, or nearly, or does not fit, becomes another; it is never looked for."""
    user = arrive(site, misbehaviour, preferred_username=name, email=None, email_verified=None, name=None)

    assert user not in people.values()
    user.full_clean(exclude=["password"])
    assert user.username.lower() not in {"root", "staff", "mike"}
    assert "@" not in user.username


MARKUP = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


def test_a_name_is_text_on_every_page(site: Site, misbehaviour: Misbehaviour) -> None:
    """What somebody calls themselves is shown, and is no markup."""
    names = dict.fromkeys(("name", "given_name", "family_name", "preferred_username"), MARKUP)
    misbehaviour.json(USERINFO, **names, email=f"a{MARKUP}@example.com")
    browser = site.browser()
    assert site.sign_in(browser).status_code == 302

    for address in ("/spatio/account/", "/spatio/login/?next=/editors/", "/spatio/callback/?state=x", "/me/"):
        html = browser.get(address).content.decode()
        assert "<script>alert" not in html
        assert "<img src=x" not in html
    assert "&lt;script&gt;" in browser.get("/spatio/account/").content.decode()


SUB = "acc_2Yh7QmVxK0aDaLovelace"
LIKE_ADA = [
    *(
        SUB.upper(),
        SUB.lower(),
        SUB + " ",
        " " + SUB,
        SUB[:-1],
        SUB + "x",
        "acc%5F" + SUB[4:],
        SUB + "\u200b",
    ),
    *(
        SUB.replace("a", "\u0430"),
        SUB.replace("K", "\u212a"),
        SUB.replace("e", "e\u0301"),
        SUB + "\ufeff",
        "'" + SUB,
    ),
]


@pytest.mark.parametrize("sub", LIKE_ADA)
def test_an_identifier_like_somebodys_is_somebody_elses(
    site: Site, misbehaviour: Misbehaviour, sub: str
) -> None:
    """``sub`` is compared byte by byte, whatever the database thinks alike (CVE-2024-32879)."""
    ada = arrive(site, misbehaviour)
    misbehaviour.id_token(site.spatio.sign, sub=sub)

    other = arrive(site, misbehaviour, sub=sub)

    assert other != ada
    assert {account.sub for account in SpatioAccount.objects.all()} == {SUB, sub}


MANY = ["admins", "root", 1]
RIGHTS: dict[str, Any] = {
    **dict.fromkeys(("is_staff", "is_superuser", "is_active", "staff", "superuser", "admin"), True),
    **dict.fromkeys(("groups", "roles", "role", "group", "permissions", "user_permissions"), MANY),
    "realm_access": {"roles": ["admin"]},
    "scope": "openid admin",
    "id": 1,
    "pk": 1,
    "user_id": 1,
    "password": "x",
    "username": "root",
    "user": "root",
    "is_anonymous": False,
    "date_joined": "x",
    "last_login": "x",
}


@pytest.mark.parametrize("again", [False, True], ids=["first-sign-in", "next-sign-in"])
def test_no_claim_gives_a_right(
    site: Site, misbehaviour: Misbehaviour, people: dict[str, Any], *, again: bool
) -> None:
    """Nothing that ID token or userinfo say makes anybody staff, at the first sign-in or a later one."""
    group = Group.objects.create(name="admins")
    group.permissions.add(Permission.objects.get(codename="add_user"))
    if again:
        arrive(site, misbehaviour)
    say(misbehaviour, site, **RIGHTS)

    user = arrive(site, misbehaviour, **RIGHTS)

    assert user not in people.values()
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert user.get_all_permissions() == set()
    assert not user.groups.exists()
    assert not user.has_usable_password()


def test_no_claim_takes_a_deactivation_back(site: Site, misbehaviour: Misbehaviour) -> None:
    """A deactivated person stays out, whatever they say; their running session is over, tokens and all."""
    browser = site.browser()
    site.sign_in(browser)
    User.objects.update(is_active=False)
    say(misbehaviour, site, is_active=True)

    assert browser.get("/state/").json() == {"user": "", "account": None, "scopes": []}
    refused = site.sign_in(site.browser())

    assert (refused.status_code, refused.context["code"]) == (403, "inactive")
    assert not User.objects.get().is_active


def test_who_was_deleted_comes_back_as_nobody_in_particular(site: Site, misbehaviour: Misbehaviour) -> None:
    """No account, token or session of theirs is left; signing in again makes a new user without rights."""
    browser = site.browser()
    site.sign_in(browser)
    User.objects.update(is_superuser=True, is_staff=True)
    old = User.objects.get()
    assert browser.get("/editors/").status_code == 200
    old.delete()

    assert (SpatioAccount.objects.count(), SpatioToken.objects.count()) == (0, 0)
    assert browser.get("/state/").json()["user"] == ""
    new = arrive(site, misbehaviour)

    assert (new.is_staff, new.is_superuser) == (False, False)
    assert not new.user_permissions.exists()
    assert browser.get("/state/").json()["user"] == ""


# Tokens that are genuine, and were made for something else


def claims_of(token: str) -> dict[str, Any]:
    """Give the claims of a JWS."""
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


def instead(misbehaviour: Misbehaviour, make: Any) -> None:
    """Answer with another ID token, made from the claims of the honest one."""

    def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        document = json.loads(body)
        token = make(claims_of(document["id_token"]))
        return status, headers, json.dumps(document | {"id_token": token}).encode()

    misbehaviour.lies["/oauth2/token"] = lie


def without(claims: dict[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    """Give *claims* without some, and with others."""
    return {name: value for name, value in claims.items() if name not in names} | changes


LOGOUT: dict[str, dict[str, Any]] = {"http://schemas.openid.net/event/backchannel-logout": {}}
PURPOSES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "access token, RFC 9068": (
        lambda c: without(c, scope="openid", client_id=c["aud"]),
        {"typ": "at+jwt"},
        "typ",
    ),
    "access token, long type": (lambda c: c, {"typ": "application/at+jwt"}, "typ"),
    "access token, no type": (
        lambda c: without(c, "nonce", aud="https://api.spatio.app", client_id=c["aud"], jti="1"),
        {"typ": None},
        "aud",
    ),
    "access token for us, no type": (lambda c: without(c, "nonce", scope="openid"), {"typ": None}, "nonce"),
    "userinfo": (lambda c: without(c, "nonce", "exp", "iat", email="root@example.org"), {}, "exp"),
    "userinfo with times": (lambda c: without(c, "nonce", email="root@example.org"), {}, "nonce"),
    "logout token": (lambda c: without(c, "nonce", events=LOGOUT, jti="1"), {"typ": "logout+jwt"}, "typ"),
    "logout token, no type": (lambda c: without(c, "nonce", events=LOGOUT, jti="1"), {"typ": None}, "nonce"),
    "security event": (lambda c: without(c, "nonce", events={}), {"typ": "secevent+jwt"}, "typ"),
    "request object": (
        lambda c: without(c, iss=c["aud"], aud=c["iss"]),
        {"typ": "oauth-authz-req+jwt"},
        "typ",
    ),
    "client assertion": (lambda c: without(c, "nonce", iss=c["aud"], sub=c["aud"], aud=c["iss"]), {}, "iss"),
    "authorization response": (lambda c: without(c, "nonce", "sub", code="x", state="y"), {}, "sub"),
    "introspection answer": (lambda c: c, {"typ": "token-introspection+jwt"}, "typ"),
    "proof of possession": (lambda c: c, {"typ": "dpop+jwt"}, "typ"),
    "another client's": (lambda c: without(c, aud="another-client"), {}, "aud"),
    "another client's, with us as azp": (lambda c: without(c, aud="another-client", azp=c["aud"]), {}, "aud"),
    "another client's and ours": (
        lambda c: without(c, aud=["another-client", c["aud"]], azp="another-client"),
        {},
        "aud",
    ),
}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_genuine_token_made_for_something_else_signs_nobody_in(
    site: Site, misbehaviour: Misbehaviour, purpose: str
) -> None:
    """Spatio's own signature under it is not enough (RFC 8725 §3.11, §3.12)."""
    change, header, code = PURPOSES[purpose]
    instead(misbehaviour, site.spatio.sign)
    assert site.sign_in(site.browser()).status_code == 302
    User.objects.all().delete()
    instead(misbehaviour, lambda claims: site.spatio.sign(change(claims), **header))
    browser = site.browser()

    response = site.sign_in(browser)

    assert (response.status_code, response.context["code"]) == (502, code)
    assert browser.get("/state/").json()["user"] == ""
    assert (User.objects.count(), SpatioAccount.objects.count(), SpatioToken.objects.count()) == (0, 0, 0)


def test_a_storm_of_unknown_keys_fetches_the_keys_once(site: Site, misbehaviour: Misbehaviour) -> None:
    """Each forged token names another key; within a minute they cost Spatio one call, and no sign-in."""
    keys = "/.well-known/jwks.json"
    assert site.sign_in(site.browser()).status_code == 302
    assert len(site.spatio.calls(keys)) == 1
    for number in range(12):
        instead(misbehaviour, lambda claims, kid=f"unknown-{number}": site.spatio.sign(claims, kid=kid))
        assert site.sign_in(site.browser()).context["code"] == "kid"

    assert len(site.spatio.calls(keys)) == 2
    misbehaviour.lies.clear()
    assert site.sign_in(site.browser()).status_code == 302
    assert len(site.spatio.calls(keys)) == 2
