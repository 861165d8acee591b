"""Moving in from the real packages, as docs/moving/ says, their tables filled by their own sign-ins."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spatio_django.adoption import Outcome
from spatio_django.conf import Settings
from tests.moving.page import FOLDER, blocks

ROOT = Path(__file__).parent.parent
PAGES = ("from-allauth.md", "from-social-auth.md", "from-mozilla-django-oidc.md")


@cache
def walk(page: str) -> Any:
    """Move a site in as *page* says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.moving.walk"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SPATIO_TESTS_MOVING_PAGE": page},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def reasons(printed: str) -> list[Outcome]:
    """Give why rows were left out."""
    return [Outcome(reason) for reason in re.findall(r"^.*, sub '.*?': (.*)\.$", printed, re.MULTILINE)]


@pytest.mark.provider
@pytest.mark.parametrize("page", PAGES)
def test_people_keep_their_user(page: str) -> None:
    """The whole page: old sign-in, rehearsal, adoption twice, new sign-in, and both side by side."""
    report = walk(page)

    assert report["untouched"]
    assert "Nothing was changed." in report["rehearsed"]
    adopted = len(report["adopted"])
    assert f"Would connect: {adopted}. Connected already: 0." in report["rehearsed"]
    assert f"Connected: {adopted}. Connected already: 0." in report["applied"]
    assert f"Connected: 0. Connected already: {adopted}." in report["again"]
    assert {"ada", "zoe"} <= report["adopted"].keys()
    assert report["same"]
    assert report["both"]


@pytest.mark.provider
@pytest.mark.parametrize("page", PAGES)
def test_newcomers_find_their_user_on_the_way_back(page: str) -> None:
    """Whoever came through Spatio meanwhile is the same user to the old package."""
    assert walk(page)["newcomer"] == ["bo", "bo"]


@pytest.mark.provider
def test_rows_of_allauth_speak_for_themselves() -> None:
    """Another provider's, issuer's or claim's are not taken; a superuser's own is."""
    report = walk("from-allauth.md")

    assert report["adopted"] == {"ada": "ada", "zoe": "zoe", "cleo": "boss"}
    expected = [Outcome.OTHER_ISSUER, Outcome.NOT_SUB, Outcome.BAD_SUB]
    expected += [Outcome.NOT_SUB, Outcome.BAD_SUB]
    assert reasons(report["applied"]) == expected
    assert report["applied"].startswith("From social accounts of 'spatio', as given by ISSUER:\n")
    assert "5 left out" in report["applied"]


@pytest.mark.provider
def test_a_provider_of_allauth_is_taken_only_if_it_is_ours() -> None:
    """By its address and its claim, and by name as soon as there are two."""
    report = walk("from-allauth.md")

    assert "Connected already: 4." in report["by itself"]
    assert "Would connect: 0. Connected already: 0. Left out: 0." in report["second"]
    for name, reason in {
        "elsewhere": "'corp' can't be taken. The issuer is ISSUER. Configured: 'corp' is at https://corp.example",
        "other users": "SocialAccount doesn't belong to this site's users",
        "two": "Say which with --provider. ",
        "shadowed": "'spatio' is at https://corp.example",
        "by e-mail": "'second' knows people by another claim than sub (uid_field)",
        "not ours": "'second' is google, not openid_connect",
    }.items():
        assert reason in report[name]
        assert report[name].endswith("[adopt]")


@pytest.mark.provider
def test_rows_of_social_auth_speak_for_themselves() -> None:
    """By ``id_key``, by the stored ID token, and by the sub that is kept under another name."""
    report = walk("from-social-auth.md")

    assert report["adopted"].keys() == {"ada", "zoe", "cleo"}
    assert report["adopted"]["cleo"] == "boss"
    expected = [Outcome.OTHER_ISSUER] * 2 + [Outcome.NOT_SUB] * 2 + [Outcome.BAD_SUB, Outcome.OTHER_ISSUER]
    assert reasons(report["applied"]) == expected


@pytest.mark.provider
def test_a_backend_of_social_auth_is_taken_only_if_it_is_ours() -> None:
    """By its endpoint, or by the issuer that it compared tokens with; and by ID_KEY."""
    report = walk("from-social-auth.md")

    assert "Connected already: 4." in report["by itself"]
    assert "Connected already: 4." in report["pinned"]
    for name, reason in {
        "unknown": "'corp' can't be taken.",
        "elsewhere": "No provider can be taken",
        "nowhere": "'oidc' is at no known address",
        "by e-mail": "'oidc' knows people by another claim than sub (ID_KEY)",
        "pinned elsewhere": "'oidc' is at https://corp.example",
    }.items():
        assert reason in report[name]
        assert report[name].endswith("[adopt]")


@pytest.mark.provider
def test_mozilla_remembers_only_whose_address_is_proven() -> None:
    """An address that nobody verified could be anybody's, and staff must not hang on one."""
    report = walk("from-mozilla-django-oidc.md")

    assert report["adopted"].keys() == {"ada", "zoe"}
    assert report["boss"] == report["connected"] == "boss"


@pytest.mark.provider
def test_session_refresh_would_send_our_people_away() -> None:
    """That is why the page has it taken out."""
    report = walk("from-mozilla-django-oidc.md")

    assert (report["without refresh"], report["with refresh"]) == (200, 302)


# The pages


@pytest.mark.parametrize("page", ["index.md", *PAGES])
def test_pages_name_settings_that_exist_and_code_that_compiles(page: str) -> None:
    """What is there to be copied is what the package has."""
    text = (FOLDER / page).read_text()
    settings = {name for name, value in vars(Settings).items() if isinstance(value, property)}

    assert set(re.findall(r"\bSPATIO_[A-Z_]+[A-Z]\b", text)) <= settings
    for block in blocks(page, "python"):
        ast.parse(block)
    if page != "index.md":
        assert blocks(page, "python")


def test_every_reason_is_explained() -> None:
    """An operator who reads why a row was left out finds what to do."""
    text = (FOLDER / "index.md").read_text()

    for outcome in filter(lambda outcome: outcome.is_problem, Outcome):
        assert outcome.value in text
