"""The state file: everything survives a restart, and nobody else can read it."""

import json
import stat
import sys
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from spatio_django.testing import FakeSpatio
from tests.testing.relying_party import RelyingParty, fetch


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """Clients, keys, codes, tokens, consents and signed-in browsers."""
    path = tmp_path / "state.json"
    jar = CookieJar()
    with FakeSpatio(state_file=path) as spatio:
        rp = RelyingParty(spatio)
        tokens, code = rp.sign_in(jar=jar), rp.authorize()
        spent = rp.refresh(tokens["refresh_token"]).json
        pat = spatio.issue_pat()
        spatio.rotate_keys()
        kid = spatio.private_jwk["kid"]
        page = fetch(rp.authorization_url(prompt="consent"), jar=jar).headers["Location"] or ""

    with FakeSpatio(state_file=str(path), port=spatio.port) as spatio:
        rp.spatio = spatio
        assert spatio.private_jwk["kid"] == kid
        assert rp.claims(tokens["id_token"])["sub"]
        assert rp.introspect(spent["access_token"])["active"]
        assert rp.introspect(pat)["active"]
        assert rp.exchange(code).status == 200
        assert fetch(page, jar=jar).status == 200
        rp.authorize(jar=jar, prompt="none")
        assert rp.refresh(spent["refresh_token"]).status == 200
        assert rp.refresh(tokens["refresh_token"]).error == "invalid_grant"
        assert rp.introspect(spent["access_token"]) == {"active": False}


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    """It holds the secrets of all clients."""
    path = tmp_path / "state.json"
    with FakeSpatio(state_file=path) as spatio:
        spatio.register(["http://testserver/cb"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no debris beside it."""
    path = tmp_path / "state.json"
    spatio = FakeSpatio(state_file=path)
    spatio.issue_pat()
    before = path.read_text()
    monkeypatch.setattr("spatio_django.testing.store.json.dump", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        spatio.issue_pat()

    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"clients": {}})])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    """A mistyped name costs nobody their file."""
    path = tmp_path / "mine"
    path.write_text(text)
    with pytest.raises(ValueError, match="does not hold the state"):
        FakeSpatio(state_file=path)

    assert path.read_text() == text
