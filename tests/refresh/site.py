"""
One process of a site that has people's grants, told over a pipe what to do with them.

It uses the public names of the package, and its rows through the models. What is done by hand is what time
does: :meth:`Site.age` lets a lease run out.
"""

import json
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks import workers

#: Seconds between looks of whoever waits for a row to change.
STEP = 0.002
#: Seconds for which a forked process lives on by itself, should nobody end it.
LIVES = 60.0


class Logged(logging.Handler):
    """What the package found worth an error: the code or the first words, and how often."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self.seen[record.getMessage()[:200]] += 1


class Site:
    """
    The site of this process.

    Args:
        config: ``database`` (Django's settings), ``issuer``, ``life`` (seconds), and ``how`` tokens are had:
            by the ``package``, or the ``naive`` way.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        import django
        from django.conf import settings

        settings.configure(
            SECRET_KEY="a key for storms: " + "x" * 40,
            INSTALLED_APPS=[
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "django.contrib.sessions",
                "spatio_django",
            ],
            MIDDLEWARE=[],
            DATABASES={"default": config["database"]},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
            SPATIO_ISSUER=config["issuer"],
        )
        django.setup()
        # What a refresh imports, so that a fork of this process is quick, and no thread is there yet.
        import spatio_django.oidc.client
        import spatio_django.oidc.http
        import spatio_django.oidc.keys  # noqa: F401

        self._config = config
        self._logged = Logged()
        logging.getLogger("spatio_django").addHandler(self._logged)
        self._users: dict[int, Any] = {}
        self._children: dict[int, int] = {}

    # Rows

    def migrate(self) -> None:
        """Make the tables."""
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def seed(self, families: list[dict[str, Any]]) -> dict[str, int]:
        """Write down what sign-ins gave, as a callback does. Gives the users' keys by ``sub``."""
        from django.contrib.auth.models import User

        from spatio_django.models import SpatioAccount, SpatioClient, SpatioToken, from_now
        from spatio_django.oidc.secret import Secret
        from tests.refresh.provider import CLIENT_ID, CLIENT_SECRET

        issuer = self._config["issuer"]
        if not SpatioClient.objects.filter(issuer=issuer).exists():
            client = SpatioClient(
                issuer=issuer, client_id=CLIENT_ID, client_name="Storm", auth_method="client_secret_basic"
            )
            client.client_secret = Secret(CLIENT_SECRET)
            client.save()
        found = {}
        for family in families:
            sub = family["sub"]
            user = User.objects.create(username=sub, password="!")
            account = SpatioAccount.objects.create(user=user, issuer=issuer, sub=sub)
            claims = {"iss": issuer, "sub": sub, "aud": CLIENT_ID, "iat": int(time.time())}
            grant = SpatioToken(
                account=account, client_id=CLIENT_ID, scope=family["scope"], id_token_claims=claims
            )
            grant.access_token = Secret(family["access_token"])
            grant.refresh_token = Secret(family["refresh_token"])
            grant.ttl_ms = family["expires_in"] * 1000
            grant.expires_ms = from_now(family["expires_in"])
            grant.save(force_insert=True)
            found[sub] = user.pk
        return found

    def rows(self, users: list[int]) -> list[dict[str, Any]]:
        """Give the newest grant of each user as it is stored, and what it holds."""
        from spatio_django.models import SpatioToken

        names = ("state", "generation", "lease_id", "lease_until_ms", "retry_at_ms", "expires_ms", "handle")
        grants = SpatioToken.objects.filter(account__user__in=users).select_related("account").order_by("pk")
        by_user = {grant.account.user_id: grant for grant in grants}
        return [
            {name: getattr(by_user[user], name) for name in names}
            | {"refresh_token": revealed(by_user[user].refresh_token)}
            for user in users
        ]

    def expire(self, users: list[int]) -> None:
        """Let the time pass after which the access tokens of these users are no good."""
        from spatio_django.models import SpatioToken, from_now

        SpatioToken.objects.filter(account__user__in=users).update(expires_ms=from_now(-1))

    def age(self, users: list[int]) -> None:
        """Let the time pass after which a lease on these users' grants has run out, if there is one."""
        from spatio_django.models import SpatioToken, from_now

        SpatioToken.objects.filter(account__user__in=users).exclude(lease_id="").update(
            lease_until_ms=from_now(-1)
        )

    def lend(self, user: int, seconds: float) -> None:
        """Let the access token of that user be good for some more seconds, as if another had brought it."""
        from django.db.models import F

        from spatio_django.models import SpatioToken, from_now

        SpatioToken.objects.filter(account__user=user).update(
            expires_ms=from_now(seconds), generation=F("generation") + 1
        )

    def lock(self, user: int, seconds: float) -> None:
        """Have nobody else write that user's grant for some seconds; with SQLite, nobody write anything."""
        from django.db import transaction

        from spatio_django.models import SpatioToken

        with transaction.atomic():
            SpatioToken.objects.filter(account__user=user).update(fails=0)
            time.sleep(seconds)

    # Tokens

    def _user(self, pk: int) -> Any:
        from django.contrib.auth.models import User

        if pk not in self._users:
            self._users[pk] = User.objects.get(pk=pk)
        return self._users[pk]

    def _access_token(self, user: Any) -> str:
        if self._config["how"] == "naive":
            from tests.refresh import naive

            return naive.access_token(
                user, token_endpoint=self._config["token_endpoint"], life=self._config["life"]
            )
        from spatio_django import tokens

        found: str = tokens.for_user(user).access_token
        return found

    def call(self, user: int) -> dict[str, Any]:
        """Have the access token of that user; give it, or what was raised instead."""
        began = time.monotonic()
        try:
            token = self._access_token(self._user(user))
        except Exception as error:  # noqa: BLE001 - which one is the answer
            outcome = {"error": name_of(error)}
        else:
            outcome = {"token": token}
        return outcome | {"seconds": time.monotonic() - began}

    def calls(self, users: list[int]) -> list[dict[str, Any]]:
        """Call for each user."""
        return [self.call(user) for user in users]

    def storm(
        self, *, users: list[int], threads: int, begin: float, seconds: float, seed: int
    ) -> dict[str, Any]:
        """
        Have tokens of random users in *threads* at once, without a pause, and look whether they are good.

        Args:
            begin: When, in seconds since the epoch, so that all processes begin together.
            seed: Of the choice of users; another for each process.
        """
        from django.db import connections

        people = {pk: self._user(pk) for pk in users}
        connections.close_all()
        storm = Storm(users, lambda pk: self._access_token(people[pk]), begin=begin, until=begin + seconds)

        def work(number: int) -> None:
            try:
                time.sleep(max(0.0, begin - time.time()))
                storm.run(random.Random(seed * 1000 + number))  # noqa: S311 - whose token is next
            finally:
                connections.close_all()

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        ended = time.time()
        storm.judge(self._config["issuer"])
        return {
            "errors": dict(storm.errors),
            "logged": dict(self._logged.seen),
            "lost": sorted(storm.lost),
            "micros": storm.micros,
            "unasked": storm.unasked(ended),
            "ended": ended,
        }

    # Processes that end badly

    def fork(self, user: int) -> int:
        """Have a process of its own get the access token of that user. Gives its id."""
        from django.db import connections

        connections.close_all()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            self._children[pid] = reader
            return pid
        try:
            os.close(reader)
            os.write(writer, json.dumps(self.call(user)).encode())
            time.sleep(LIVES)  # it lives until it is killed, as a server's process does
        finally:
            os._exit(0)

    def kill(self, pids: list[int]) -> None:
        """End these processes of :meth:`fork` with SIGKILL, all together."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
            os.close(self._children.pop(pid))

    def signal(self, pid: int, name: str) -> None:
        """Send SIGSTOP or SIGCONT to a process of :meth:`fork`."""
        os.kill(pid, getattr(signal, name))

    def outcome(self, pid: int) -> dict[str, Any]:
        """Wait for what :meth:`call` gave in the process of :meth:`fork`."""
        found: dict[str, Any] = json.loads(os.read(self._children[pid], 65536))
        return found

    def await_change(self, users: list[int], name: str, was: list[Any], seconds: float) -> list[int]:
        """
        Wait until a column of some of these users' grants is not as it was, and give who they are.

        Raises:
            TimeoutError: None changed within *seconds*.
        """
        from spatio_django.models import SpatioToken

        before = dict(zip(users, was, strict=True))
        grants = SpatioToken.objects.filter(account__user__in=users).order_by("pk")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = dict(grants.values_list("account__user", name))
            changed = [user for user in users if now[user] != before[user]]
            if changed:
                return changed
            time.sleep(STEP)
        raise TimeoutError(f"{name} of {users} stayed as it was.")


class Storm:
    """
    What the threads of one process share while they get tokens.

    Attributes:
        errors: What went wrong, and how often.
        lost: Users whose grant is over.
        micros: How long each call took, in microseconds.
    """

    def __init__(
        self, users: list[int], access_token: Callable[[int], str], *, begin: float, until: float
    ) -> None:
        self._users = users
        self._access_token = access_token
        self._until = until
        self._lock = threading.Lock()
        #: By user: when they were last asked for, in seconds since the epoch, and for how long they were not.
        self._asked = dict.fromkeys(users, begin)
        self._unasked = dict.fromkeys(users, 0.0)
        #: When each token was last asked for, in seconds since the epoch.
        self._had: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.lost: set[int] = set()
        self.micros: list[int] = []

    def run(self, chance: random.Random) -> None:
        """Get tokens until the time is over."""
        while time.time() < self._until:
            users = [user for user in self._users if user not in self.lost] if self.lost else self._users
            if not users:
                return
            self._one(chance.choice(users))

    def judge(self, issuer: str) -> None:
        """
        Have the provider say whether it took each token when it was asked for.

        Afterwards: while the storm lasts, the asking would be most of it.
        """
        from tests.refresh.strict import Control

        control = Control(issuer)
        ends = control("good_until", tokens=list(self._had))
        control.close()
        for asked, end in zip(self._had.values(), ends, strict=True):
            if end <= asked:
                self.errors["a token that the provider did not take"] += 1

    def unasked(self, ended: float) -> list[float]:
        """Give for how many seconds nobody here asked for each user, at most, until it *ended*."""
        return [max(self._unasked[user], ended - self._asked[user]) for user in self._users]

    def _one(self, user: int) -> None:
        with self._lock:
            asked, began = time.time(), time.perf_counter()
            self._unasked[user] = max(self._unasked[user], asked - self._asked[user])
            self._asked[user] = asked
        try:
            token = self._access_token(user)
        except Exception as error:  # noqa: BLE001 - counted, and judged by whoever reads the count
            name = name_of(error)
            self.errors[name] += 1
            if name.startswith(("SessionEnded", "Lost")):
                self.lost.add(user)
            return
        self.micros.append(int((time.perf_counter() - began) * 1_000_000))
        self._had[token] = max(asked, self._had.get(token, 0.0))


def expires(token: str) -> float:
    """Give the moment at which a token of the strict provider expires, in seconds since the epoch."""
    return int(token.rpartition(".")[2]) / 1000


def revealed(secret: Any) -> str:
    """Give what a stored secret says."""
    return str(secret.reveal()) if secret else ""


def name_of(error: Exception) -> str:
    """Name an error by its class and, if it is one of ours, its code."""
    code = getattr(error, "code", None)
    return f"{type(error).__name__}: {code if isinstance(code, str) else str(error)[:200]}"


def main() -> None:
    """Do what the parent says."""
    site = Site(workers.config())
    names = (
        *("migrate", "seed", "rows", "expire", "age", "lend", "lock", "call", "calls", "storm"),
        *("fork", "kill", "signal", "outcome", "await_change"),
    )
    workers.serve({name: getattr(site, name) for name in names})


if __name__ == "__main__":
    main()
