"""Sign-ins at sites with few accounts and with very many, on PostgreSQL, in databases that are dropped."""

import os
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import machine
from benchmarks.network import network
from benchmarks.sites.catalogue import postgresql
from benchmarks.workers import Worker

SIZES = (0, 10_000, 1_000_000)
#: People who have signed in before, at a site with no others.
FEW = 100
NAMES = ("minimum", "spatio")

#: The accounts that ``benchmarks.sites.with_spatio.seed`` would make, a million times faster.
FILL = (
    """
    INSERT INTO auth_user (username, email, first_name, last_name, password,
                           is_superuser, is_staff, is_active, date_joined)
    SELECT 'person-' || n, 'person-' || n || '@people.example', 'Person', n, '!', false, false, true, now()
    FROM generate_series(%(first)s::int, %(last)s::int) n
    """,
    """
    INSERT INTO spatio_django_spatioaccount (user_id, issuer, sub, identity_digest, claims, created_at)
    SELECT id, %(issuer)s::text, username,
           encode(sha256(convert_to('["' || %(issuer)s::text || '", "' || username || '"]', 'UTF8')), 'hex'),
           jsonb_build_object(
               'sub', username, 'name', 'Person ' || last_name, 'given_name', 'Person',
               'family_name', last_name, 'preferred_username', username, 'email', email,
               'email_verified', true, 'picture', 'https://people.example/' || last_name || '.png',
               'updated_at', 1760000000),
           now()
    FROM auth_user
    WHERE NOT EXISTS (SELECT 1 FROM spatio_django_spatioaccount account WHERE account.user_id = auth_user.id)
    """,
)


def server() -> dict[str, str]:
    """Say which PostgreSQL: ``PGHOST`` and ``PGUSER``, or this machine's with its usual superuser."""
    return {
        "host": os.environ.get("PGHOST", "127.0.0.1"),
        "user": os.environ.get("PGUSER", "postgres"),
        "password": os.environ.get("PGPASSWORD", ""),
    }


def connected(database: str) -> "psycopg.Connection[Any]":
    """Connect to a database there, without transactions."""
    where = server()
    return psycopg.connect(
        host=where["host"],
        user=where["user"],
        password=where["password"],
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def missing() -> str | None:
    """Say why there is no PostgreSQL to measure with; ``None`` if there is."""
    try:
        connected("postgres").close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0]
    return None


@contextmanager
def databases(sizes: Sequence[int]) -> Iterator[dict[int, str]]:
    """Make an empty database per size, and drop them at the end, whatever happens."""
    names = {size: f"spatio_benchmark_{os.getpid()}_{size}" for size in sizes}
    with connected("postgres") as connection, ExitStack() as stack:
        for name in map(sql.Identifier, names.values()):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            stack.callback(connection.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        yield names


def fill(name: str, *, issuer: str, count: int) -> None:
    """Add *count* people with accounts to those who are there, and let PostgreSQL take note."""
    with connected(name) as connection:
        for statement in FILL if count else ():
            connection.execute(statement, {"first": FEW, "last": FEW + count - 1, "issuer": issuer})
        connection.execute("VACUUM ANALYZE")


def measure(
    folder: Path, *, sizes: Sequence[int], rounds: int, turn: int, say: Callable[[str], None]
) -> dict[tuple[str, int], list[float]]:
    """
    Sign in at each site, with each number of other accounts, in rounds; whoever signs in is any of them all.

    The provider is next door and speaks plain http, so that the database's part is not lost in the waiting.

    Returns:
        By site and size, the seconds per sign-in of each round.
    """
    order = random.Random(1)  # noqa: S311 - who goes first
    # First in, last out: databases are dropped when the sites that use them have ended.
    with (
        databases(sizes) as names,
        network(folder, scheme="http", round_trip=0) as net,
        ExitStack() as stack,
    ):

        def site(name: str, size: int) -> Worker:
            config: dict[str, Any] = {
                "site": name,
                "issuer": net.issuer,
                "bundle": str(net.bundle),
                "database": postgresql(names[size], **server()),
            }
            return stack.enter_context(Worker("benchmarks.site", config, name=f"{name}, {size} accounts"))

        workers: dict[tuple[str, int], Worker] = {}
        for size in sizes:
            say(f"Filling a database with {size:,} accounts")
            worker = workers["spatio", size] = site("spatio", size)
            worker.ask("prepare", count=FEW)
            fill(names[size], issuer=net.issuer, count=size)
            workers["minimum", size] = site("minimum", size)
            for name in NAMES:
                workers[name, size].ask("begin", count=FEW + size)
                workers[name, size].ask("first")
                workers[name, size].ask("statements")  # which looks whether the right person is signed in
        times: dict[tuple[str, int], list[float]] = {key: [] for key in workers}
        for number in range(rounds):
            say(f"Accounts: round {number + 1} of {rounds}")
            for key in order.sample(sorted(workers), len(workers)):
                times[key].append(workers[key].ask("turn", count=turn)["wall"])
    return times


def report(times: dict[tuple[str, int], list[float]]) -> str:
    """Write it down: each site against itself without other accounts, inside a round."""
    sizes = sorted({size for _, size in times})
    rows = []
    for name in NAMES:
        base = times[name, sizes[0]]
        for size in sizes:
            found = [one / other for one, other in zip(times[name, size], base, strict=True)]
            low, high = machine.middle_half(found)
            rows.append(
                [
                    f"`{name}`",
                    f"{size:,}",
                    f"{statistics.median(times[name, size]) * 1000:.1f}",
                    f"{min(times[name, size]) * 1000:.1f}",
                    f"{statistics.median(found):.2f} ({low:.2f} to {high:.2f})",
                ]
            )
    return machine.table(["site", "accounts", "ms", "fastest round", "÷ none"], rows)
