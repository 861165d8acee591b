"""Key rotation: everything is sealed with the first key, beside whoever goes on using it."""

import threading
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from spatio_django import refreshing, registration, revocation, rotation, tokens
from spatio_django.encryption import Encrypted, KeyRing, key_ring
from spatio_django.models import PendingRevocation, SpatioClient, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.threads import close_connections
from tests.conftest import Site
from tests.test_maintenance import people

OLD, NEW = "an old key of thirty-two letters or so", "a new key of thirty-two letters or more"


def run(*arguments: str, verbosity: int = 1) -> str:
    """Run the command; give what it prints."""
    out = StringIO()
    call_command("spatio_rotate_keys", *arguments, stdout=out, verbosity=verbosity)
    return out.getvalue()


def sealed() -> list[str]:
    """Give everything that is sealed, in every table."""
    return [
        getattr(row, field.column)
        for model in (SpatioClient, SpatioToken, PendingRevocation)
        for row in model._default_manager.order_by("pk")
        for field in vars(model).values()
        if isinstance(field, Encrypted) and getattr(row, field.column)
    ]


@pytest.fixture
def filled(site: Site, settings: Any) -> Site:
    """Give a site with something in each table, sealed with an old key; it has a new one in front."""
    settings.SPATIO_ENCRYPTION_KEYS = [OLD]
    row = SpatioClient.objects.get()
    row.client_secret, row.registration_access_token = row.client_secret, row.registration_access_token
    row.save()
    grants = people(5, issuer=site.spatio.issuer, client_id=row.client_id)
    revocation.end_all([grants[0].pk], "signed_out", later=True)
    settings.SPATIO_ENCRYPTION_KEYS = [NEW, OLD]
    registration.forget()
    return site


def test_everything_that_is_sealed_is_sealed_with_the_first_key(filled: Site, settings: Any) -> None:
    """After it the old key can go: every token opens, and the client signs people in."""
    before = sealed()
    assert len(before) == 2 + 2 * 4 + 2
    assert not any(map(key_ring().is_current, before))

    out = run("--batch-size", "2").splitlines()

    assert out == [
        "Spatio clients: 2 encrypted anew, 0 with the first key already, 0 unreadable.",
        "Spatio grants: 8 encrypted anew, 0 with the first key already, 0 unreadable.",
        "pending revocations: 2 encrypted anew, 0 with the first key already, 0 unreadable.",
        "The other keys are not needed any more for what is in the database.",
    ]
    settings.SPATIO_ENCRYPTION_KEYS = [NEW]
    assert all(map(key_ring().is_current, sealed()))
    assert {grant.refresh_token for grant in SpatioToken.objects.active()} == {Secret("tok_refresh")}
    assert PendingRevocation.objects.get().access_token == Secret("tok_access")
    registration.forget()
    filled.sign_in(filled.browser())


def test_no_model_with_a_sealed_column_is_forgotten() -> None:
    """A column of ciphertext belongs to an attribute that rotation finds."""
    found = {(model, field.column) for model, fields in rotation.sealed_models() for field in fields}
    columns = {
        (model, field.name)
        for model in apps.get_app_config("spatio_django").get_models()
        for field in model._meta.fields
        if field.name.endswith("_ciphertext")
    }

    assert found == columns
    assert len(columns) == 6


def test_what_is_done_is_skipped(filled: Site) -> None:
    """Begun again after it was stopped in the middle, it goes on; a second run changes nothing."""

    def stop(model: Any, done: int) -> None:
        if model is SpatioToken:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(batch_size=2, progress=stop)

    counts = rotation.rotate()
    assert (counts[SpatioToken].current, counts[SpatioToken].renewed) == (2, 6)
    before = sealed()
    with CaptureQueriesContext(connection) as captured:
        assert "0 encrypted anew, 8 with the first key already" in run()
    assert not any(query["sql"].startswith("UPDATE") for query in captured)
    assert sealed() == before


def test_a_dry_run_only_counts(filled: Site) -> None:
    """As many as a run would change."""
    before = sealed()

    out = run("--dry-run")

    assert "Spatio grants: 8 to be encrypted anew" in out
    assert "Nothing was changed." in out
    assert sealed() == before
    assert "Spatio grants: 8 encrypted anew" in run()


def test_what_no_key_opens_is_counted_and_left_alone(filled: Site, settings: Any) -> None:
    """Exit status 1, with what to do; all else is done, and once the key is back, the rest."""
    settings.SPATIO_ENCRYPTION_KEYS = ["a key that somebody lost, in a backup"]
    lost = people(1, issuer="https://lost.example")[0]
    settings.SPATIO_ENCRYPTION_KEYS = [NEW, OLD]

    for arguments in (["--dry-run"], []):
        with pytest.raises(CommandError, match="2 can't be decrypted with any key") as caught:
            run(*arguments)
        assert "SPATIO_ENCRYPTION_KEYS" in str(caught.value)
        assert "spatio_register --force" in str(caught.value)

    again = SpatioToken.objects.get(pk=lost.pk)
    assert again.access_ciphertext == lost.access_ciphertext
    settings.SPATIO_ENCRYPTION_KEYS = [NEW, "a key that somebody lost, in a backup"]
    assert "Spatio grants: 2 encrypted anew, 8 with the first key already" in run()


def test_a_swapped_ciphertext_is_not_made_good(filled: Site) -> None:
    """What does not open in its place would, were it sealed anew for that place."""
    SpatioToken.objects.update(refresh_ciphertext=SpatioToken.objects.active().first().access_ciphertext)  # type: ignore[union-attr]

    with pytest.raises(CommandError, match="5 can't be decrypted"):
        run()


def test_a_new_secret_key_is_rotated_to_as_well(site: Site, settings: Any) -> None:
    """Without keys of their own, tokens are sealed under one derived from Django's."""
    assert not settings.is_overridden("SPATIO_ENCRYPTION_KEYS")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "the next one"

    assert "Spatio clients: 2 encrypted anew" in run()

    settings.SECRET_KEY_FALLBACKS = []
    assert all(map(key_ring().is_current, sealed()))


def test_a_refresh_in_the_middle_of_it_wins(filled: Site) -> None:
    """What was stored between reading and writing stays, and is sealed anew itself."""
    successor = KeyRing((OLD,))
    stored: list[str] = []

    def refresh(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        # Another host, which has not read the new settings yet, just before our first UPDATE of a grant.
        if sql.startswith("UPDATE") and "spatiotoken" in sql and not stored:
            grant = SpatioToken.objects.active().order_by("pk")[0]
            stored.append(
                successor.seal(Secret("tok_successor"), context=SpatioToken.refresh_token.context(grant))
            )
            SpatioToken.objects.filter(pk=grant.pk).update(refresh_ciphertext=stored[0])
        return execute(sql, params, *rest)

    with connection.execute_wrapper(refresh):
        counts = rotation.rotate()

    assert stored
    first = SpatioToken.objects.active().order_by("pk")[0]
    assert first.refresh_token == Secret("tok_successor")
    assert key_ring().is_current(first.refresh_ciphertext)
    assert counts[SpatioToken] == rotation.Count(renewed=8)


def test_a_row_that_is_deleted_in_the_middle_of_it_is_no_failure(filled: Site) -> None:
    """Somebody signed out."""
    gone: list[int] = []

    def sign_out(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and "spatiotoken" in sql and not gone:
            gone.append(SpatioToken.objects.active().order_by("pk")[0].pk)
            SpatioToken.objects.filter(pk=gone[0]).delete()
        return execute(sql, params, *rest)

    with connection.execute_wrapper(sign_out):
        run()

    assert not SpatioToken.objects.filter(pk__in=gone).exists()
    assert all(map(key_ring().is_current, sealed()))


def test_a_row_that_changes_each_time_is_left_for_the_next_run(filled: Site) -> None:
    """It is said, and the next run does it."""
    busy = SpatioToken.objects.active().order_by("pk")[0]
    old = KeyRing((OLD,))

    def change(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if (
            sql.startswith("UPDATE")
            and "spatiotoken" in sql
            and busy.pk in params
            and "generation" not in sql
        ):
            sealed_again = old.seal(Secret("tok_access"), context=SpatioToken.access_token.context(busy))
            SpatioToken.objects.filter(pk=busy.pk).update(access_ciphertext=sealed_again, generation=1)
        return execute(sql, params, *rest)

    with (
        connection.execute_wrapper(change),
        pytest.raises(CommandError, match="1 rows were changed by somebody else"),
    ):
        run()
    assert "Spatio grants: 2 encrypted anew, 6 with the first key already" in run()


@pytest.mark.django_db(transaction=True)
def test_rotation_while_refreshes_run_loses_nothing(
    transactional_db: None, site: Site, settings: Any
) -> None:
    """Grants are refreshed again and again by other threads; each stored token is the newest, and opens."""
    settings.SPATIO_ENCRYPTION_KEYS = [OLD]
    browsers = [site.browser() for _ in range(4)]
    for browser in browsers:
        site.sign_in(browser)
    settings.SPATIO_ENCRYPTION_KEYS = [NEW, OLD]
    grants = [SpatioToken.objects.get(handle=each.session[tokens.SESSION_KEY]) for each in browsers]
    failures: list[BaseException] = []
    stop = threading.Event()

    def refresh(pk: int) -> None:
        try:
            while not stop.is_set():
                grant = SpatioToken.objects.with_clock().select_related("account__user").get(pk=pk)
                refreshing.fresh(grant, refreshing.Need(rejected=grant.access_token))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)
        finally:
            close_connections()

    threads = [threading.Thread(target=refresh, args=(grant.pk,)) for grant in grants]
    for thread in threads:
        thread.start()
    for number in range(6):
        # There and back again, so that each time there is something to do.
        settings.SPATIO_ENCRYPTION_KEYS = [NEW, OLD] if number % 2 else [OLD, NEW]
        rotation.rotate(batch_size=2)
    stop.set()
    for thread in threads:
        thread.join(30)

    assert failures == []
    rotation.rotate()
    settings.SPATIO_ENCRYPTION_KEYS = [NEW]
    again = list(SpatioToken.objects.with_clock().select_related("account__user").order_by("pk"))
    assert all(grant.generation > 0 for grant in again)
    for grant in again:
        # The newest refresh token, or the provider would not take it.
        refreshing.fresh(grant, refreshing.Need(rejected=grant.access_token))


def test_long_work_tells_how_far_it_is(filled: Site) -> None:
    """With more verbosity after each batch; with none nothing at all."""
    out = run("--batch-size", "2", verbosity=2)

    assert "Spatio grants: 2 rows …\nSpatio grants: 4 rows …\nSpatio grants: 5 rows …\n" in out
    assert run(verbosity=0) == ""


def test_a_database_that_refuses_is_told_in_a_sentence(filled: Site) -> None:
    """What was done before stays done."""

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if "spatiotoken" in sql:
            raise OperationalError("gone away")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse), pytest.raises(CommandError, match="safe to run again"):
        run()
