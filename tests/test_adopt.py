"""``manage.py spatio_adopt``: what is decided about a list, and written."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from spatio_django import adoption, adoption_lists
from spatio_django.adoption import Outcome, Row, Source
from spatio_django.management.commands.spatio_adopt import describe
from spatio_django.models import SpatioAccount
from spatio_django.testing import PERSONAS
from tests.conftest import Site

pytestmark = pytest.mark.django_db

User = get_user_model()
ISSUER = "https://api.spatio.app"
SUBS = {persona.key: persona.sub for persona in PERSONAS}

Run = Callable[..., tuple[str, str]]


def run(*arguments: str) -> tuple[str, str]:
    """Run the command; give what it printed, and the error that it ended with, if any."""
    out = StringIO()
    try:
        call_command("spatio_adopt", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


@pytest.fixture
def adopt(tmp_path: Path) -> Run:
    """Adopt from a list in a file, at the configured issuer."""

    def adopt(text: str, *arguments: str) -> tuple[str, str]:
        path = tmp_path / "list.csv"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return run("--from", "csv", str(path), "--issuer", ISSUER, *arguments)

    return adopt


@pytest.fixture
def ada(db: None) -> Any:
    """Give a user who was here before."""
    return User.objects.create_user("ada", "ada@example.org")


@pytest.fixture
def bo(db: None) -> Any:
    """Give another."""
    return User.objects.create_user("bo")


def connect(user: Any, sub: str, issuer: str = ISSUER) -> SpatioAccount:
    """Have *user* connected already."""
    return SpatioAccount.objects.create(user=user, issuer=issuer, sub=sub)


def connections_here() -> dict[str, str]:
    """Tell who has which account."""
    return dict(SpatioAccount.objects.values_list("user__username", "sub"))


# Rehearsal and the real thing


def test_a_rehearsal_only_says_what_it_would_do(adopt: Run, ada: Any) -> None:
    """A first look at ten years of users must be free of consequences."""
    printed, error = adopt("username,sub\nada,acc_1\n")

    assert printed == (
        f"From a list, as given by {ISSUER}:\n"
        "Would connect: 1. Connected already: 0. Left out: 0.\n"
        "Nothing was changed. To do it, run the same with --apply.\n"
    )
    assert error == ""
    assert connections_here() == {}


def test_applying_connects_and_may_be_repeated(adopt: Run, ada: Any, bo: Any) -> None:
    """The second run finds everything done, and ends well all the same."""
    text = f"pk,sub,anything\n{ada.pk},acc_1,x\n00{bo.pk},acc_2,y\n"

    first, error = adopt(text, "--apply")

    assert f"{ISSUER}:\nConnected: 2. Connected already: 0. Left out: 0.\nNow sign in" in first
    assert error == ""
    account = SpatioAccount.objects.identified_by(ISSUER, "acc_1")
    assert account is not None
    assert (account.user, account.claims) == (ada, {})
    again, error = adopt(text, "--apply")
    assert f"{ISSUER}:\nConnected: 0. Connected already: 2. Left out: 0.\n" in again
    assert error == ""
    assert connections_here() == {"ada": "acc_1", "bo": "acc_2"}


def test_who_was_adopted_signs_in_as_before(site: Site, ada: Any, tmp_path: Path) -> None:
    """No second user is made, and claims are filled; a sub in other letters is somebody else."""
    issuer = site.spatio.issuer
    dee = User.objects.create_user("dee", is_staff=True)
    path = tmp_path / "list.csv"
    path.write_text(f"username,sub\nada,{SUBS['ada']}\ndee,{SUBS['dee']}\n")

    assert run("--from", "csv", str(path), "--issuer", issuer, "--apply")[1] == ""

    for persona, user in (("ada", ada), ("dee", dee)):
        browser = site.browser()
        site.sign_in(browser, persona=persona)
        assert browser.get("/state/").json()["user"] == user.username
        site.spatio.forget_browsers()
    assert User.objects.count() == 2
    assert ada.spatio_accounts.get().email == "ada@example.com"


def test_whoever_is_switched_off_is_adopted_and_stays_out(site: Site, ada: Any, tmp_path: Path) -> None:
    """Otherwise their first sign-in would make them a second, active user."""
    path = tmp_path / "list.csv"
    path.write_text(f"username,sub\nada,{SUBS['ada']}\n")
    run("--from", "csv", str(path), "--issuer", site.spatio.issuer, "--apply")
    assert site.sign_in(site.browser()).status_code == 302
    User.objects.update(is_active=False)
    site.spatio.forget_browsers()

    response = site.sign_in(site.browser())

    assert (response.status_code, response.context["code"]) == (403, "inactive")
    assert User.objects.count() == 1


def test_quiet_is_quiet(adopt: Run, ada: Any) -> None:
    """For a scheduler, the exit status is enough."""
    assert adopt("username,sub\nada,acc_1\nnobody,acc_2\n", "-v0")[0] == ""


# What is left out


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("bo,", Outcome.BAD_SUB),
        ("bo," + "a" * 256, Outcome.BAD_SUB),
        ("bo,äcc", Outcome.BAD_SUB),
        ("bo,acc\x07", Outcome.BAD_SUB),
        ("bo, acc", Outcome.BAD_SUB),
        ("bo,acc ", Outcome.BAD_SUB),
        ("nobody,acc_2", Outcome.NO_USER),
        ("BO,acc_2", Outcome.NO_USER),
        (",acc_2", Outcome.NO_USER),
        ("b\0o,acc_2", Outcome.NO_USER),
        ("bo", Outcome.MALFORMED),
        ("bo,acc_2,acc_3", Outcome.MALFORMED),
        ("bo,acc_cleo", Outcome.TAKEN),
        ("cleo,acc_2", Outcome.CONNECTED),
    ],
)
def test_a_line_that_does_not_hold_is_left_out(
    adopt: Run, ada: Any, bo: Any, line: str, outcome: Outcome
) -> None:
    """One sentence each, exit status 1, and the rest of the list is done."""
    connect(User.objects.create_user("cleo"), "acc_cleo")
    good, fine = adopt("username,sub\nada,acc_1\nbo,acc_2\n")
    assert "Would connect: 2. Connected already: 0. Left out: 0." in good
    assert fine == ""

    printed, error = adopt(f"username,sub\nada,acc_1\n{line}\n", "--apply")

    assert f": {outcome.value}.\n" in printed
    assert "\nline 3, user " in printed
    assert "Connected: 1. Connected already: 0. Left out: 1." in printed
    assert error.startswith("1 left out.")
    assert connections_here() == {"ada": "acc_1", "cleo": "acc_cleo"}


@pytest.mark.parametrize("key", ["x", "0", "9" * 30, "9" * 5000, "1.5", "-1", "%s_", "_%s", "0_0%s", " %s"])
def test_a_primary_key_that_is_none_is_left_out(adopt: Run, ada: Any, key: str) -> None:
    """Whatever a database would say to it."""
    assert adopt(f"pk,sub\n{ada.pk},acc_1\n")[1] == ""

    printed, error = adopt(f"pk,sub\n{key.replace('%s', str(ada.pk))},acc_1\n")

    assert Outcome.NO_USER.value in printed
    assert error


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_a_sub_of_two_users_goes_to_neither(ada: Any, bo: Any, batch: int) -> None:
    """Whose it is can't be told by who comes first; nor may that depend on where a batch ends."""
    cleo = User.objects.create_user("cleo")
    rows = [
        Row("1", "ada", "same"),
        Row("2", "cleo", "own"),
        Row("3", "bo", "same"),
        Row("4", "cleo", "own"),  # said twice, done once
    ]

    verdicts = list(adoption.adopt(Source("username", iter(rows)), apply=True, batch=batch))

    assert [(verdict.row.place, verdict.outcome) for verdict in verdicts] == [
        ("1", Outcome.SHARED),
        ("2", Outcome.NEW),
        ("3", Outcome.SHARED),
    ]
    assert SpatioAccount.objects.get().user == cleo


@pytest.mark.parametrize("batch", [1, 500])
def test_of_two_subs_of_one_user_neither_is_taken(ada: Any, batch: int) -> None:
    """Unless one of them is connected already: then that is the answer."""
    rows = [Row("1", "ada", "one"), Row("2", "ada", "two")]

    def outcomes() -> list[Outcome]:
        source = Source("username", iter(rows))
        return [verdict.outcome for verdict in adoption.adopt(source, apply=True, batch=batch)]

    assert outcomes() == [Outcome.SEVERAL, Outcome.SEVERAL]
    connect(ada, "two")
    assert outcomes() == [Outcome.SEVERAL, Outcome.KNOWN]


def test_an_account_at_another_issuer_is_not_in_the_way(adopt: Run, ada: Any) -> None:
    """The development provider's, say. The same sub there is another person."""
    connect(ada, "acc_1", issuer="http://127.0.0.1:8765")

    assert adopt("username,sub\nada,acc_1\n", "--apply")[1] == ""

    assert ada.spatio_accounts.count() == 2


def test_names_can_not_move_the_cursor(adopt: Run) -> None:
    """A username or a cell may hold what a terminal obeys."""
    user = User.objects.create_user("\x1b[2J\u202eeve")
    connect(user, "acc_9")

    printed, _ = adopt(f"pk,sub\n{user.pk},acc_1\n\x1b[2J,\x1b]0;x\x07\n")

    assert Outcome.CONNECTED.value in printed
    assert Outcome.BAD_SUB.value not in printed  # no user comes first
    assert not set(printed) & {"\x1b", "\x07", "\u202e"}


# Whose identifiers


def test_the_operator_says_who_gave_the_identifiers(adopt: Run, ada: Any, tmp_path: Path) -> None:
    """Equal texts of two providers are two people, and a list doesn't tell."""
    path = tmp_path / "list.csv"
    assert adopt("username,sub\nada,acc_1\n")[1] == ""

    for arguments in ([], ["--issuer", ISSUER + "/"], ["--issuer", "https://other.example"]):
        printed, error = run("--from", "csv", str(path), *arguments, "--apply")
        assert printed == ""
        assert f"--issuer {ISSUER} [adopt]" in error
        assert "--issuer" in run("--from", "field", "--field", "first_name", *arguments)[1]


def test_a_column_can_say_it_instead(ada: Any, bo: Any, tmp_path: Path) -> None:
    """Rows of another issuer are left out, and don't make ours ambiguous."""
    path = tmp_path / "list.csv"
    path.write_text(f"issuer,username,sub\n{ISSUER},ada,7\nhttps://other.example,bo,7\n,bo,8\n")

    printed, error = run("--from", "csv", str(path), "--apply")

    assert printed.count(Outcome.OTHER_ISSUER.value) == 2
    assert error
    assert connections_here() == {"ada": "7"}


def test_a_user_who_is_deleted_meanwhile_is_left_out(ada: Any, bo: Any) -> None:
    """After the list was read, before their batch comes."""

    def rows() -> Iterator[Row]:
        yield Row("1", str(ada.pk), "acc_1")
        yield Row("2", str(bo.pk), "acc_2")
        User.objects.filter(pk=ada.pk).delete()

    verdicts = list(adoption.adopt(Source("pk", rows()), apply=True))

    assert [verdict.outcome for verdict in verdicts] == [Outcome.NO_USER, Outcome.NEW]
    assert connections_here() == {"bo": "acc_2"}


@pytest.mark.parametrize("sub", ["acc\0", "acc\ud800", "acc ", "acc\u00a0", "acc\u2028", "\uff41cc"])
def test_what_some_databases_keep_and_others_refuse_is_left_out(ada: Any, sub: str) -> None:
    """NUL, half a surrogate pair, a space of any kind, letters that only look plain."""
    rows = [Row("1", str(ada.pk), sub)]

    (verdict,) = adoption.adopt(Source("pk", iter(rows)), apply=True)

    assert verdict.outcome == Outcome.BAD_SUB
    assert not set(describe(verdict)) & {"\0", "\ud800", "\u2028"}
    assert adoption_lists._doubt("acc", [{"sub": sub}]) == Outcome.NOT_SUB


# Files


@pytest.mark.parametrize(
    "text",
    [
        "username,sub\r\nada,acc_1\r\n",
        "\ufeffusername,sub\nada,acc_1\n",
        '"username","sub"\n"ada","acc_1"\n',
        '\ufeff"username","sub"\r\n"ada","acc_1"',
        "username,sub,note,note,,\nada,acc_1,x,y,,\n",
        'note,sub,username\n"a ""quoted"", long\nnote",acc_1,ada\n\n',
    ],
)
def test_files_as_programs_write_them_are_read(adopt: Run, ada: Any, text: str) -> None:
    """Spreadsheets and databases: signature, quotes, line ends, columns that don't matter."""
    printed, error = adopt(text, "--apply")

    assert error == ""
    assert connections_here() == {"ada": "acc_1"}, printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sub\nacc_1\n",
        "user,sub\nada,acc_1\n",
        "username;sub\nada;acc_1\n",
        "pk,username,sub\n1,ada,acc_1\n",
        "username,sub,sub\nada,acc_1,acc_2\n",
        "username,username,sub\nada,bo,acc_1\n",
        "username,sub,issuer,issuer\nada,acc_1,https://api.spatio.app,x\n",
        "username,\udcff\n",
        "username,sub\nada,acc_1\nbo,\udcff\n",
        'username,sub\nada,acc_1\nbo,"acc_2',
        "username,sub\nada,acc_1\nbo," + "a" * 200_000,
    ],
)
def test_a_file_that_breaks_off_changes_nothing(adopt: Run, ada: Any, text: str) -> None:
    """It is read to its end before anything is written."""
    assert adopt("\ufeffusername,sub\r\nada,acc_1\r\n") == adopt("username,sub\nada,acc_1\n")

    printed, error = adopt(text, "--apply")

    assert "Connected" not in printed
    assert error.endswith("[adopt]")
    assert connections_here() == {}


def test_a_file_that_is_not_there_is_told() -> None:
    """One sentence, no traceback."""
    assert "can't be read: No such file" in run("--from", "csv", "no/such.csv", "--issuer", ISSUER)[1]


def test_standard_input_is_read_when_no_file_is_named(ada: Any, tmp_path: Path) -> None:
    """From a query, through a pipe."""
    path = tmp_path / "list.csv"
    path.write_text("username,sub\nada,acc_1\n")
    before = os.dup(0)
    file = os.open(path, os.O_RDONLY)
    os.dup2(file, 0)
    try:
        printed, error = run("--from", "csv", "--issuer", ISSUER, "--apply")
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(file)

    assert "Connected: 1." in printed
    assert error == ""


# A field


def test_a_field_of_the_user_is_read_page_by_page(django_assert_max_num_queries: Any) -> None:
    """Any number of users, in a number of queries that the rows don't multiply."""
    amount = adoption_lists.PAGE + 1
    User.objects.bulk_create(
        [User(username=f"u{number}", first_name=f"acc_{number}") for number in range(amount)]
        + [User(username="none")]
    )
    batches = amount // adoption.BATCH + 1

    # An insert may be several: SQLite takes a number of values, which older releases of Django set low.
    with django_assert_max_num_queries(2 * 3 + batches * 12):
        printed, error = run("--from", "field", "--field", "first_name", "--issuer", ISSUER, "--apply")

    assert f"Connected: {amount}. Connected already: 0. Left out: 0." in printed
    assert error == ""
    account = SpatioAccount.objects.identified_by(ISSUER, f"acc_{amount - 1}")
    assert account is not None
    assert account.user.username == f"u{amount - 1}"


def test_users_whose_field_is_empty_are_not_on_the_list(ada: Any) -> None:
    """They never signed in that way."""
    printed, error = run("--from", "field", "--field", "first_name", "--issuer", ISSUER)

    assert printed.startswith(f"From the field first_name, as given by {ISSUER}:\n")
    assert printed.endswith("Would connect: 0. Connected already: 0. Left out: 0.\n")
    assert error == ""


@pytest.mark.parametrize("arguments", [[], ["--field", "profile.sub"], ["--field", "first_name.nope"]])
def test_a_field_that_is_none_is_told(ada: Any, arguments: list[str]) -> None:
    """Before anything is read."""
    error = run("--from", "field", *arguments, "--issuer", ISSUER)[1]

    assert error.startswith("Users have no field")
    assert error.endswith("[adopt]")


@pytest.mark.parametrize("field", ["date_joined", "is_active"])
def test_a_field_of_something_else_is_not_taken(ada: Any, field: str) -> None:
    """Dates and switches are no identifiers, however unique their text is."""
    assert "Would connect: 1." in run("--from", "field", "--field", "username", "--issuer", ISSUER)[0]

    printed, error = run("--from", "field", "--field", field, "--issuer", ISSUER)

    assert Outcome.BAD_SUB.value in printed
    assert error


def test_a_field_of_numbers_is_taken_as_written(ada: Any) -> None:
    """Some providers count their people. (A UUID is written with hyphens, in small letters.)"""
    assert adoption_lists._is_identifier(uuid4())

    run("--from", "field", "--field", "pk", "--issuer", ISSUER, "--apply")

    assert connections_here() == {"ada": str(ada.pk)}


@pytest.mark.parametrize("source", ["allauth", "social-auth"])
def test_a_package_that_is_not_there_is_told(source: str) -> None:
    """Whoever took it out already hears how to go on."""
    assert "not in INSTALLED_APPS: adopt before" in run("--from", source)[1]


# At the same time


def refuse(times: int) -> Callable[..., Any]:
    """Give a database that ends a number of inserts of accounts, as MariaDB ends one of two in a deadlock."""
    left = iter(range(times))

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT") and "spatioaccount" in sql and next(left, None) is not None:
            raise OperationalError("deadlock found: acc_secret")
        return execute(sql, *rest)

    return wrapper


def test_a_batch_that_lost_a_deadlock_is_decided_anew(adopt: Run, ada: Any) -> None:
    """Two tries may fail; the third holds."""
    with connection.execute_wrapper(refuse(2)):
        printed, error = adopt("username,sub\nada,acc_1\n", "--apply")

    assert "Connected: 1." in printed
    assert error == ""
    assert connections_here() == {"ada": "acc_1"}


def test_somebody_faster_is_not_overwritten(adopt: Run, ada: Any, bo: Any) -> None:
    """Somebody signs in with that account between the look and the insert: it is theirs, and reported."""
    done: list[SpatioAccount] = []

    def faster(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT") and "spatioaccount" in sql and not done:
            done.append(SpatioAccount(user=bo, issuer=ISSUER, sub="acc_1"))
            raise IntegrityError("unique")
        if sql.startswith("SELECT") and "spatioaccount" in sql and done and done[0]._state.adding:
            done[0].save()  # the other transaction's row, seen by the second look
        return execute(sql, *rest)

    with connection.execute_wrapper(faster):
        printed, error = adopt("username,sub\nada,acc_1\n", "--apply")

    assert Outcome.TAKEN.value in printed
    assert error
    assert connections_here() == {"bo": "acc_1"}


def test_a_database_that_goes_on_refusing_is_told(adopt: Run, ada: Any) -> None:
    """One sentence, without what the database says: it may quote the row."""
    with connection.execute_wrapper(refuse(9)):
        _, error = adopt("username,sub\nada,acc_1\n", "--apply")

    assert error.startswith("The database refused a batch (OperationalError)")
    assert "acc_secret" not in error
    assert connections_here() == {}


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_end_with_each_connected_once() -> None:
    """On two hosts, by two operators."""
    users = User.objects.bulk_create([User(username=f"u{number}") for number in range(60)])

    def one(_: int) -> list[Outcome]:
        rows: Iterator[Row] = iter([Row(str(user.pk), str(user.pk), f"acc_{user.pk}") for user in users])
        try:
            return [verdict.outcome for verdict in adoption.adopt(Source("pk", rows), apply=True, batch=7)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))

    assert {*zip(first, second, strict=True)} <= {
        (Outcome.NEW, Outcome.KNOWN),
        (Outcome.KNOWN, Outcome.NEW),
    }
    assert connections_here() == {user.username: f"acc_{user.pk}" for user in users}


def test_a_rehearsal_locks_nobody(ada: Any) -> None:
    """It may run in the middle of the day."""
    for apply in (True, False):
        with CaptureQueriesContext(connection) as queries:
            list(adoption.adopt(Source("username", iter([Row("1", "ada", "acc_1")])), apply=apply))
        written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
        locking = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
        assert bool(written) == apply
        assert bool(locking) == (apply and connection.features.has_select_for_update)
