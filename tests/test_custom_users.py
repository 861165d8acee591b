"""Sites with user models of their own."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.provider


@cache
def walk(model: str) -> Any:
    """Sign everybody in to a site with that user model, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.customuser.walk"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "SPATIO_TESTS_USER_MODEL": model},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_users_known_by_email_need_a_verified_one() -> None:
    """No e-mail, or one that anybody could have typed, ends on a page that says so."""
    walked = walk("EmailUser")

    assert walked["results"] == {
        "ada": "in",
        "bo": "in",
        "cleo": "403 email_unverified",
        "zoe": "in",
        "dee": "in",
        "nomail": "403 email_missing",
        "taken": "403 email_taken",
    }
    assert walked["users"] == [
        "taken@example.com",
        "ada@example.com",
        "bo@example.com",
        "zoe@example.com",
        "dee@example.com",
    ]


def test_a_unique_username_beside_the_email_is_filled() -> None:
    """The commonest custom user: without it, the second person would collide with the first's empty name."""
    walked = walk("EmailAndUsernameUser")

    assert walked["results"]["zoe"] == "in"
    assert len(walked["users"]) == 5


def test_a_model_without_email_or_names_works() -> None:
    """Only a short handle: what fits is filled."""
    walked = walk("HandleUser")

    assert walked["results"]["ada"] == "in"
    assert walked["results"]["zoe"] == "in"
    assert {"ada", "bo", "cleo", "zoe"} <= set(walked["users"])


def test_a_random_key_and_a_manager_that_joins_work() -> None:
    """No query of ours relies on numbers, or on what a site's manager adds."""
    walked = walk("UuidUser")

    assert walked["results"]["ada"] == "in"
    assert walked["results"]["zoe"] == "in"


@pytest.mark.parametrize("model", ["EmailUser", "EmailAndUsernameUser", "HandleUser", "UuidUser"])
def test_people_who_have_a_password_are_brought_along(model: str) -> None:
    """They connect, see it, disconnect, and are adopted."""
    assert walk(model)["brought"] == {
        "connected": 1,
        "shown": True,
        "used": True,
        "disconnected": True,
        "adopted": "acc_adopted",
    }
