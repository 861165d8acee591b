"""The authorization endpoint: what is refused, what is asked, and what is remembered."""

import time
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

import pytest

from spatio_django.testing import PERSONAS, FakeSpatio, Persona
from tests.testing.relying_party import CALLBACK, Answer, RelyingParty, conforms, fetch, query_of


def asks(answer: Answer) -> bool:
    """Whether the browser was sent to the consent page."""
    return answer.status == 302 and "/consent?request=" in (answer.headers["Location"] or "")


def test_success_sends_code_and_state(rp: RelyingParty) -> None:
    """And nothing else: Spatio doesn't advertise RFC 9207."""
    callback = rp.spatio.sign_in(rp.authorization_url())

    assert callback.startswith(CALLBACK + "?")
    assert set(query_of(callback)) == {"code", "state"}
    assert query_of(callback)["state"] == "a state"
    assert set(query_of(rp.spatio.sign_in(rp.authorization_url(state=None)))) == {"code"}


def test_iss_can_be_switched_on(rp: RelyingParty) -> None:
    """RFC 9207: with success and with errors, and announced."""
    rp.spatio.send_iss = True
    jar = CookieJar()

    assert query_of(rp.spatio.sign_in(rp.authorization_url(), session=jar))["iss"] == rp.spatio.issuer
    assert query_of(rp.spatio.sign_in(rp.authorization_url(), session=jar))["iss"] == rp.spatio.issuer
    assert query_of(rp.spatio.sign_in(rp.authorization_url(), allow=False))["iss"] == rp.spatio.issuer
    assert rp.refused(scope="phone")["iss"] == rp.spatio.issuer
    document = fetch(rp.url("/.well-known/openid-configuration")).json
    assert document["authorization_response_iss_parameter_supported"] is True


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"client_id": None}, id="no-client"),
        pytest.param({"client_id": "unknown"}, id="unknown-client"),
        pytest.param({"redirect_uri": None}, id="no-redirect-uri"),
        pytest.param({"redirect_uri": CALLBACK + "/"}, id="another-redirect-uri"),
        pytest.param({"redirect_uri": CALLBACK.upper()}, id="redirect-uri-in-capitals"),
        pytest.param({"redirect_uri": 'https://"evil"\\.example/'}, id="redirect-uri-with-quotes"),
    ],
)
def test_nobody_is_redirected_to_an_unknown_place(rp: RelyingParty, change: dict[str, str | None]) -> None:
    """RFC 6749 §4.1.2.1: a page of the provider's own, and ``sign_in`` fails with its text."""
    answer = fetch(rp.authorization_url(**change))

    assert answer.status == 400
    assert answer.headers.get_content_type() == "text/html"
    assert answer.headers["Location"] is None
    assert "evil" not in answer.text
    with pytest.raises(AssertionError, match="registered"):
        rp.spatio.sign_in(rp.authorization_url(**change))


def test_a_repeated_client_or_redirect_uri_stays_here(rp: RelyingParty) -> None:
    """Which of the two would be meant?"""
    assert fetch(rp.authorization_url() + "&client_id=other").status == 400
    assert fetch(rp.authorization_url() + "&redirect_uri=https://evil.example/").status == 400


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"response_type": None}, "invalid_request", id="no-response-type"),
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
        pytest.param({"response_type": 'code "x"'}, "unsupported_response_type", id="quotes"),
        pytest.param({"scope": "openid read:*"}, "invalid_scope", id="unregistered-scope"),
        pytest.param({"scope": "openid phone"}, "invalid_scope", id="unknown-scope"),
        pytest.param({"code_challenge": None}, "invalid_request", id="no-challenge"),
        pytest.param({"code_challenge": "x" * 42}, "invalid_request", id="short-challenge"),
        pytest.param({"code_challenge": "x" * 43 + "\n"}, "invalid_request", id="challenge-and-newline"),
        pytest.param({"code_challenge_method": None}, "invalid_request", id="no-method"),
        pytest.param({"code_challenge_method": "plain"}, "invalid_request", id="plain"),
        pytest.param(
            {"code_challenge": None, "code_challenge_method": None}, "invalid_request", id="no-pkce"
        ),
        pytest.param({"prompt": "select_account"}, "invalid_request", id="unknown-prompt"),
        pytest.param({"prompt": "none login"}, "invalid_request", id="none-and-login"),
        pytest.param({"max_age": "-1"}, "invalid_request", id="negative-max-age"),
        pytest.param({"max_age": "soon"}, "invalid_request", id="max-age-no-number"),
    ],
)
def test_the_site_is_told_what_is_wrong(rp: RelyingParty, change: dict[str, Any], error: str) -> None:
    """Once the redirect URI is known to be the client's, errors go there, with the state."""
    query = rp.refused(**change)

    assert (query["error"], query["state"]) == (error, "a state")
    conforms("OAuthError", {name: query[name] for name in query if name != "state"})
    assert fetch(rp.authorization_url() + "&state=another").status == 302


def test_a_repeated_parameter_is_refused(rp: RelyingParty) -> None:
    """RFC 6749 §3.1."""
    answer = fetch(rp.authorization_url() + "&scope=openid")
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


def test_pkce_is_asked_of_public_and_confidential_clients(spatio: FakeSpatio) -> None:
    """The contract's trap."""
    for method in ("none", "client_secret_basic", "client_secret_post"):
        rp = RelyingParty(spatio, token_endpoint_auth_method=method)
        assert rp.refused(code_challenge=None)["error"] == "invalid_request"


def test_without_a_scope_all_that_is_registered_is_asked_for(rp: RelyingParty) -> None:
    """What an absent scope means is not in the contract; RFC 6749 §3.3 lets us choose."""
    assert rp.sign_in(scope=None)["scope"] == "openid profile email"
    assert rp.sign_in(scope="email openid email")["scope"] == "email openid"


def test_the_first_visit_asks_and_the_second_is_one_redirect(rp: RelyingParty) -> None:
    """Consent is remembered per persona, client and scopes; the browser remembers the persona."""
    jar = CookieJar()
    assert asks(fetch(rp.authorization_url(scope="openid email"), jar=jar))
    rp.authorize(jar=jar, scope="openid email")

    for scope in ("openid email", "email", "openid"):
        again = fetch(rp.authorization_url(scope=scope), jar=jar)
        assert (again.headers["Location"] or "").startswith(CALLBACK + "?code=")
        assert again.status == 302

    assert asks(fetch(rp.authorization_url(scope="openid profile"), jar=jar))
    assert asks(fetch(RelyingParty(rp.spatio).authorization_url(), jar=jar))
    assert asks(fetch(rp.authorization_url(scope="openid email")))
    rp.authorize(jar=jar, scope="openid profile")
    assert not asks(fetch(rp.authorization_url(), jar=jar))


def test_the_decision_is_answered_with_303(rp: RelyingParty) -> None:
    """RFC 9700 §4.12: the browser goes on with a GET, and doesn't post the form to the site."""
    jar = CookieJar()
    page = fetch(rp.authorization_url(), jar=jar).headers["Location"] or ""
    form = {"request": query_of(page)["request"], "decision": "allow", "persona": "ada"}
    answer = fetch(rp.url("/oauth2/authorize/confirm"), form=form, jar=jar)

    assert answer.status == 303
    assert (answer.headers["Location"] or "").startswith(CALLBACK + "?code=")
    assert answer.headers["Cache-Control"] == "no-store"


def test_no_is_no_error(rp: RelyingParty) -> None:
    """Deny sends ``access_denied``, and signs nobody in."""
    jar = CookieJar()
    query = query_of(rp.spatio.sign_in(rp.authorization_url(), session=jar, allow=False))

    assert (query["error"], query["state"]) == ("access_denied", "a state")
    assert "code" not in query
    assert rp.refused(jar=jar, prompt="none")["error"] == "login_required"


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.key)
def test_everybody_can_sign_in(rp: RelyingParty, persona: Persona) -> None:
    """Each persona has its own subject."""
    assert rp.claims(rp.sign_in(persona=persona.key)["id_token"])["sub"] == persona.sub


def test_sign_in_names_the_personas_it_knows(rp: RelyingParty) -> None:
    """A mistyped key fails with the list."""
    with pytest.raises(AssertionError, match="cleo"):
        rp.spatio.sign_in(rp.authorization_url(), persona="nobody")


def test_prompt_none_succeeds_without_a_page(rp: RelyingParty) -> None:
    """Signed in and consented: a code, silently."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    rp.authorize(jar=jar, prompt="none")
    assert len(rp.spatio.calls("/consent")) == 1


def test_prompt_none_says_what_is_missing(rp: RelyingParty, later: Callable[[float], None]) -> None:
    """OpenID Connect Core 1.0 §3.1.2.6."""
    jar = CookieJar()
    assert rp.refused(jar=jar, prompt="none")["error"] == "login_required"
    rp.authorize(jar=jar, scope="openid")
    assert rp.refused(jar=jar, prompt="none")["error"] == "consent_required"
    later(100)
    refused = rp.refused(jar=jar, prompt="none", scope="openid", max_age="60")
    assert (refused["error"], refused["state"]) == ("login_required", "a state")


def test_prompt_login_chooses_again(rp: RelyingParty, later: Callable[[float], None]) -> None:
    """Another persona can be chosen, and ``auth_time`` is new even for the same one."""
    jar = CookieJar()
    first = rp.claims(rp.sign_in(jar=jar)["id_token"])
    later(100)
    same = rp.claims(rp.sign_in(jar=jar, prompt="login")["id_token"])
    other = rp.claims(rp.sign_in(jar=jar, prompt="login consent", persona="bo")["id_token"])

    assert same["sub"] == first["sub"] != other["sub"]
    assert same["auth_time"] >= first["auth_time"] + 100


def test_prompt_consent_asks_the_signed_in_persona_again(
    rp: RelyingParty, later: Callable[[float], None]
) -> None:
    """Without signing in again: ``auth_time`` stays."""
    jar = CookieJar()
    first = rp.claims(rp.sign_in(jar=jar)["id_token"])
    later(100)
    assert asks(fetch(rp.authorization_url(prompt="consent"), jar=jar))
    second = rp.claims(rp.sign_in(jar=jar, prompt="consent")["id_token"])

    assert second["auth_time"] == first["auth_time"]


def test_another_account_can_be_chosen_on_the_page(rp: RelyingParty) -> None:
    """By "use another account", as ``sign_in`` does when somebody else is signed in."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    tokens = rp.sign_in(jar=jar, persona="bo", prompt="consent")

    assert rp.claims(tokens["id_token"])["sub"] == PERSONAS[1].sub


@pytest.mark.parametrize(("max_age", "asked"), [("0", True), ("60", True), ("101", False), ("", False)])
def test_max_age_is_the_age_of_the_sign_in(
    rp: RelyingParty, later: Callable[[float], None], max_age: str, *, asked: bool
) -> None:
    """An older one, and every one for 0, is asked for anew (OpenID Connect Core 1.0 §3.1.2.1)."""
    jar = CookieJar()
    first = rp.claims(rp.sign_in(jar=jar)["id_token"])
    later(100)
    assert asks(fetch(rp.authorization_url(max_age=max_age), jar=jar)) is asked

    second = rp.claims(rp.sign_in(jar=jar, max_age=max_age)["id_token"])
    assert (second["auth_time"] > first["auth_time"]) is asked


def test_a_forgotten_browser_chooses_again(rp: RelyingParty) -> None:
    """``forget_browsers`` signs out at the provider; consent is remembered."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    rp.spatio.forget_browsers()

    assert rp.refused(jar=jar, prompt="none")["error"] == "login_required"
    rp.authorize(jar=jar)
    rp.authorize(jar=jar, prompt="none")


def test_a_persona_that_is_gone_is_not_signed_in(rp: RelyingParty) -> None:
    """Even with a valid cookie."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    rp.spatio.personas = PERSONAS[1:]

    assert rp.refused(jar=jar, prompt="none")["error"] == "login_required"


def test_a_forged_cookie_is_a_new_browser(rp: RelyingParty) -> None:
    """The browser's id is signed."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    (cookie,) = jar
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert str(rp.spatio.port) in cookie.name
    cookie.value = "forged." + (cookie.value or "").rpartition(".")[2]

    assert rp.refused(jar=jar, prompt="none")["error"] == "login_required"


def test_the_sealed_request_runs_out(rp: RelyingParty, later: Callable[[float], None]) -> None:
    """A consent page that was left open overnight starts again at the site."""
    jar = CookieJar()
    page = fetch(rp.authorization_url(), jar=jar).headers["Location"] or ""
    assert fetch(page, jar=jar).status == 200
    later(601)
    answer = fetch(page, jar=jar)

    assert answer.status == 400
    assert "start again at the site" in answer.text


def test_the_sealed_request_is_of_one_browser(rp: RelyingParty) -> None:
    """Another site can't let its own request be confirmed in this browser's name."""
    page = fetch(rp.authorization_url()).headers["Location"] or ""
    jar = CookieJar()
    rp.authorize(jar=jar)
    form = {"request": query_of(page)["request"], "decision": "allow", "persona": "ada"}

    assert fetch(page, jar=jar).status == 400
    assert fetch(page).status == 400
    assert fetch(rp.url("/oauth2/authorize/confirm"), form=form, jar=jar).status == 400


def test_the_sealed_request_is_nothing_else(rp: RelyingParty) -> None:
    """A forged one, and an ID token, are refused (RFC 8725 §3.11)."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    for token in ("", "a.b.c", rp.spatio.sign({"exp": time.time() + 60})):
        assert fetch(rp.url(f"/consent?request={token}"), jar=jar).status == 400


def test_a_sealed_request_does_not_outlive_its_registration(rp: RelyingParty) -> None:
    """Deleted while the page was open."""
    jar = CookieJar()
    page = fetch(rp.authorization_url(), jar=jar).headers["Location"] or ""
    headers = {"Authorization": f"Bearer {rp.registration['registration_access_token']}"}
    fetch(rp.registration["registration_client_uri"], method="DELETE", headers=headers)

    assert fetch(page, jar=jar).status == 400


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"persona": "nobody"}, id="unknown-persona"),
        pytest.param({}, id="no-persona"),
        pytest.param({"signed_in_as": "ada"}, id="nobody-is-signed-in"),
    ],
)
def test_an_incomplete_decision_asks_again(rp: RelyingParty, form: dict[str, str]) -> None:
    """Allow without saying who: the page once more."""
    jar = CookieJar()
    page = fetch(rp.authorization_url(), jar=jar).headers["Location"] or ""
    sealed = {"request": query_of(page)["request"], "decision": "allow"}
    answer = fetch(rp.url("/oauth2/authorize/confirm"), form=sealed | form, jar=jar)

    assert answer.status == 400
    assert "Who are you?" in answer.text


def test_the_page_asks_again_when_the_account_changed_in_another_tab(rp: RelyingParty) -> None:
    """Who reads "you are signed in as Ada" does not consent as Bo."""
    jar = CookieJar()
    rp.authorize(jar=jar)
    page = fetch(rp.authorization_url(prompt="consent"), jar=jar).headers["Location"] or ""
    rp.authorize(jar=jar, prompt="login", persona="bo")
    form = {"request": query_of(page)["request"], "decision": "allow", "signed_in_as": "ada"}
    answer = fetch(rp.url("/oauth2/authorize/confirm"), form=form, jar=jar)

    assert answer.status == 400
    assert "signed in as <strong>bo@example.com</strong>" in answer.text


def test_a_page_that_asks_again_fails_sign_in(rp: RelyingParty, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sign_in`` doesn't take a page for an answer."""

    def no_hidden_fields(*_: object) -> tuple[None, str]:
        return None, "<p>Again"

    from spatio_django.testing import browser

    opened = browser.Person.open
    monkeypatch.setattr(
        browser.Person,
        "open",
        lambda self, url, form=None: no_hidden_fields() if form else opened(self, url),
    )
    with pytest.raises(AssertionError, match="asks again: Again"):
        rp.spatio.sign_in(rp.authorization_url())
