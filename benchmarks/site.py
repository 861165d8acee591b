"""One site, in a process of its own, and the browser that signs in there."""

import cProfile
import random
import statistics
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import certifi

from benchmarks import people, workers
from benchmarks.profiling import profiled
from benchmarks.provider import code_for
from benchmarks.sites.catalogue import HOST, SITES, WELCOME, Site, django_settings

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: What Chromium sends when somebody follows a link, or submits a form.
HEADERS = {
    "HTTP_HOST": HOST,
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br, zstd",
    "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.9",
    "HTTP_CONNECTION": "keep-alive",
    "HTTP_SEC_FETCH_DEST": "document",
    "HTTP_SEC_FETCH_MODE": "navigate",
    "HTTP_SEC_FETCH_SITE": "same-origin",
    "HTTP_SEC_FETCH_USER": "?1",
    "HTTP_UPGRADE_INSECURE_REQUESTS": "1",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
}


class Stopwatch:
    """Seconds that passed, and that this process worked, while it ran."""

    def __init__(self, profiler: cProfile.Profile | None = None) -> None:
        self.wall = self.cpu = 0.0
        self._profiler = profiler

    def __enter__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()
        if self._profiler:
            self._profiler.enable()

    def __exit__(self, *args: object) -> None:
        if self._profiler:
            self._profiler.disable()
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


class Browser:
    """A browser that has never been here, as far as the site can tell."""

    def __init__(
        self, application: Application, stopwatch: Stopwatch, *, after: Callable[[], None] = lambda: None
    ) -> None:
        self._application = application
        self._stopwatch = stopwatch
        self._after = after
        self.cookies: dict[str, str] = {}

    def open(self, url: str, *, form: dict[str, str] | None = None, site: str = "same-origin") -> str:
        """
        Open *url* and give the address that it leads to. The site's part is timed, and ours is not.

        Raises:
            AssertionError: It leads nowhere.
        """
        parts = urlsplit(url)
        body = b"" if form is None else urlencode(form).encode()
        environ = {
            **HEADERS,
            "REQUEST_METHOD": "GET" if form is None else "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_SEC_FETCH_SITE": site,
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if form is not None:
            environ |= {
                "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": "application/x-www-form-urlencoded",
                "HTTP_ORIGIN": f"https://{HOST}",
            }
        answers: list[tuple[str, list[tuple[str, str]]]] = []
        with self._stopwatch:
            response = self._application(environ, lambda *answer: answers.append((answer[0], answer[1])))
            content = b"".join(response)
            if hasattr(response, "close"):
                response.close()
        self._after()
        status, headers = answers[0]
        location = ""
        for name, value in headers:
            if name.lower() == "set-cookie":
                cookie, _, attributes = value.partition(";")
                key, _, text = cookie.strip().partition("=")
                if "max-age=0" in attributes.lower():
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = text
            elif name.lower() == "location":
                location = value
        assert status.startswith("302"), f"{url} answered {status}:\n{content.decode()[:2000]}"  # noqa: S101
        return location


class MeasuredSite:
    """The site of this process."""

    def __init__(self, config: dict[str, Any]) -> None:
        # Where requests, and whatever is built on it, finds its authorities. The same for every site, and as
        # if ours were on certifi's list.
        certifi.where = lambda: config["bundle"]
        import django
        from django.conf import settings

        self.site: Site = SITES[config["site"]]
        settings.configure(**django_settings(self.site, issuer=config["issuer"], database=config["database"]))
        django.setup()
        self._people = 0
        self._random = random.Random(1)  # noqa: S311 - who signs in
        self._age: Callable[[], None] = lambda: None
        self._application: Application | None = None

    def prepare(self, count: int) -> None:
        """Make the tables, and *count* people who have signed in before."""
        from django.contrib.auth.models import User
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        User.objects.bulk_create(
            (
                User(
                    username=people.subject(number),
                    email=people.email(number),
                    first_name="Person",
                    last_name=str(number),
                    password="!",  # noqa: S106 - no password fits
                )
                for number in range(count)
            ),
            batch_size=500,
        )
        module = import_module(f"benchmarks.sites.{self.site.module}")
        if hasattr(module, "seed"):
            users = User.objects.in_bulk(field_name="username")
            module.seed((number, users[people.subject(number)]) for number in range(count))

    def begin(self, count: int) -> None:
        """Get ready to answer, for as many people as there are."""
        from django.core.wsgi import get_wsgi_application

        self._people = count
        self._application = get_wsgi_application()

    def sign_in(
        self, stopwatch: Stopwatch, *, after: Callable[[], None] = lambda: None, pause: float = 0
    ) -> int:
        """
        Sign somebody in who has been here before, in a browser that has not.

        Args:
            after: Called after each of the two answers.
            pause: Seconds that they stay at the provider.

        Raises:
            AssertionError: It did not work.
        """
        assert self._application is not None, "Call begin() before."  # noqa: S101
        self._age()
        person = self._random.randrange(self._people)
        browser = Browser(self._application, stopwatch, after=after)
        form = None
        if self.site.method == "POST":
            # What the page with the button brought.
            token = "c" * 32
            form, browser.cookies["csrftoken"] = {"csrfmiddlewaretoken": token}, token
        address = browser.open(self.site.login, form=form)
        params = dict(parse_qsl(urlsplit(address).query))
        time.sleep(pause)
        code = code_for(person=person, params=params, tells_all=self.site.tells_all)
        query = urlencode({"code": code, "state": params["state"]})
        address = browser.open(f"{params['redirect_uri']}?{query}", site="cross-site")
        assert urlsplit(address).path == WELCOME, f"The sign-in led to {address}."  # noqa: S101
        self._session = browser.cookies["sessionid"]
        return person

    def first(self) -> dict[str, float]:
        """Sign in for the first time in this process, with all that is imported for it."""
        stopwatch = Stopwatch()
        self.sign_in(stopwatch)
        # From here on, as a site that has been in use for a while.
        module = import_module(f"benchmarks.sites.{self.site.module}")
        self._age = getattr(module, "age", self._age)
        return {"wall": stopwatch.wall, "cpu": stopwatch.cpu}

    def turn(self, count: int) -> dict[str, float]:
        """Give the seconds of the median one of *count* sign-ins, after one that warms up."""
        self.sign_in(Stopwatch())
        stopwatches = [Stopwatch() for _ in range(count)]
        for stopwatch in stopwatches:
            self.sign_in(stopwatch)
        return {
            "wall": statistics.median(stopwatch.wall for stopwatch in stopwatches),
            "cpu": statistics.median(stopwatch.cpu for stopwatch in stopwatches),
        }

    def profile(self, count: int, top: int) -> dict[str, Any]:
        """Profile *count* sign-ins; see :func:`benchmarks.profiling.profiled`."""
        self.turn(2)

        def work(profiler: cProfile.Profile) -> None:
            stopwatch = Stopwatch(profiler)
            for _ in range(count):
                self.sign_in(stopwatch)

        return profiled(work, count=count, top=top)

    def statements(self, pause: float = 0) -> dict[str, list[str]]:
        """Sign in once and give the database's statements, at the login view and at the callback."""
        from django.contrib.auth import SESSION_KEY
        from django.contrib.auth.models import User
        from django.contrib.sessions.models import Session
        from django.db import connection

        seen: list[list[str]] = []
        # Django forgets the log at the beginning of each request.
        connection.force_debug_cursor = True
        try:
            person = self.sign_in(
                Stopwatch(),
                after=lambda: seen.append([query["sql"] for query in connection.queries_log]),
                pause=pause,
            )
        finally:
            connection.force_debug_cursor = False
        session = Session.objects.get(pk=self._session).get_decoded()
        user = User.objects.get(pk=session[SESSION_KEY])
        assert user.username == people.subject(person), f"{user} is signed in."  # noqa: S101
        login, callback = seen
        return {"login": login, "callback": callback}


def main() -> None:
    """Be the site that the parent asks for."""
    site = MeasuredSite(workers.config())
    workers.serve(
        {
            "prepare": site.prepare,
            "begin": site.begin,
            "first": site.first,
            "turn": site.turn,
            "statements": site.statements,
            "profile": site.profile,
        }
    )


if __name__ == "__main__":
    main()
