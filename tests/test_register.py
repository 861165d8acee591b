"""``manage.py spatio_register``: new, again, otherwise, changed, checked, rehearsed, in a file, refused."""

import json
import stat
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.urls import include, path

from spatio_django import provider, registration
from spatio_django.models import SpatioClient
from spatio_django.oidc.secret import Secret
from spatio_django.testing import FakeSpatio
from tests.misbehaving import Misbehaviour

pytestmark = pytest.mark.django_db

#: Of a site that moved its addresses.
urlpatterns = [path("elsewhere/", include("spatio_django.urls"))]

BASE = ("--base-url", "https://example.com")
URI = "https://example.com/spatio/callback/"
OTHER_URI = "https://example.org/spatio/callback/"
SCOPE = "scope is missing or wrong. [scope]"


def run(*arguments: str, warned: str | None = None) -> str:
    """Run the command; give what it printed. What it warned of has *warned* in it, or is nothing."""
    out, err = StringIO(), StringIO()
    call_command("spatio_register", *arguments, stdout=out, stderr=err, no_color=True)
    if warned is None:
        assert err.getvalue() == ""
    else:
        assert warned in err.getvalue()
    return out.getvalue()


def refused(*arguments: str) -> str:
    """Run the command, which ends with an error; give its sentence."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert caught.value.returncode == 1
    return str(caught.value)


@pytest.fixture(autouse=True)
def issuer(spatio: FakeSpatio, settings: Any) -> str:
    """Point the site to the provider."""
    settings.SPATIO_ISSUER = spatio.issuer
    return spatio.issuer


def documents(misbehaviour: Misbehaviour, method: str = "POST") -> list[dict[str, Any]]:
    """Give the bodies of the requests so far that registered, or changed a registration."""
    return [
        json.loads(body)
        for sent_with, path, body in misbehaviour.sent
        if sent_with == method and path.startswith("/oauth2/register")
    ]


# New


def test_registering_asks_for_what_a_site_needs(misbehaviour: Misbehaviour) -> None:
    """Scopes by name and a confidential client: the provider's defaults are ``read:*`` and ``none``."""
    run(*BASE)

    row = SpatioClient.objects.get()
    assert row.redirect_uris == [URI]
    assert row.scope == "openid profile email"
    assert row.auth_method == "client_secret_basic"
    assert row.client_name == "example.com"
    assert row.client_secret
    assert documents(misbehaviour) == [
        {
            "client_name": "example.com",
            "redirect_uris": [URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": "openid profile email",
            "token_endpoint_auth_method": "client_secret_basic",
        }
    ]


def test_each_option_reaches_the_request(misbehaviour: Misbehaviour) -> None:
    """All that Spatio's schema has."""
    run(
        *(*BASE, "--base-url", "HTTPS://Example.org:443/", "--base-url", "https://example.com/"),
        *("--client-name", "Bücher & Co", "--scope", "read:*  email openid profile", "--public"),
        *("--client-uri", "https://example.com/", "--logo-uri", "https://cdn.example/logo.png"),
        *("--policy-uri", "https://example.com/privacy", "--tos-uri", "https://example.com/terms"),
    )

    row = SpatioClient.objects.get()
    assert (row.auth_method, row.client_secret, row.scope) == ("none", None, "openid read:* email profile")
    assert documents(misbehaviour) == [
        {
            "client_name": "Bücher & Co",
            "redirect_uris": [URI, OTHER_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": "openid read:* email profile",
            "token_endpoint_auth_method": "none",
            "client_uri": "https://example.com/",
            "logo_uri": "https://cdn.example/logo.png",
            "policy_uri": "https://example.com/privacy",
            "tos_uri": "https://example.com/terms",
        }
    ]


def test_secrets_are_stored_encrypted_and_never_printed() -> None:
    """Neither the client secret nor the registration access token."""
    printed = run(*BASE, "--client-name", "Example")

    row = SpatioClient.objects.get()
    assert row.client_name == "Example"
    shown = printed + repr(list(SpatioClient.objects.values()))
    for secret in (row.client_secret, row.registration_access_token):
        assert secret is not None
        assert secret.reveal() not in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "base_url"),
        (["--base-url", "example.com"], "base_url"),
        (["--base-url", "ftp://example.com"], "base_url"),
        (["--base-url", "https://"], "base_url"),
        (["--base-url", "https://example.com/?a=1"], "base_url"),
        (["--base-url", "https://example.com/app"], "base_url"),
        (["--base-url", "https://[x"], "base_url"),
        (["--base-url", "https://example.com:99999"], "base_url"),
        ([word for number in range(11) for word in ("--base-url", f"https://{number}.example")], "base_url"),
        (["--base-url", "https://straße.example"], "base_url"),
        ([*BASE, "--scope", "openid a\x1b[31m"], "scope"),
        ([*BASE, "--scope", "openid \udcff"], "scope"),
        ([*BASE, "--client-name", ""], "client_name"),
        ([*BASE, "--client-name", "a\x1b[31m"], "client_name"),
        ([*BASE, "--client-name", "a" * 201], "client_name"),
        ([*BASE, "--logo-uri", "http://example.com/logo.png"], "client_uri"),
        ([*BASE, "--tos-uri", "javascript:alert(1)"], "client_uri"),
    ],
)
def test_an_option_that_makes_no_sense_is_told(spatio: FakeSpatio, arguments: list[str], code: str) -> None:
    """One sentence, before the provider is called."""
    assert refused(*arguments).endswith(f"[{code}]")

    assert spatio.requests == []


def test_ten_addresses_are_taken() -> None:
    """As many as Spatio takes."""
    run(*(word for number in range(10) for word in ("--base-url", f"https://{number}.example")))

    assert len(SpatioClient.objects.get().redirect_uris) == 10


def test_the_base_url_setting_is_the_default(settings: Any) -> None:
    """Sites that set it need no argument."""
    settings.SPATIO_BASE_URL = "https://example.com/"

    run()

    assert registration.current().redirect_uris == (URI,)


def test_the_way_to_authenticate_is_the_settings_or_the_providers(
    settings: Any, misbehaviour: Misbehaviour
) -> None:
    """HTTP Basic unless the site chose, or the provider offers another one only."""
    settings.SPATIO_CLIENT_AUTH_METHOD = "client_secret_post"
    run(*BASE)
    assert registration.current().auth_method == "client_secret_post"
    del settings.SPATIO_CLIENT_AUTH_METHOD
    SpatioClient.objects.all().delete()
    misbehaviour.json(
        "/.well-known/openid-configuration",
        token_endpoint_auth_methods_supported=["client_secret_post", "private_key_jwt"],
    )
    provider.close()
    cache.clear()

    run(*BASE)

    assert registration.current().auth_method == "client_secret_post"


# Again


def test_running_again_calls_nothing(spatio: FakeSpatio) -> None:
    """Ten registrations an hour are all there are."""
    arguments = (*BASE, "--client-name", "Example", "--logo-uri", "https://example.com/logo.png")
    run(*arguments)
    spatio.requests.clear()

    assert "nothing to do" in run(*arguments)
    assert "nothing to do" in run(*BASE)
    assert "nothing to do" in run()
    assert "nothing to do" in run("--update")
    assert spatio.requests == []
    assert SpatioClient.objects.count() == 1


def test_running_again_tells_what_will_go_wrong(settings: Any) -> None:
    """Nothing to do at Spatio, but something here."""
    run(*BASE)
    settings.ALLOWED_HOSTS = ["example.org"]

    assert "nothing to do" in run(
        *BASE, warned="ALLOWED_HOSTS has none of the registered hosts: example.com."
    )


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        (["--base-url", "https://example.org"], f"redirect_uris: -{URI} +{OTHER_URI}"),
        ([*BASE, "--base-url", "https://example.org"], f"redirect_uris: +{OTHER_URI}"),
        ([*BASE, "--client-name", "Example"], "client_name: -example.com +Example"),
        ([*BASE, "--scope", "openid profile email read:*"], "scope: +read:*"),
        ([*BASE, "--public"], "token_endpoint_auth_method: -client_secret_basic +none"),
        ([*BASE, "--tos-uri", "https://example.com/t"], "tos_uri: +https://example.com/t"),
    ],
)
def test_what_changed_is_told_and_done_only_when_asked(
    spatio: FakeSpatio, arguments: list[str], difference: str
) -> None:
    """A client in use is not thrown away by a typing mistake."""
    run(*BASE)
    assert "nothing to do" in run(*BASE)
    spatio.requests.clear()

    sentence = refused(*arguments)

    assert difference in sentence.splitlines()
    assert "--update" in sentence
    assert "--force" in sentence
    assert spatio.requests == []
    before = SpatioClient.objects.get()

    run(*arguments, "--force")

    assert SpatioClient.objects.count() == 2
    assert registration.current().client_id != before.client_id
    assert "nothing to do" in run(*arguments)


def test_settings_that_ask_for_more_are_a_change(settings: Any) -> None:
    """A scope or a host that a deployment brought."""
    run(*BASE)
    settings.SPATIO_SCOPES = ["email", "read:*"]
    settings.SPATIO_BASE_URL = "https://example.org"

    sentence = refused()

    assert f"redirect_uris: +{OTHER_URI}" in sentence
    assert "scope: +read:*" in sentence


def test_a_callback_that_moved_is_a_change(settings: Any) -> None:
    """The origins stay, the path is the URLconf's."""
    run(*BASE)
    settings.ROOT_URLCONF = __name__

    assert f"redirect_uris: -{URI} +https://example.com/elsewhere/callback/" in refused()


def test_a_name_that_nobody_chose_moves_along() -> None:
    """But a chosen one stays, and so does all else that was said before."""
    run(*BASE, "--logo-uri", "https://example.com/logo.png")
    run("--base-url", "https://example.org", "--force")
    row = registration.stored()
    assert row is not None
    assert (row.client_name, row.requested["logo_uri"]) == ("example.org", "https://example.com/logo.png")
    run("--base-url", "https://example.com", "--force", "--client-name", "Chosen", "--logo-uri", "")
    run("--base-url", "https://example.org", "--force")

    row = registration.stored()
    assert row is not None
    assert row.client_name == "Chosen"
    assert "logo_uri" not in row.requested


def test_a_public_client_becomes_a_confidential_one_when_told_to() -> None:
    """And stays public otherwise."""
    run(*BASE, "--public")
    assert "nothing to do" in run(*BASE)

    run("--no-public", "--force")

    assert registration.current().auth_method == "client_secret_basic"
    assert "nothing to do" in run(*BASE, "--no-public")


def test_a_registration_from_before_requests_were_kept_is_known_by_what_it_is() -> None:
    """Version 0.1.0 kept only the answer."""
    run(*BASE)
    SpatioClient.objects.update(requested={})

    assert "nothing to do" in run(*BASE)
    assert "client_name: -example.com +Example" in refused(*BASE, "--client-name", "Example")


@pytest.mark.parametrize("broken", ["undecryptable", "expired"])
def test_a_secret_that_is_of_no_use_is_not_nothing_to_do(settings: Any, broken: str) -> None:
    """Only a new registration helps."""
    run(*BASE)
    assert "nothing to do" in run(*BASE)
    if broken == "expired":
        SpatioClient.objects.update(client_secret_expires_at=1)
    else:
        settings.SECRET_KEY = "another"

    assert "--force" in refused(*BASE)
    assert "--force" in refused(*BASE, "--update")
    run(*BASE, "--force")
    assert "nothing to do" in run(*BASE)


# Changed


def test_an_update_changes_the_registration_there_is(misbehaviour: Misbehaviour) -> None:
    """RFC 7592: same client, same secret, other metadata; and nothing of it without asking."""
    run(*BASE)
    before = SpatioClient.objects.get()

    printed = run(*BASE, "--base-url", "https://example.org", "--client-name", "Example", "--update")

    row = SpatioClient.objects.get()
    assert printed == f"Changed {row.client_id}, which is for {URI}, {OTHER_URI}.\n"
    assert (row.pk, row.client_id, row.client_secret) == (before.pk, before.client_id, before.client_secret)
    assert (row.client_name, row.redirect_uris) == ("Example", [URI, OTHER_URI])
    assert row.registration_access_token == before.registration_access_token
    (change,) = documents(misbehaviour, "PUT")
    assert change["client_id"] == row.client_id
    assert "client_secret" not in change
    assert "nothing to do" in run(*BASE, "--base-url", "https://example.org")


def test_what_an_update_gives_anew_replaces_the_old(spatio: FakeSpatio, misbehaviour: Misbehaviour) -> None:
    """Some providers rotate secret and token with each change; the old ones are dead then."""
    run(*BASE)
    row = SpatioClient.objects.get()
    misbehaviour.json(
        f"/oauth2/register/{row.client_id}", client_secret="fresh", registration_access_token="reg_fresh"
    )

    run(*BASE, "--client-name", "Example", "--update")

    row = SpatioClient.objects.get()
    assert row.client_secret == Secret("fresh")
    assert row.registration_access_token == Secret("reg_fresh")


def test_a_secret_that_an_update_leaves_expires_as_before(misbehaviour: Misbehaviour) -> None:
    """Whoever doesn't repeat the secret need not repeat its end, and it would be missed in silence."""
    misbehaviour.json("/oauth2/register", client_secret_expires_at=4_000_000_000)
    run(*BASE, warned="expires on 2096-10-02")

    run(*BASE, "--client-name", "Example", "--update", warned="expires on 2096-10-02")

    row = SpatioClient.objects.get()
    assert (row.client_name, row.client_secret_expires_at) == ("Example", 4_000_000_000)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        ("401 No", b'{"error": "invalid_token"}', "invalid_token"),
        ("404 No", b"", "bad_status"),
        ("200 OK", b'{"client_id": "other", "client_secret": "x"}', "client_id"),
        ("200 OK", b"<html>", "not_json"),
        ("503 Later", b"", "bad_status"),
    ],
)
def test_an_update_that_fails_changes_nothing(
    misbehaviour: Misbehaviour, status: str, body: bytes, code: str
) -> None:
    """The old registration goes on."""
    run(*BASE)
    before = SpatioClient.objects.values().get()
    misbehaviour.answer(f"/oauth2/register/{before['client_id']}", status, body)

    assert f"[{code}]" in refused(*BASE, "--client-name", "Example", "--update")

    assert SpatioClient.objects.values().get() == before
    misbehaviour.lies.clear()
    run(*BASE, "--client-name", "Example", "--update")


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uris": ["https://evil.example/"]},
        {"scope": "read:*"},
        {"client_id": "other"},
        {"registration_access_token": "not a token"},
    ],
)
def test_new_secrets_in_an_update_that_does_not_hold_are_kept(
    misbehaviour: Misbehaviour, changes: dict[str, Any]
) -> None:
    """The old ones may be dead. But not what is another client's, or can't be read."""
    run(*BASE)
    before = SpatioClient.objects.get()
    lie = {"client_secret": "fresh", "registration_access_token": "reg_fresh", **changes}
    misbehaviour.json(f"/oauth2/register/{before.client_id}", **lie)

    refused(*BASE, "--client-name", "Example", "--update")

    row = SpatioClient.objects.get()
    kept = (row.client_secret, row.registration_access_token)
    if changes.keys() & {"client_id", "registration_access_token"}:
        assert kept == (before.client_secret, before.registration_access_token)
    else:
        assert kept == (Secret("fresh"), Secret("reg_fresh"))
    assert (row.redirect_uris, row.requested) == (before.redirect_uris, before.requested)


@pytest.mark.parametrize("column", ["registration_client_uri", "access_ciphertext"])
def test_no_way_to_change_it_is_told(column: str) -> None:
    """Spatio documents neither that there is one, nor what it does."""
    run(*BASE)
    SpatioClient.objects.update(**{column: ""})

    sentence = refused(*BASE, "--client-name", "Example", "--update")

    assert "--force" in sentence
    assert "[not_manageable]" in sentence


def test_there_is_nothing_to_update_before_registering(spatio: FakeSpatio) -> None:
    """A sentence, and no call."""
    assert "not registered" in refused(*BASE, "--update")
    assert spatio.requests == []


# Looked at


def test_a_check_tells_whether_it_fits(spatio: FakeSpatio, settings: Any) -> None:
    """By its exit status, for continuous integration; and calls nobody."""
    assert "not registered" in refused("--check")
    run(*BASE)
    spatio.requests.clear()
    assert "fits this site" in run("--check")
    assert "fits this site" in run("--check", *BASE)

    assert f"redirect_uris: -{URI} +{OTHER_URI}" in refused("--check", "--base-url", "https://example.org")
    settings.SPATIO_SCOPES = ["read:*"]
    assert "SPATIO_SCOPES asks for read:*, which is not registered." in refused("--check")

    assert spatio.requests == []
    assert SpatioClient.objects.count() == 1


def test_a_check_says_what_the_system_checks_say(settings: Any) -> None:
    """Word for word: there is one judgement."""
    run(*BASE)
    assert run_checks(tags=["spatio"]) == []
    settings.ALLOWED_HOSTS, settings.SPATIO_SCOPES = ["example.org"], ["openid", "files"]
    settings.SECRET_KEY = "another"

    messages = run_checks(tags=["spatio"])

    assert [message.id for message in messages] == ["spatio.W034", "spatio.W035", "spatio.W036"]
    assert refused("--check").splitlines()[1:] == [f"{message.msg} {message.hint}" for message in messages]


def test_a_rehearsal_prints_the_request_and_makes_none(
    spatio: FakeSpatio, misbehaviour: Misbehaviour
) -> None:
    """JSON, to read or to pipe; nothing is called, and nothing stored."""
    printed = run(*BASE, "--client-name", "Example", "--dry-run")

    assert json.loads(printed) == {
        "client_name": "Example",
        "redirect_uris": [URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "openid profile email",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    assert spatio.requests == []
    assert SpatioClient.objects.count() == 0

    run(*BASE, "--client-name", "Example")
    assert documents(misbehaviour) == [json.loads(printed)]


@pytest.mark.parametrize("options", [("--update", "--force"), ("--check", "--dry-run")])
def test_options_that_contradict_each_other_are_refused(options: tuple[str, str]) -> None:
    """By the parser."""
    with pytest.raises(CommandError, match="not allowed with"):
        run(*BASE, *options)


def test_quiet_is_quiet() -> None:
    """For start-up scripts."""
    assert run(*BASE, "--verbosity", "0") == ""
    assert run(*BASE, "--verbosity", "0") == ""


# In a file


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """Give the path of an env file."""
    return tmp_path / ".env"


def environment(env: Path) -> dict[str, str]:
    """Give the variables in it."""
    lines = [line.partition("=") for line in env.read_text().splitlines() if not line.startswith("#")]
    return {name: value for name, _, value in lines}


def test_a_file_holds_the_client_instead_of_the_database(env: Path, settings: Any) -> None:
    """Mode 0600; what was in it stays; and with its variables in the settings, the site signs in."""
    env.write_text("DATABASE_URL=x\n")

    printed = run(*BASE, "--env-file", str(env))

    assert SpatioClient.objects.count() == 0
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    values = environment(env)
    assert list(values) == [
        "DATABASE_URL",
        "SPATIO_CLIENT_ID",
        "SPATIO_CLIENT_SECRET",
        "SPATIO_CLIENT_AUTH_METHOD",
        "SPATIO_REDIRECT_URIS",
    ]
    assert values["SPATIO_CLIENT_SECRET"] not in printed
    assert 'SPATIO_CLIENT_ID = os.environ.get("SPATIO_CLIENT_ID")' in printed
    for name in list(values)[1:]:
        setattr(settings, name, values[name])
    assert registration.current().redirect_uris == (URI,)
    assert registration.current().client_secret == Secret(values["SPATIO_CLIENT_SECRET"])
    assert "fits this site" in run("--check")


def test_a_file_is_as_idempotent_as_the_database(spatio: FakeSpatio, env: Path, settings: Any) -> None:
    """Whether its variables are loaded or not, and with the change and the check too."""
    run(*BASE, "--env-file", str(env))
    spatio.requests.clear()
    before = env.read_bytes()
    assert "nothing to do" in run(*BASE, "--env-file", str(env))
    assert "fits this site" in run("--check", "--env-file", str(env))
    assert "client_name: -example.com +Example" in refused("--client-name", "Example", "--env-file", str(env))
    for name, value in environment(env).items():
        setattr(settings, name, value)
    assert "nothing to do" in run(*BASE, "--env-file", str(env))
    assert "nothing to do" in run(*BASE)
    assert spatio.requests == []
    assert env.read_bytes() == before
    secret = environment(env)["SPATIO_CLIENT_SECRET"]

    run("--client-name", "Example", "--update", "--env-file", str(env))

    assert environment(env)["SPATIO_CLIENT_SECRET"] == secret
    assert "nothing to do" in run("--client-name", "Example", "--env-file", str(env))


def test_a_public_client_in_a_file_has_no_secret(env: Path) -> None:
    """And the line of the one before is gone."""
    assert "SPATIO_CLIENT_SECRET" in run(*BASE, "--env-file", str(env))

    printed = run(*BASE, "--public", "--force", "--env-file", str(env))

    assert 'SPATIO_CLIENT_ID = os.environ.get("SPATIO_CLIENT_ID")' in printed
    assert "SPATIO_CLIENT_SECRET" not in printed
    assert "SPATIO_CLIENT_SECRET" not in environment(env)
    assert environment(env)["SPATIO_CLIENT_AUTH_METHOD"] == "none"
    assert "nothing to do" in run(*BASE, "--env-file", str(env))


def test_another_issuers_file_is_not_this_ones(env: Path, settings: Any) -> None:
    """The same file under another ``SPATIO_ISSUER``: staging's."""
    run(*BASE, "--env-file", str(env))
    text = env.read_text().replace(settings.SPATIO_ISSUER, "https://other.example")
    env.write_text(text)

    assert "Registered as" in run(*BASE, "--env-file", str(env))


def commented(**changes: object) -> str:
    """Give the comment in which we keep what has no variable, with some of it changed."""
    notes = {
        "issuer": "https://api.spatio.app",
        "scope": "openid",
        "request": {"redirect_uris": [URI]},
        "client_secret_expires_at": None,
        "registration_client_uri": "",
        "registration_access_token": None,
    }
    return "# spatio_register: " + json.dumps(notes | changes)


@pytest.mark.parametrize(
    "note",
    [
        "# spatio_register: {",
        "# spatio_register: []",
        '# spatio_register: {"request": {}, "scope": 5}',
        "# spatio_register: " + "[" * 100_000,
        commented(request={"redirect_uris": 5}),
        commented(request={"redirect_uris": ["https://["]}),
        commented(request={"scope": ["openid"]}),
        commented(request={"grant_types": [5]}),
        commented(client_secret_expires_at=-(10**20)),
        '# spatio_register: {"issuer": "x", "scope": "", "request": {}, "registration_client_uri": ""}',
        commented(registration_client_uri="https://["),
        "",
    ],
)
def test_a_file_that_somebody_wrote_is_known_by_its_variables(env: Path, note: str) -> None:
    """What it does not say is not a difference."""
    env.write_text(f"{note}\nSPATIO_CLIENT_ID=abc\nSPATIO_CLIENT_SECRET=x\nSPATIO_REDIRECT_URIS={URI}\n")

    assert "Already registered as abc" in run("--env-file", str(env))
    assert "redirect_uris: +" in refused(*BASE, "--base-url", "https://example.org", "--env-file", str(env))
    assert "tos_uri: +" in refused(*BASE, "--tos-uri", "https://example.org", "--env-file", str(env))


@pytest.mark.parametrize(
    "line",
    [
        b"SPATIO_CLIENT_ID=caf\xe9",
        b"SPATIO_CLIENT_SECRET=hunter2\xff",
        b"SPATIO_CLIENT_SECRET='hunter2\x1b[31m'",
        b"SPATIO_CLIENT_AUTH_METHOD=\x00",
        b"SPATIO_REDIRECT_URIS=https://[",
        b"SPATIO_REDIRECT_URIS=https://example.com",
    ],
)
def test_a_file_with_variables_that_can_not_be_ours_is_named(env: Path, line: bytes) -> None:
    """In a sentence that doesn't show them."""
    good = f"SPATIO_CLIENT_ID=abc\nSPATIO_CLIENT_SECRET=x\nSPATIO_REDIRECT_URIS={URI}\nOTHER=\xe9\n"
    env.write_text(good, encoding="latin-1")
    assert "Already registered as abc" in run("--env-file", str(env))

    env.write_bytes(good.encode("latin-1") + line + b"\n")

    text = refused("--env-file", str(env))
    assert "[env_file]" in text
    assert "hunter2" not in text


def test_a_file_that_cannot_be_written_costs_no_registration(spatio: FakeSpatio, env: Path) -> None:
    """It is made before Spatio is asked."""
    assert "[env_file]" in refused(*BASE, "--env-file", str(env / "nowhere" / ".env"))
    assert "[env_file]" in refused(*BASE, "--env-file", str(env.with_name("a" * 300)))
    env.mkdir()
    assert "[env_file]" in refused(*BASE, "--env-file", str(env))

    assert spatio.requests == []


def test_a_registration_that_fails_leaves_the_file(env: Path, misbehaviour: Misbehaviour) -> None:
    """And nothing beside it."""
    env.write_text("A=1\n")
    misbehaviour.answer("/oauth2/register", "400 Bad", b'{"error": "invalid_redirect_uri"}')

    refused(*BASE, "--env-file", str(env))

    assert env.read_text() == "A=1\n"
    assert list(env.parent.iterdir()) == [env]


# Beside a client in the settings


def test_settings_that_name_a_client_win(spatio: FakeSpatio, settings: Any) -> None:
    """Nothing is registered beside it unaware, and who insists is told which one counts."""
    settings.SPATIO_CLIENT_ID = "from-the-environment"
    settings.SPATIO_CLIENT_SECRET = "hush"

    assert "Already registered as from-the-environment" in run(*BASE, warned="SPATIO_REDIRECT_URIS")
    settings.SPATIO_REDIRECT_URIS = [URI]
    assert "Already registered as from-the-environment" in run(*BASE)
    assert "redirect_uris: -" in refused("--base-url", "https://example.org")
    assert "[not_manageable]" in refused("--base-url", "https://example.org", "--update")
    assert spatio.requests == []
    run(*BASE, "--force", warned="SPATIO_CLIENT_ID is still from-the-environment")


def test_a_file_with_another_client_than_the_settings_is_not_in_force(env: Path, settings: Any) -> None:
    """The settings win over a file that nobody loaded."""
    run(*BASE, "--env-file", str(env))
    assert "Already registered as" in run(*BASE, "--env-file", str(env))
    settings.SPATIO_CLIENT_ID, settings.SPATIO_CLIENT_SECRET = "from-the-environment", "hush"
    settings.SPATIO_REDIRECT_URIS = [URI]

    assert "Already registered as from-the-environment" in run(*BASE, "--env-file", str(env))


def test_ctrl_c_ends_it_with_a_sentence() -> None:
    """Here in the middle of a query; whatever was being kept is kept whole, or not at all."""

    def interrupt(execute: Any, sql: str, *rest: Any) -> Any:
        raise KeyboardInterrupt

    with connection.execute_wrapper(interrupt):
        assert refused(*BASE).startswith("Interrupted.")

    assert SpatioClient.objects.count() == 0
    run(*BASE)


def test_a_client_in_the_settings_needs_no_database(settings: Any) -> None:
    """Continuous integration often has none."""
    settings.SPATIO_CLIENT_ID, settings.SPATIO_CLIENT_SECRET = "from-the-environment", "hush"
    settings.SPATIO_REDIRECT_URIS = [URI]

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        raise OperationalError("no server")

    with connection.execute_wrapper(refuse):
        assert "fits this site" in run("--check")
        del settings.SPATIO_CLIENT_ID
        assert "[database]" in refused("--check")


@pytest.mark.parametrize("uris", ["nonsense", "https://[x/spatio/callback/", ["https://example.com"]])
def test_redirect_uris_that_are_none_are_told(settings: Any, uris: Any) -> None:
    """By the command; what visitors get is tested with the login page."""
    settings.SPATIO_CLIENT_ID, settings.SPATIO_CLIENT_SECRET = "from-the-environment", "hush"
    settings.SPATIO_REDIRECT_URIS = [URI]
    assert "fits this site" in run("--check")
    settings.SPATIO_REDIRECT_URIS = uris

    assert "[redirect_uris]" in refused("--check")


# Refused


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (
            "400 Bad",
            b'{"error": "invalid_redirect_uri", "error_description": "no\\u001b[31m\\r\\nspoof"}',
            "The provider refused: invalid_redirect_uri. It says: no[31mspoof [invalid_redirect_uri]",
        ),
        ("400 Bad", b'{"error": "x\\u001b[31m"}', "The provider refused: unknown_error. [unknown_error]"),
        ("403 No", b"<html>", "The provider answered 403. [bad_status]"),
        ("201 Created", b'{"client_id": "a", "client_secret": "c", "scope": "openid \\u001b[31m"}', SCOPE),
        (
            "429 Slow",
            b"",
            "Too many registrations from this address. Try again in 60 minutes. [rate_limited]",
        ),
        ("500 Oops", b"<h1>", "The provider answered 500. Try again later. [bad_status]"),
        ("201 Created", b"[]", "The body is not one JSON object. [not_json]"),
        ("201 Created", b"{}", "client_id is missing or wrong. [client_id]"),
        ("204 Nothing", b"", "The provider answered 204. [bad_status]"),
    ],
)
def test_a_registration_that_fails_leaves_nothing(
    misbehaviour: Misbehaviour, status: str, body: bytes, sentence: str
) -> None:
    """One clear sentence with a stable code, and no half-stored row."""
    misbehaviour.answer("/oauth2/register", status, body)

    assert refused(*BASE) == sentence

    assert SpatioClient.objects.count() == 0
    misbehaviour.lies.clear()
    run(*BASE)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"redirect_uris": ["https://evil.example/"]}, "redirect_uris"),
        ({"redirect_uris": [URI, "https://evil.example/"]}, "redirect_uris"),
        ({"token_endpoint_auth_method": "none"}, "token_endpoint_auth_method"),
        ({"client_secret": None}, "client_secret"),
        ({"client_secret_expires_at": 1}, "client_secret_expires_at"),
        ({"scope": "read:*"}, "scope"),
        ({"registration_client_uri": "http://evil.example/"}, "insecure_url"),
        ({"client_id": "a\nb"}, "client_id"),
    ],
)
def test_an_answer_that_nobody_could_sign_in_with_is_an_error(
    misbehaviour: Misbehaviour, changes: dict[str, Any], code: str
) -> None:
    """Nothing is stored, so that the registration before it goes on."""
    run(*BASE)
    before = registration.current().client_id
    misbehaviour.json("/oauth2/register", **changes)

    assert f"[{code}]" in refused(*BASE, "--force")

    assert registration.current().client_id == before
    assert SpatioClient.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"scope": "openid"}, "Spatio did not grant the scope profile email."),
        ({"redirect_uris": [URI, URI]}, f"Spatio did not register the redirect URI {OTHER_URI}."),
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            "The client authenticates with client_secret_post, not with client_secret_basic.",
        ),
        ({"client_secret_expires_at": 4_000_000_000}, "The client secret expires on 2096-10-02 07:06 UTC"),
        ({"grant_types": ["authorization_code"]}, "Spatio will give no refresh tokens."),
    ],
)
def test_an_answer_that_is_less_than_asked_is_stored_with_a_warning(
    misbehaviour: Misbehaviour, changes: dict[str, Any], warning: str
) -> None:
    """It is what counts from now on, and the same request is not made again for it."""
    misbehaviour.json("/oauth2/register", **changes)
    arguments = (*BASE, "--base-url", "https://example.org")

    run(*arguments, warned=warning)

    row = SpatioClient.objects.get()
    for name, value in changes.items():
        if name not in {"grant_types", "redirect_uris", "token_endpoint_auth_method"}:
            assert getattr(row, name) == value
    assert len(row.redirect_uris) == len(set(row.redirect_uris))
    call_command("spatio_register", *arguments, verbosity=0, stderr=StringIO())
    assert SpatioClient.objects.count() == 1


def test_nothing_that_a_provider_says_moves_the_terminal(misbehaviour: Misbehaviour) -> None:
    """A name with escape sequences in it is stored and shown without them."""
    misbehaviour.json("/oauth2/register", client_name="\x1b]0;owned\x07Site\u202e\r\n")

    printed = run(*BASE)

    assert SpatioClient.objects.get().client_name == "]0;ownedSite"
    assert printed.isascii()


def test_a_provider_that_is_not_there_is_told(settings: Any) -> None:
    """Port 9 of this machine, where nobody listens."""
    settings.SPATIO_ISSUER = "http://127.0.0.1:9"

    assert refused(*BASE) == (
        "No connection to the provider: http://127.0.0.1:9/.well-known/openid-configuration. "
        "Try again later. [unreachable]"
    )


@pytest.mark.parametrize("path", ["/oauth2/register", "/.well-known/openid-configuration"])
def test_a_provider_that_is_slow_is_told(
    misbehaviour: Misbehaviour, settings: Any, issuer: str, path: str
) -> None:
    """The deadline is the whole call's, so a command ends."""
    settings.SPATIO_HTTP_TIMEOUT = 0.5
    released = threading.Event()

    def wait(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        released.wait(20)
        return status, headers, body

    misbehaviour.lies[path] = wait
    try:
        sentence = refused(*BASE)
    finally:
        released.set()

    assert sentence == f"The provider did not answer in time: {issuer}{path}. Try again later. [timeout]"
    assert SpatioClient.objects.count() == 0


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        ("302 Found", {"Location": "https://evil.example/"}, b"", "redirect"),
        ("307 Temporary Redirect", {"Location": "https://evil.example/"}, b"", "redirect"),
        ("201 Created", {"Content-Encoding": "gzip"}, b"\x1f\x8b", "encoded"),
        ("201 Created", {}, b'{"client_id": "' + b"a" * 70_000 + b'"}', "too_large"),
        ("201 Created", {}, b'{"client_id": "a", "client_id": "b", "client_secret": "c"}', "not_json"),
        ("201 Created", {}, b'{"client_id": "a", "client_secret": "c", "x": NaN}', "not_json"),
        ("201 Created", {}, b"[" * 60_000, "not_json"),
        ("201 Created", {}, b"\xff\xfe", "not_json"),
    ],
)
def test_what_is_no_answer_is_told(
    misbehaviour: Misbehaviour, status: str, headers: dict[str, str], body: bytes, code: str
) -> None:
    """The transport's own judgements hold here too."""
    misbehaviour.lies["/oauth2/register"] = lambda *_: (status, dict(headers), body)

    assert f"[{code}]" in refused(*BASE)

    assert SpatioClient.objects.count() == 0
    misbehaviour.lies.clear()
    run(*BASE)


def test_a_provider_without_registration_is_told(misbehaviour: Misbehaviour) -> None:
    """Then the client comes from its operator, into the settings."""
    for name in ("openid-configuration", "oauth-authorization-server"):
        misbehaviour.json(f"/.well-known/{name}", registration_endpoint=None)

    assert "[registration_endpoint]" in refused(*BASE)


def test_a_provider_that_gives_the_same_client_again_replaces_the_row(misbehaviour: Misbehaviour) -> None:
    """Some know a site again by its redirect URI; the secret is new all the same."""
    run(*BASE)
    first = SpatioClient.objects.get()
    misbehaviour.json("/oauth2/register", client_id=first.client_id, client_secret="second")

    run(*BASE, "--force")

    row = SpatioClient.objects.get()
    assert (row.client_id, row.client_secret) == (first.client_id, Secret("second"))
    assert row.pk > first.pk


@pytest.mark.parametrize("calls", [0, 1])
def test_a_database_that_refuses_is_told(spatio: FakeSpatio, calls: int) -> None:
    """Before Spatio is asked, where that can be known; and without the words of the database."""

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT") and len(spatio.calls("/oauth2/register")) >= calls:
            raise OperationalError("readonly: hush")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        sentence = refused(*BASE)

    assert sentence.endswith("[database]")
    assert "hush" not in sentence
    assert len(spatio.calls("/oauth2/register")) == calls
    assert SpatioClient.objects.count() == 0


def test_a_database_that_cannot_be_read_is_told(spatio: FakeSpatio) -> None:
    """Before the first migration, say: whatever was to be done."""

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        raise OperationalError("no such table: hush")

    for option in ("--force", "--update", "--check", "--dry-run"):
        with connection.execute_wrapper(refuse):
            sentence = refused(*BASE, option)
        assert sentence.endswith("[database]")
        assert "hush" not in sentence

    assert spatio.requests == []
