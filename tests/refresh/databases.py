"""Databases of their own for what several processes do at once, made empty and dropped again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KINDS = ("sqlite", "postgresql", "mariadb")
#: Connections of a server that are left to others.
SPARE = 20

Settings = dict[str, Any]


@contextmanager
def database(kind: str, folder: Path) -> Iterator[Settings]:
    """
    Make an empty database, give Django's settings for it, and drop it at the end.

    Args:
        kind: Of :data:`KINDS`.
        folder: For the file, if it is one.
    """
    if kind == "sqlite":
        yield sqlite(folder / "storm.sqlite3")
        return
    name = f"spatio_storm_{os.getpid()}"
    sentences = {
        "postgresql": (f'CREATE DATABASE "{name}"', f'DROP DATABASE "{name}" WITH (FORCE)'),
        "mariadb": (f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4", f"DROP DATABASE `{name}`"),
    }[kind]
    execute(kind, sentences[0])
    try:
        yield {**server(kind), "NAME": name, "CONN_MAX_AGE": None}
    finally:
        execute(kind, sentences[1])


def sqlite(path: Path) -> Settings:
    """Give a file, as Django's documentation advises for sites that are used by several at once."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def server(kind: str) -> Settings:
    """Give Django's settings for the server, as tests/settings.py has them."""
    if kind == "postgresql":
        return {
            "ENGINE": "django.db.backends.postgresql",
            "USER": os.environ.get("PGUSER", "postgres"),
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        }
    return {
        "ENGINE": "django.db.backends.mysql",
        "USER": "root",
        "HOST": "127.0.0.1",
        "OPTIONS": {"charset": "utf8mb4"},
    }


def execute(kind: str, sql: str) -> list[Any]:
    """Have the server do *sql*, outside of any transaction, and give the rows."""
    where = server(kind)
    if kind == "postgresql":
        import psycopg  # here, and below: whoever uses one needs no driver of the other

        with psycopg.connect(
            host=where["HOST"], user=where["USER"], dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []
    import MySQLdb

    mariadb = MySQLdb.connect(host=where["HOST"], user=where["USER"], connect_timeout=5)
    try:
        with mariadb.cursor() as asked:
            asked.execute(sql)
            return list(asked.fetchall())
    finally:
        mariadb.close()


def room(kind: str) -> int | None:
    """Tell how many connections at once a server takes beside those of others; ``None`` for any number."""
    if kind == "sqlite":
        return None
    sql = {"postgresql": "SHOW max_connections", "mariadb": "SELECT @@max_connections"}[kind]
    return int(execute(kind, sql)[0][0]) - SPARE


def missing(kind: str) -> str | None:
    """Say why there is no such database to be had; ``None`` if there is."""
    try:
        room(kind)
    except Exception as error:  # noqa: BLE001 - no driver, no server, no permission: each says so itself
        return str(error).strip().splitlines()[0]
    return None
