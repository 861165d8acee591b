"""The admin: to look at accounts and grants and to end them, and never a token."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from spatio_django import revocation, tokens
from spatio_django.admin import LookOnly, SpatioAccountAdmin, SpatioTokenAdmin, moment, user_fields
from spatio_django.models import GrantState, PendingRevocation, SpatioAccount, SpatioClient, SpatioToken
from tests.conftest import Site
from tests.customuser.models import EmailAndUsernameUser, EmailUser, HandleUser
from tests.test_maintenance import ago, people

User = get_user_model()
#: What the admin shows, by the name of its pages.
MODELS: dict[str, Any] = {
    "spatioaccount": SpatioAccount,
    "spatiotoken": SpatioToken,
    "pendingrevocation": PendingRevocation,
    "spatioclient": SpatioClient,
}
NAMES = tuple(MODELS)


def url(name: str, page: str = "changelist", *args: Any) -> str:
    """Give the address of a page of our part of the admin."""
    return reverse(f"admin:spatio_django_{name}_{page}", args=args)


def staff(*permissions: str) -> Client:
    """Give a browser of somebody with those permissions; of a superuser if there are none."""
    name = f"staff{User.objects.count()}"
    user = User.objects.create_user(name, is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def act(browser: Client, name: str, action: str, *rows: Any, **more: str) -> Any:
    """Choose rows of a list, and an action."""
    data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return browser.post(url(name), data, follow=True)


def text_of(response: Any) -> str:
    """Give a page's text without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


@pytest.fixture
def grants(site: Site) -> list[SpatioToken]:
    """Give three people with a grant each, and a fourth whose tokens are still to be revoked."""
    made = people(4, issuer=site.spatio.issuer, client_id=SpatioClient.objects.get().client_id)
    revocation.end_all([made[3].pk], "signed_out", later=True)
    return made[:3]


def secrets() -> list[str]:
    """Give all ciphertext and all that is behind it, and the handles that sessions hold."""
    found: list[str] = []
    for model in (SpatioToken, PendingRevocation, SpatioClient):
        for row in model._default_manager.all():
            found += [value for name, value in vars(row).items() if name.endswith("_ciphertext")]
            found += [getattr(row, name, "") for name in ("handle", "place") if model is not SpatioClient]
            names = ("access_token", "refresh_token", "client_secret", "registration_access_token")
            found += [secret.reveal() for name in names if (secret := getattr(row, name, None)) is not None]
    return sorted(set(filter(None, found)))


# No token


def test_no_page_shows_a_token_in_clear_or_sealed(grants: list[SpatioToken], site: Site) -> None:
    """Lists, details, history, confirmations, and what somebody reads after an action."""
    browser = staff()
    hidden = secrets()
    assert len(hidden) >= 16
    pages: list[Any] = []
    for name in NAMES:
        model = MODELS[name]
        key = model._default_manager.first().pk
        pages += [browser.get(url(name)), browser.get(url(name), {"q": "user1"})]
        pages += [browser.get(url(name, page, key)) for page in ("change", "history")]
        if name in {"spatioaccount", "spatiotoken"}:
            pages.append(browser.get(url(name, "delete", key)))
            pages.append(act(browser, name, "delete_selected", model._default_manager.first()))
    pages.append(browser.get(reverse("admin:auth_user_delete", args=[grants[0].account.user_id])))
    pages.append(act(browser, "spatiotoken", "sign_out", grants[0]))
    pages.append(act(browser, "spatioaccount", "sign_out_everywhere", grants[1].account))
    pages.append(browser.post(url("spatiotoken", "delete", grants[2].pk), {"post": "yes"}, follow=True))
    pages.append(browser.get(url("spatiotoken", "history", grants[0].pk)))
    pages.append(browser.get(reverse("admin:index")))

    for page in pages:
        assert page.status_code == 200
        html = page.content.decode()
        assert not [each for each in hidden if each in html], page.request["PATH_INFO"]
    noted = "".join(f"{entry} {entry.change_message} {entry.object_repr}" for entry in LogEntry.objects.all())
    assert "Signed out" in noted
    assert not [each for each in hidden if each in noted]


def test_the_lists_leave_the_ciphertext_in_the_database(grants: list[SpatioToken]) -> None:
    """What was not read is in no error report either."""
    browser = staff()
    for name in NAMES[1:]:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(url(name)).status_code == 200
        assert not any("_ciphertext" in query["sql"] for query in captured)


# Looking


def test_details_say_what_an_operator_needs(grants: list[SpatioToken]) -> None:
    """When it expires and was last seen, as moments."""
    SpatioToken.objects.filter(pk=grants[0].pk).update(expires_ms=1_700_000_000_000, seen_ms=0)

    page = text_of(staff().get(url("spatiotoken", "change", grants[0].pk)))

    assert "Nov. 14, 2023, 4:13 p.m." in page  # 22:13 UTC, in the zone of Django's default
    assert "Last seen: -" in page
    account = staff().get(url("spatioaccount", "change", grants[0].account_id)).content.decode()
    assert f'href="{url("spatiotoken")}?account__id__exact={grants[0].account_id}"' in account
    only = staff().get(url("spatiotoken"), {"account__id__exact": grants[0].account_id})
    assert "1 Spatio grant" in text_of(only)


def test_an_account_leads_to_its_grants_only_whom_may_see_them(grants: list[SpatioToken]) -> None:
    """A link that ends at "403 Forbidden" helps nobody: there is a dash."""
    page = url("spatioaccount", "change", grants[0].account_id)
    for more in ("view_spatiotoken", "change_spatiotoken"):
        assert "Show its grants" in text_of(staff("view_spatioaccount", more).get(page))

    shown = text_of(staff("view_spatioaccount", "delete_spatiotoken").get(page))

    assert "Grants: - " in shown
    assert "Show its grants" not in shown


@pytest.mark.parametrize("registered", [True, False])
def test_an_admin_without_grants_shows_accounts_all_the_same(
    grants: list[SpatioToken], rf: Any, registered: bool
) -> None:
    """A site may register what it likes in an admin of its own, with a dash of its own."""
    own = admin.AdminSite("admin")
    own.empty_value_display = "nothing"
    own.register(SpatioAccount, SpatioAccountAdmin)
    if registered:
        own.register(SpatioToken, SpatioTokenAdmin)
    request = rf.get("/")
    request.user = User.objects.create_superuser("root")

    account = own.get_model_admin(SpatioAccount).get_object(request, str(grants[0].account_id))

    shown = own.get_model_admin(SpatioAccount).grants(account)  # type: ignore[attr-defined]
    assert ("Show its grants" in shown) == registered
    assert (shown == "nothing") != registered
    assert own.get_model_admin(SpatioAccount).get_object(request, "0") is None


@pytest.mark.parametrize("ms", [None, 0, 10**18, -(10**18)])
def test_a_moment_beyond_any_calendar_is_shown_as_a_dash(ms: int | None) -> None:
    """A provider may say anything; the page is there all the same."""
    assert "Dec. 31, 1969" in moment(1)

    assert moment(ms) == "-"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_can_be_added_or_changed(grants: list[SpatioToken], name: str) -> None:
    """Not even by a superuser."""
    browser = staff()
    row = SpatioToken.objects.first() if name == "spatiotoken" else None
    assert browser.get(url(name)).status_code == 200
    assert browser.get(url(name, "add")).status_code == 403
    if row is not None:
        before = SpatioToken.objects.filter(pk=row.pk).values().get()
        assert browser.post(url(name, "change", row.pk), {"state": "dead"}).status_code == 403
        assert SpatioToken.objects.filter(pk=row.pk).values().get() == before


@pytest.mark.parametrize("name", NAMES[2:])
def test_what_is_needed_elsewhere_can_not_be_deleted(grants: list[SpatioToken], name: str) -> None:
    """A queued revocation would be forgotten, and a client's secret lost."""
    model = PendingRevocation if name == "pendingrevocation" else SpatioClient
    row = model._default_manager.get()

    assert staff().post(url(name, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.exists()


NOT_SHOWN = [
    (name, field.name)
    for name, model in MODELS.items()
    for field in model._meta.concrete_fields
    if field.name not in {"id", *admin.site._registry[model].list_display}
    and field.name not in (admin.site._registry[model].fields or ())
]


def test_what_is_not_shown_is_known_here() -> None:
    """The list that the next test goes through is made from the models, and has all that is secret."""
    fields = {field for _name, field in NOT_SHOWN}

    assert {"access_ciphertext", "refresh_ciphertext", "secret_ciphertext", "handle", "place"} <= fields
    assert "lease_id" in fields
    assert not fields & {"state", "issuer", "sub", "scope", "created_at", "reason"}


@pytest.mark.parametrize(("name", "field"), NOT_SHOWN)
def test_nobody_finds_out_what_is_not_shown_by_asking_for_it(
    grants: list[SpatioToken], monkeypatch: pytest.MonkeyPatch, name: str, field: str
) -> None:
    """Rows that are there or not would tell a ciphertext or a session's handle, letter by letter."""
    browser = staff(f"view_{name}")
    value = str(MODELS[name]._default_manager.values_list(field, flat=True).first())
    queries = [{f"{field}__startswith": value[:3]}, {f"{field}__isnull": "0"}, {field: value}]
    assert browser.get(url(name)).status_code == 200
    with monkeypatch.context() as patch:
        patch.delattr(LookOnly, "lookup_allowed")  # as Django has it
        assert {browser.get(url(name), query).status_code for query in queries} <= {200, 302}

    assert [browser.get(url(name), query).status_code for query in queries] == [400] * 3


def test_nobody_finds_out_more_by_way_of_another_model(grants: list[SpatioToken]) -> None:
    """Django's own rule, which stays: no relation is followed that no filter names."""
    browser = staff("view_spatioaccount", "view_spatiotoken")
    assert browser.get(url("spatiotoken"), {"account__id__exact": "1"}).status_code == 200

    for name, lookup in (
        ("spatioaccount", "user__password__startswith"),
        ("spatioaccount", "tokens__handle__startswith"),
        ("spatiotoken", "account__user__password__startswith"),
        ("spatiotoken", "account__identity_digest__startswith"),
    ):
        assert browser.get(url(name), {lookup: "a"}).status_code == 400, lookup


def test_what_is_shown_can_be_asked_for(grants: list[SpatioToken]) -> None:
    """All filters, as their links have it, and what links and bookmarks ask for."""
    browser = staff(*(f"view_{name}" for name in NAMES))
    asked = 0
    for name in NAMES:
        page = browser.get(url(name))
        links = [
            choice["query_string"]
            for spec in page.context["cl"].filter_specs
            for choice in spec.choices(page.context["cl"])
        ]
        asked += len(links)
        assert {browser.get(url(name) + link).status_code for link in ["?id=1", "?pk__in=1", *links]} == {200}
    assert asked >= 20


def test_filters_that_a_site_adds_can_be_asked_for(grants: list[SpatioToken], rf: Any) -> None:
    """Whatever they are about: the site has decided to show it."""
    filters = (("seen_ms", admin.AllValuesFieldListFilter), "ttl_ms", "account__issuer")
    more = type("More", (SpatioTokenAdmin,), {"list_filter": filters})
    request = rf.get("/")
    request.user = User.objects.create_superuser("root")
    lookups = ("seen_ms", "ttl_ms__isnull", "account__issuer__exact")
    before, after = (kind(SpatioToken, admin.site) for kind in (SpatioTokenAdmin, more))

    assert [before.lookup_allowed(lookup, "1", request) for lookup in lookups] == [False] * 3
    assert [after.lookup_allowed(lookup, "1", request) for lookup in lookups] == [True] * 3
    assert not after.lookup_allowed("handle__startswith", "1", request)


@pytest.mark.parametrize("name", NAMES)
def test_more_rows_cost_no_more_queries(grants: list[SpatioToken], name: str) -> None:
    """Users and accounts are read along."""
    browser = staff()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(url(name)).status_code == 200
        return len(captured)

    queries()  # content types are remembered
    few = queries()
    more = people(12, issuer="https://i")
    revocation.end_all([grant.pk for grant in more[:6]], "signed_out", later=True)

    assert queries() == few


def test_grants_are_found_by_whose_they_are_and_by_subject(grants: list[SpatioToken]) -> None:
    """By username, e-mail address, subject and issuer."""
    User.objects.filter(username="user2").update(email="cleo@example.com")
    browser = staff()

    for wanted in ("user2", "cleo@", "acc_user2"):
        for name, noun in (("spatiotoken", "Spatio grant"), ("spatioaccount", "Spatio account")):
            page = text_of(browser.get(url(name), {"q": wanted}))
            assert f"1 {noun} " in page, (wanted, name)
    assert "4 Spatio accounts" in text_of(browser.get(url("spatioaccount"), {"q": "http://"}))
    assert "0 Spatio accounts" in text_of(browser.get(url("spatioaccount"), {"q": "nobody"}))


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (User, ["user__username", "user__email"]),
        (EmailUser, ["user__email"]),
        (EmailAndUsernameUser, ["user__email"]),
        (HandleUser, ["user__handle"]),
    ],
)
def test_any_user_model_can_be_searched(
    monkeypatch: pytest.MonkeyPatch, model: Any, fields: list[str]
) -> None:
    """By what it has; a field that it lacks would be an error 500."""
    # The user model can't be swapped in a running process.
    monkeypatch.setattr("spatio_django.admin.get_user_model", lambda: model)

    assert user_fields("user") == fields


def test_grants_are_filtered_by_state_and_expiry(grants: list[SpatioToken]) -> None:
    """On the database's clock."""
    SpatioToken.objects.filter(pk=grants[0].pk).update(expires_ms=ago(0.01))
    SpatioToken.objects.filter(pk=grants[1].pk).update(expires_ms=ago(-60 / 86400))
    browser = staff()

    def found(**query: str) -> set[int]:
        response = browser.get(url("spatiotoken"), query)
        return {row.pk for row in response.context["cl"].result_list}

    assert len(found()) == 4
    assert found(state__exact="active") == {grant.pk for grant in grants}
    assert found(expiry="expired") == {grants[0].pk}
    assert found(expiry="soon") == {grants[1].pk}
    assert len(found(expiry="later")) == 2
    SpatioToken.objects.filter(pk=grants[2].pk).update(expires_ms=None)
    assert found(expiry="unknown") == {grants[2].pk}
    assert len(found(expiry="nonsense")) == 4


# Ending


def test_signing_out_ends_the_chosen_grants_and_revokes(site: Site) -> None:
    """Their sessions are over with the next request, the others go on; the history says who did it."""
    laptop, phone = site.browser(), site.browser()
    site.sign_in(laptop)
    site.sign_in(phone)
    assert laptop.get("/state/").json()["user"] == "ada"
    grant = SpatioToken.objects.get(handle=laptop.session[tokens.SESSION_KEY])
    browser = staff()

    response = act(browser, "spatiotoken", "sign_out", grant)

    assert "1 grant ended." in text_of(response)
    grant.refresh_from_db()
    assert (grant.state, grant.ended) == (GrantState.REVOKED, "signed_out")
    assert len(site.spatio.calls("/oauth2/revoke")) == 2
    assert laptop.get("/state/").json()["user"] == ""
    assert phone.get("/state/").json()["user"] == "ada"
    assert "Signed out." in text_of(browser.get(url("spatiotoken", "history", grant.pk)))
    assert "0 grants ended." in text_of(act(browser, "spatiotoken", "sign_out", grant))


def test_signing_out_everywhere_ends_all_that_a_user_has(site: Site) -> None:
    """And the next sign-in rests on a new proof of identity."""
    laptop, phone = site.browser(), site.browser()
    site.sign_in(laptop)
    site.sign_in(phone)
    account = SpatioAccount.objects.get()

    response = act(staff(), "spatioaccount", "sign_out_everywhere", account)

    assert "2 grants ended." in text_of(response)
    account.refresh_from_db()
    assert account.reauth_after is not None
    assert laptop.get("/state/").json()["user"] == phone.get("/state/").json()["user"] == ""
    assert set(SpatioToken.objects.values_list("ended", flat=True)) == {"signed_out_everywhere"}


def test_all_that_a_search_found_can_be_signed_out(grants: list[SpatioToken]) -> None:
    """Also what is on other pages of the list."""
    people(150, issuer="https://other")
    response = act(staff(), "spatiotoken", "sign_out", grants[0], select_across="1", index="0")

    assert "153 grants ended." in text_of(response)


@pytest.mark.parametrize("way", ["delete", "delete_selected"])
@pytest.mark.parametrize("name", ["spatiotoken", "spatioaccount"])
def test_deleting_revokes(
    grants: list[SpatioToken], site: Site, django_capture_on_commit_callbacks: Any, name: str, way: str
) -> None:
    """One grant, or an account with its grants."""
    row = grants[0] if name == "spatiotoken" else grants[0].account
    browser = staff()
    assert not site.spatio.calls("/oauth2/revoke")
    with django_capture_on_commit_callbacks(execute=True):
        if way == "delete":
            browser.post(url(name, "delete", row.pk), {"post": "yes"})
        else:
            act(browser, name, "delete_selected", row, post="yes")

    assert not SpatioToken.objects.filter(pk=grants[0].pk).exists()
    assert len(site.spatio.calls("/oauth2/revoke")) == 2  # the refresh token, and the access token
    assert not PendingRevocation.objects.filter(reason="deleted").exists()


# Permissions


@pytest.mark.parametrize(
    ("permission", "actions"),
    [
        ("view_spatiotoken", set()),
        ("change_spatiotoken", {"sign_out"}),
        ("delete_spatiotoken", {"delete_selected"}),
    ],
)
def test_an_action_is_for_those_who_may(
    grants: list[SpatioToken], rf: Any, permission: str, actions: set[str]
) -> None:
    """Signing out changes a grant: Django's permission for that."""
    browser = staff(permission, "view_spatiotoken")
    request = rf.get("/")
    request.user = User.objects.latest("pk")

    assert set(SpatioTokenAdmin(SpatioToken, admin.site).get_actions(request)) == actions

    act(browser, "spatiotoken", "sign_out", grants[0])
    assert SpatioToken.objects.get(pk=grants[0].pk).state == (
        "revoked" if "sign_out" in actions else "active"
    )
    may_delete = browser.post(url("spatiotoken", "delete", grants[1].pk), {"post": "yes"}).status_code == 302
    assert may_delete == ("delete_selected" in actions)


def test_signing_out_everywhere_is_for_those_who_may_change_accounts(grants: list[SpatioToken]) -> None:
    """Looking at them is not enough."""
    account = grants[0].account
    act(staff("view_spatioaccount"), "spatioaccount", "sign_out_everywhere", account)
    assert SpatioToken.objects.get(pk=grants[0].pk).state == GrantState.ACTIVE

    act(staff("change_spatioaccount"), "spatioaccount", "sign_out_everywhere", account)
    assert SpatioToken.objects.get(pk=grants[0].pk).state == GrantState.REVOKED


def test_who_may_nothing_sees_nothing(grants: list[SpatioToken]) -> None:
    """No permission, no page."""
    browser = staff("view_group")

    assert [browser.get(url(name)).status_code for name in NAMES] == [403] * 4
