"""From verified claims to a user."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import aauthenticate, authenticate, get_user_model
from django.contrib.auth.models import User as DjangoUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.validators import RegexValidator
from django.db import IntegrityError, OperationalError, connection, models
from django.test.utils import CaptureQueriesContext

from spatio_django.backends import SpatioBackend, clean_claims, clean_text
from spatio_django.exceptions import LoginRefused
from spatio_django.flow import CompletedLogin, merged
from spatio_django.models import SpatioAccount, SpatioToken
from spatio_django.oidc.responses import TokenResponse
from spatio_django.oidc.secret import Secret
from tests.conftest import Site, run_async

User = get_user_model()
ISSUER = "https://api.spatio.app"

pytestmark = pytest.mark.django_db


def completed(sub: str = "acc_1", issuer: str = ISSUER, **claims: Any) -> CompletedLogin:
    """Give a sign-in that held."""
    return CompletedLogin(
        issuer=issuer,
        subject=sub,
        client_id="client",
        claims={"sub": sub, **claims},
        id_token_claims={"iss": issuer, "sub": sub},
        tokens=TokenResponse(access_token=Secret("tok")),
        scopes=("openid",),
        next_url=None,
    )


def sign_in(sub: str = "acc_1", **claims: Any) -> Any:
    """Let the backend turn a sign-in into a user."""
    return SpatioBackend().authenticate(None, spatio_login=completed(sub, **claims))


def refusal(sub: str = "acc_1", **claims: Any) -> str:
    """Give the code that the backend refuses a sign-in with."""
    with pytest.raises(LoginRefused) as caught:
        sign_in(sub, **claims)
    return caught.value.code


def test_a_first_sign_in_makes_a_user_from_the_claims() -> None:
    """Readable username, names, e-mail; unusable password; no rights, whatever the claims say."""
    user = sign_in(
        preferred_username="ada",
        given_name="Ada",
        family_name="Lovelace",
        email="ada@EXAMPLE.com",
        is_staff=True,
        is_superuser=True,
        groups=["admin"],
    )

    assert (user.username, user.first_name, user.last_name) == ("ada", "Ada", "Lovelace")
    assert user.email == "ada@example.com"
    assert not user.has_usable_password()
    assert (user.is_staff, user.is_superuser, user.groups.exists()) == (False, False, False)


def test_the_person_is_issuer_and_sub_and_nothing_else() -> None:
    """Letter case, another issuer and the same e-mail address make other people (CVE-2024-32879)."""
    first = sign_in("acc_A", email="same@example.com", preferred_username="ada")
    others = [
        sign_in("acc_a", email="same@example.com", preferred_username="ada"),
        SpatioBackend().authenticate(
            None, spatio_login=completed("acc_A", issuer=ISSUER + "/", email="same@example.com")
        ),
    ]

    assert len({first.pk, *(user.pk for user in others)}) == 3
    assert sign_in("acc_A", email="new@example.com", preferred_username="zed").pk == first.pk
    assert SpatioAccount.objects.identified_by(ISSUER, "acc_A").email == "new@example.com"  # type: ignore[union-attr]


def test_a_changed_address_does_not_change_the_user() -> None:
    """What Spatio says now is kept with the account; the site's user is the site's."""
    user = sign_in(email="old@example.com")
    sign_in(email="new@example.com")
    user.refresh_from_db()

    assert user.email == "old@example.com"


def test_nobody_is_taken_over_by_an_address() -> None:
    """Defect 26: an unverified or a verified address of root makes a new user, not root."""
    root = User.objects.create_superuser("root", "root@example.com")

    for verified in (False, True):
        user = sign_in(f"acc_{verified}", email="ROOT@example.com", email_verified=verified)
        assert user.pk != root.pk
        assert not user.is_superuser


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@example.com"])
def test_linking_by_verified_address_joins_the_one_user(settings: Any, email: str) -> None:
    """Opted in, verified, one match."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    ada = User.objects.create_user("ada", "ada@example.com")

    assert sign_in(email=email, email_verified=True).pk == ada.pk


@pytest.mark.parametrize("claim", [False, None, "true", 1])
def test_linking_needs_true_and_nothing_like_it(settings: Any, claim: Any) -> None:
    """A missing ``email_verified`` is false; so are text and numbers."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    ada = User.objects.create_user("ada", "ada@example.com")

    assert sign_in(email="ada@example.com", email_verified=claim).pk != ada.pk


@pytest.mark.parametrize(
    "email", ["boss\x01@example.com", " boss@example.com", "boss@example.com\x7f", "bo\u017fs@example.com"]
)
def test_linking_takes_the_address_that_was_verified_and_no_other(settings: Any, email: str) -> None:
    """What has to be cleaned first, or only looks alike, is another address."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    boss = User.objects.create_user("boss", "boss@example.com")

    assert sign_in(email=email, email_verified=True).pk != boss.pk


def test_linking_joins_nobody_who_came_from_spatio(settings: Any) -> None:
    """Who came first with an unverified address must not have the victim join them (pre-hijacking)."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    attacker = sign_in("acc_attacker", email="victim@example.com", email_verified=False)

    victim = sign_in("acc_victim", email="victim@example.com", email_verified=True)

    assert victim.pk != attacker.pk


def test_linking_leaves_no_account_at_an_inactive_user(settings: Any) -> None:
    """Refused, and not half joined."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    User.objects.create_user("ada", "ada@example.com", is_active=False)

    assert refusal(email="ada@example.com", email_verified=True) == "inactive"
    assert SpatioAccount.objects.count() == 0


def test_an_address_that_does_not_fit_is_left_out() -> None:
    """Cut to size it would be another address."""
    long = "a" * 250 + "@example.com"

    assert sign_in(email=long, email_verified=True).email == ""


@pytest.mark.parametrize(
    ("id_token", "userinfo", "verified"),
    [
        ({"email": "a", "email_verified": True}, {"email": "b"}, None),
        ({"email": "a", "email_verified": True}, {"email": "b", "email_verified": False}, False),
        ({"email": "a"}, {"email_verified": True}, None),
        ({"email": "a", "email_verified": True}, {"name": "x"}, True),
        ({}, {"email": "a", "email_verified": True}, True),
    ],
)
def test_what_one_source_says_of_an_address_is_not_said_of_the_others(
    id_token: dict[str, Any], userinfo: dict[str, Any], verified: Any
) -> None:
    """``email_verified`` belongs to the ``email`` beside it."""
    assert merged(id_token, userinfo).get("email_verified") is verified


@pytest.mark.parametrize("rights", [{"is_staff": True}, {"is_superuser": True}])
def test_linking_never_joins_staff(settings: Any, rights: Any) -> None:
    """Rights need more proof than an address."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    ada = User.objects.create_user("ada", "ada@example.com", **rights)

    assert sign_in(email="ada@example.com", email_verified=True).pk != ada.pk


def test_linking_joins_nobody_when_two_could_be_meant(settings: Any) -> None:
    """Two users with one address: a new user."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    known = {User.objects.create_user(name, "ada@example.com").pk for name in ("ada", "eve")}

    assert sign_in(email="ada@example.com", email_verified=True).pk not in known


def test_linking_compares_letters_and_not_what_a_database_thinks_alike(settings: Any) -> None:
    """A wide comparison in the database joins nobody (CVE-2019-19844)."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    ada = User.objects.create_user("ada", "mike@example.org")

    class Wide(SpatioBackend):
        """As if the database folded dotless i."""

        def email_field(self) -> str:
            """Make the query match everybody."""
            return "email"

    backend = Wide()
    backend.UserModel = _MatchingAll
    assert not list(
        backend.filter_users_by_claims({"email": "m\u0131ke@example.org", "email_verified": True})
    )
    assert list(backend.filter_users_by_claims({"email": "mike@example.org", "email_verified": True})) == [
        ada
    ]


class _AllManager:
    """Matches every user, whatever is asked."""

    def using(self, alias: str) -> Any:
        """Give users whose filter ignores the e-mail address."""
        users = User.objects.all()
        every = users.filter

        def wide(**query: Any) -> Any:
            return every(**({} if "email__iexact" in query else query))

        users.filter = wide  # type: ignore[method-assign]
        return users


class _MatchingAll:
    _default_manager = _AllManager()


def test_a_site_can_keep_newcomers_out(settings: Any) -> None:
    """``SPATIO_CREATE_USERS = False`` lets in who has an account, and nobody else."""
    known = sign_in("acc_known")
    settings.SPATIO_CREATE_USERS = False

    assert sign_in("acc_known").pk == known.pk
    assert refusal("acc_new") == "no_account"
    assert User.objects.count() == 1


def test_an_inactive_user_is_not_let_in() -> None:
    """And nothing is changed."""
    sign_in()
    User.objects.update(is_active=False)

    assert refusal() == "inactive"


@pytest.mark.parametrize(
    ("claims", "username"),
    [
        ({"preferred_username": "ada"}, "ada"),
        ({"preferred_username": "Ada Lovelace!"}, "Ada-Lovelace"),
        ({"email": "ada.l@example.com"}, "ada.l"),
        ({"name": "Zoë Ångström-李"}, "Zoë-Ångström-李"),
        ({"preferred_username": "victim@example.com"}, "victim-example.com"),
        ({"preferred_username": "\x00\x1b[31m", "name": "Bo"}, "31m"),
        ({"preferred_username": 7, "email": ["x"], "name": {}}, "spatio"),
        ({}, "spatio"),
        ({"preferred_username": "a" * 500}, "a" * 150),
    ],
)
def test_usernames_are_readable(claims: dict[str, Any], username: str) -> None:
    """From the first claim that makes one."""
    assert sign_in(**claims).username == username


def test_usernames_are_unique_in_the_usual_letter_cases() -> None:
    """The second Ada gets a number, the eleventh random letters; hardly anybody looks like somebody else."""
    names = [
        sign_in(f"acc_{number}", preferred_username=name).username
        for number, name in enumerate(["ada", "ADA"] * 6)
    ]

    assert names[:4] == ["ada", "ADA2", "ada3", "ADA4"]
    assert len({name.lower() for name in names}) == 12
    User.objects.create_user("Grace")
    User.objects.create_user("Mary-Anning")
    assert sign_in("acc_grace", preferred_username="grace").username == "grace2"
    assert sign_in("acc_mary", preferred_username="mary-anning").username == "mary-anning2"
    assert sign_in("acc_long", preferred_username="a" * 150).username == "a" * 150
    assert sign_in("acc_long2", preferred_username="a" * 150).username == "a" * 149 + "2"


def test_two_people_without_a_name_get_two_users() -> None:
    """Defect 27: there, the second is an IntegrityError."""
    assert sign_in("acc_1").pk != sign_in("acc_2").pk


def test_claims_of_the_wrong_type_are_not_kept() -> None:
    """Only what the specification says they are, as text that every database takes."""
    kept = clean_claims(
        {
            "sub": "acc_1",
            "name": "A\x00d\ud800a",
            "email": 7,
            "email_verified": "true",
            "updated_at": True,
            "picture": "x" * 5000,
            "nonce": "secret",
            "unknown": "x",
        }
    )

    assert kept == {"sub": "acc_1", "name": "Ada", "picture": "x" * 2048}
    assert clean_claims({"email_verified": False, "updated_at": 7}) == {
        "email_verified": False,
        "updated_at": 7,
    }
    assert clean_claims({"updated_at": 2**60}) == {}
    assert clean_claims({"sub": " a ", "name": " a "}) == {"sub": " a ", "name": "a"}
    assert clean_text(" x ", most=5) == "x"


@pytest.mark.django_db(transaction=True)
def test_two_first_sign_ins_at_once_make_one_user() -> None:
    """The unique identity decides; the loser takes the winner's account."""

    def first(_: int) -> int:
        try:
            return int(sign_in("acc_race", preferred_username="ada").pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        users = set(threads.map(first, range(8)))

    assert len(users) == 1
    assert (User.objects.count(), SpatioAccount.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("same", [True, False])
def test_many_first_sign_ins_at_once_all_get_in(same: bool) -> None:
    """Twelve people, who may all want one name: nobody meets a lock, or another's name."""

    def first(number: int) -> str:
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            # Django's default, and so every new project's:
            connection.transaction_mode = None  # type: ignore[attr-defined]
        try:
            wanted = "club" if same else f"ada{number:02}x"
            return str(sign_in(f"acc_{number}", preferred_username=wanted).username)
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as threads:
        names = sorted(threads.map(first, range(12)))

    assert names[0] == "club" if same else names == [f"ada{number:02}x" for number in range(12)]
    assert len(set(names)) == 12
    assert (User.objects.count(), SpatioAccount.objects.count()) == (12, 12)


@pytest.mark.parametrize("locks_rows", [True, False])
def test_only_a_database_with_one_lock_is_asked_for_it_first(
    monkeypatch: pytest.MonkeyPatch, locks_rows: bool
) -> None:
    """By a write that changes nothing: elsewhere it would lock what others wait for."""
    monkeypatch.setattr(connection.features, "has_select_for_update", locks_rows)
    with CaptureQueriesContext(connection) as queries:
        sign_in()

    writes = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert writes[0].startswith("INSERT" if locks_rows else "UPDATE")


def test_a_first_sign_in_looks_through_no_table() -> None:
    """Names are compared as they are written, which an index knows, and not in any letter case."""
    User.objects.create_user("ADA")
    with CaptureQueriesContext(connection) as queries:
        assert sign_in(preferred_username="ada").username == "ada2"

    asked = [query["sql"] for query in queries if "auth_user" in query["sql"]]
    assert sum("username" in sql and "IN (" in sql for sql in asked) == 2
    assert not any("UPPER" in sql or "LIKE" in sql for sql in asked), asked


def test_the_loser_of_a_race_takes_the_winners_account() -> None:
    """Somebody else inserted the account between our look and our insert: no second user stays."""

    class Overtaken(SpatioBackend):
        """Looks, is overtaken, and inserts."""

        def new_account(self, login: CompletedLogin, claims: dict[str, Any]) -> SpatioAccount:
            """Be overtaken."""
            sign_in()
            return super().new_account(login, claims)

    user = Overtaken().authenticate(None, spatio_login=completed())

    assert (User.objects.count(), SpatioAccount.objects.get().user_id) == (1, user.pk)


def test_a_username_taken_meanwhile_is_tried_again() -> None:
    """Two different people who both want "ada" at the same moment both get in."""

    class Unlucky(SpatioBackend):
        """Finds its first choice taken only at the insert."""

        tries = 0

        def get_username(self, claims: dict[str, Any]) -> str:
            """Give a taken name first."""
            self.tries += 1
            return "ada" if self.tries == 1 else super().get_username(claims)

    sign_in("acc_1", preferred_username="ada")

    user = Unlucky().authenticate(None, spatio_login=completed("acc_2", preferred_username="ada"))
    assert user.username == "ada2"


@pytest.mark.parametrize(
    ("error", "username"), [(IntegrityError, r"ada-[a-z0-9]{8}"), (OperationalError, "ada")]
)
def test_a_name_that_is_fought_over_gets_letters(error: type[Exception], username: str) -> None:
    """Everybody who loses would want the same next number. A lock says nothing about the name."""

    class Contended(SpatioBackend):
        """Meets another request twice."""

        tries = 0

        def create_user(self, claims: dict[str, Any]) -> Any:
            """Be too late."""
            self.tries += 1
            if self.tries < 3:
                raise error
            return super().create_user(claims)

    user = Contended().authenticate(None, spatio_login=completed(preferred_username="ada"))
    assert re.fullmatch(username, user.username)


def test_a_lock_is_not_blamed_on_an_address() -> None:
    """That somebody has the address is no reason then, and would be no help."""

    class Locked(SpatioBackend):
        """Its database is busy."""

        def create_user(self, claims: dict[str, Any]) -> Any:
            """Fail."""
            raise OperationalError

    User.objects.create_user("ada", "ada@example.com")

    with pytest.raises(OperationalError):
        Locked().authenticate(None, spatio_login=completed(email="ada@example.com"))


def test_a_hook_that_never_fits_the_database_is_given_up() -> None:
    """Three tries, then the database's own error, which the callback turns into a page."""

    class Broken(SpatioBackend):
        """Always gives the same name."""

        def get_username(self, claims: dict[str, Any]) -> str:
            """Give a taken name."""
            return "ada"

    sign_in("acc_1", preferred_username="ada")

    with pytest.raises(IntegrityError):
        Broken().authenticate(None, spatio_login=completed("acc_2"))


def test_an_address_that_the_database_will_not_take_twice_is_explained() -> None:
    """Constraints of any kind are met, not read: ``UniqueConstraint(Lower("email"))`` for one."""

    class Constrained(SpatioBackend):
        """Its users' table refuses the row."""

        def create_user(self, claims: dict[str, Any]) -> Any:
            """Be refused."""
            raise IntegrityError

    User.objects.create_user("ada", "Ada@example.com")

    with pytest.raises(LoginRefused) as caught:
        Constrained().authenticate(None, spatio_login=completed(email="ada@example.com"))
    assert caught.value.code == "email_taken"


def test_a_username_that_the_field_does_not_take_is_no_username() -> None:
    """The field's own validators decide, and the next claim is tried."""
    letters: models.Field[Any, Any] = models.CharField(validators=[RegexValidator("^[a-z]+$")])

    assert SpatioBackend.clean_username("ada", letters, 10) == "ada"
    assert SpatioBackend.clean_username("ada-1", letters, 10) == ""


@pytest.mark.django_db(transaction=True)
def test_password_logins_are_not_captured(settings: Any) -> None:
    """Defects 30 and 32: neither ``authenticate`` nor ``aauthenticate`` reacts to a password."""
    eve = DjangoUser.objects.create_user("eve", password="right")

    async def password_login() -> Any:
        return await aauthenticate(None, username="eve", password="right")

    assert authenticate(None, username="eve", password="right") == eve
    assert run_async(password_login()) == eve
    settings.AUTHENTICATION_BACKENDS = ["spatio_django.backends.SpatioBackend"]

    assert authenticate(None, username="eve", password="right") is None
    assert run_async(password_login()) is None


@pytest.mark.django_db(transaction=True)
def test_aauthenticate_signs_in_as_authenticate_does() -> None:
    """The async twin is ours too."""

    async def sign_in_async() -> Any:
        return await SpatioBackend().aauthenticate(None, spatio_login=completed())

    assert run_async(sign_in_async()).username == "spatio"


def test_the_parents_way_through_the_protocol_is_closed() -> None:
    """Defects 1 to 14, 29, 31: its methods judge no token here, whoever calls them."""
    backend = SpatioBackend()

    for name in ("get_or_create_user", "get_token", "get_userinfo", "verify_token", "store_tokens"):
        with pytest.raises(SuspiciousOperation):
            getattr(backend, name)("token", None, None)


def test_building_a_backend_reads_nothing(django_assert_num_queries: Any) -> None:
    """Django builds one for each request that touches ``request.user``."""
    with django_assert_num_queries(0):
        SpatioBackend()


def test_no_setting_of_another_provider_is_read(settings: Any) -> None:
    """A site may use mozilla-django-oidc for another provider beside us."""
    from django.core.exceptions import ImproperlyConfigured

    settings.OIDC_OP_TOKEN_ENDPOINT = "https://other.example/token"
    settings.LOGIN_REDIRECT_URL_FAILURE = "/sorry/"

    assert SpatioBackend.get_settings("OIDC_OP_TOKEN_ENDPOINT", None) is None
    assert SpatioBackend.get_settings("LOGIN_REDIRECT_URL_FAILURE", "/") == "/sorry/"
    with pytest.raises(ImproperlyConfigured):
        SpatioBackend.get_settings("OIDC_OP_TOKEN_ENDPOINT")


class Hooked(SpatioBackend):
    """A site's backend: hooks as in mozilla-django-oidc."""

    verdict = True
    said: Any = None

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        """Refuse when told so."""
        return self.verdict

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        """Note the name, as sites do."""
        user.last_name = claims.get("family_name", "")
        user.save()
        return user


class Refusing(Hooked):
    """Refuses everyone."""

    verdict = False


class Denying(SpatioBackend):
    """Raises what Django's backends raise to stop a login."""

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        """Deny."""
        raise PermissionDenied


class Matching(SpatioBackend):
    """Matches users its own way."""

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        """Match by username."""
        return self.UserModel.objects.filter(username__startswith=claims["sub"])


class Absent(SpatioBackend):
    """Its hooks give nothing."""

    def create_user(self, claims: dict[str, Any]) -> Any:
        """Make nobody."""


class Vanishing(SpatioBackend):
    """Gives the user up while bringing them up to date."""

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        """Give nobody."""


class Swapping(SpatioBackend):
    """Gives another user back."""

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        """Give somebody else."""
        return User.objects.create_user("somebody-else")


class Nobody(SpatioBackend):
    """Lets nobody in, quietly."""

    def authenticate(self, request: Any, *, spatio_login: CompletedLogin) -> Any:
        """Give nobody."""


class Foreign(SpatioBackend):
    """Gives a user without an account of ours."""

    def authenticate(self, request: Any, *, spatio_login: CompletedLogin) -> Any:
        """Give somebody."""
        return User.objects.create_user("somebody")


class Crashing(SpatioBackend):
    """Has a bug."""

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        """Crash."""
        raise RuntimeError("the hook's own bug")


def test_the_hooks_of_mozilla_django_oidc_live() -> None:
    """``verify_claims``, ``update_user``, ``filter_users_by_claims`` mean what they meant."""
    assert Hooked().authenticate(None, spatio_login=completed(family_name="K")).last_name == "K"
    assert Hooked().authenticate(None, spatio_login=completed(family_name="L")).last_name == "L"
    known = User.objects.create_user("acc_9")
    assert Matching().authenticate(None, spatio_login=completed("acc_9")).pk == known.pk


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        (Refusing, "claims_refused"),
        (Absent, "no_account"),
        (Vanishing, "claims_refused"),
        (Swapping, "claims_refused"),
    ],
)
def test_a_hook_that_says_no_is_obeyed(backend: type[SpatioBackend], code: str) -> None:
    """With a code that tells which."""
    known = "acc_new" if backend is Absent else "acc_1"
    assert sign_in()
    with pytest.raises(LoginRefused) as caught:
        backend().authenticate(None, spatio_login=completed(known))
    assert caught.value.code == code


def test_a_match_of_several_users_is_refused() -> None:
    """Better nobody than the wrong one."""
    for name in ("acc_1a", "acc_1b"):
        User.objects.create_user(name)

    with pytest.raises(LoginRefused) as caught:
        Matching().authenticate(None, spatio_login=completed())
    assert caught.value.code == "ambiguous"


def test_a_person_is_described_without_personal_data() -> None:
    """The parent logs the e-mail address."""
    assert SpatioBackend().describe_user_by_claims({"sub": "acc_1", "email": "x"}) == "sub acc_1"


@pytest.mark.parametrize(
    ("backend", "code", "status"),
    [
        ("Hooked", None, 302),
        ("Denying", "refused", 403),
        ("Nobody", "refused", 403),
        ("Foreign", "refused", 403),
        ("Refusing", "claims_refused", 403),
        ("Crashing", "site_error", 503),
    ],
)
def test_whatever_a_sites_backend_does_the_callback_answers(
    site: Site, settings: Any, backend: str, code: str | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A page with a code and a reference; nobody half signed in; a bug's traceback is in the log."""
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_backends.{backend}"]
    browser = site.browser()

    response = site.sign_in(browser)

    assert response.status_code == status
    if code:
        assert response.context["code"] == code
        assert browser.get("/state/").json()["user"] == ""
        assert SpatioToken.objects.count() == 0
    assert ("the hook's own bug" in caplog.text) == (backend == "Crashing")
