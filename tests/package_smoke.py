"""
Prove that what would be published works: build it, install the wheel elsewhere, sign somebody in from there.

``python tests/package_smoke.py FOLDER`` builds wheel and sdist into FOLDER, makes an empty virtual
environment there, installs the wheel into it, and runs a copy of this file in it, away from the checkout.
That copy (``--inside``) needs the installed package and nothing else.
"""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata, resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: One of each kind: what a build that forgets a kind of file would leave out.
IN_WHEEL = {
    "spatio_django/py.typed",
    "spatio_django/migrations/0001_initial.py",
    "spatio_django/templates/spatio_django/login_button.html",
    "spatio_django/static/spatio_django/spatio.css",
}
IN_SDIST = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "benchmarks/README.md",
    "example_project/manage.py",
    "tests/package_smoke.py",
    "tests/providers/oidc_provider/.npmrc",
    "tests/providers/oidc_provider/package-lock.json",
    "tox.ini",
}


def main(folder: Path) -> None:
    """Build, install elsewhere, sign in there."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    check_contents(wheel, sdist)

    elsewhere = folder / "elsewhere"
    venv.create(elsewhere / "venv", with_pip=True)
    python = elsewhere / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[testing]")
    script = shutil.copy(__file__, elsewhere)
    # -I: neither the folder, nor PYTHONPATH, nor the user's packages can stand in for the wheel.
    run(python, "-I", "-W", "error", script, "--inside", cwd=elsewhere)


def check_contents(wheel: Path, sdist: Path) -> None:
    """Compare what was packed with what has to be there, and with what must not."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "spatio_django").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    expect("the wheel lacks", (IN_WHEEL | source) - packed)
    tops = {name.partition("/")[0] for name in packed}
    expect(
        "the wheel has more than the package",
        {top for top in tops if ".dist-info" not in top} - {"spatio_django"},
    )
    with tarfile.open(sdist) as archive_file:
        names = {name.partition("/")[2] for name in archive_file.getnames()}
    expect("the sdist lacks", (IN_SDIST | IN_WHEEL) - names)
    expect("the sdist has what npm installed", {name for name in names if "/node_modules/" in name})


def expect(what: str, names: set[str]) -> None:
    """End the run unless *names* is empty."""
    if names:
        raise SystemExit(f"{what}: {', '.join(sorted(names))}")


def run(*command: object, cwd: Path | None = None) -> None:
    """Run *command*; its failure ends this."""
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def inside() -> None:
    """Sign somebody in with the installed package, on a site that consists of the quickstart."""
    site = sign_in_site()
    import django
    from django.conf import settings

    settings.configure(**site)
    django.setup()

    import spatio_django

    home = Path(spatio_django.__file__).parent
    assert "site-packages" in home.parts, f"imported from {home}"
    assert metadata.version("spatio-django") == spatio_django.__version__
    assert resources.files("spatio_django").joinpath("py.typed").is_file()
    from django.contrib.staticfiles import finders

    assert finders.find("spatio_django/spatio.css"), "no stylesheet"

    from django.core.management import call_command
    from django.test import Client

    from spatio_django.testing import FakeSpatio

    call_command("migrate", verbosity=0)
    with FakeSpatio() as spatio:
        settings.SPATIO_ISSUER = spatio.issuer
        call_command("spatio_register", "--base-url", "http://testserver")
        browser = Client(headers={"Sec-Fetch-Mode": "navigate"})
        page = browser.get("/").content.decode()
        assert 'href="/spatio/login/' in page, page
        to_provider = browser.get("/spatio/login/", {"next": "/?here"})["Location"]
        assert to_provider.startswith(spatio.issuer), to_provider
        callback = spatio.sign_in(to_provider).removeprefix("http://testserver")
        answer = browser.get(callback)
        assert answer["Location"] == "/?here", answer.content.decode()
        page = browser.get("/").content.decode()
        assert "Hello, ada" in page, page
        browser.post("/spatio/logout/")
        assert "Hello" not in browser.get("/").content.decode()
    print(f"Signed in and out with spatio-django {spatio_django.__version__} from {home}.")


def sign_in_site() -> dict[str, object]:
    """Give the settings of a site in one module: this one."""
    return {
        "SECRET_KEY": "only for this run",
        "ALLOWED_HOSTS": ["testserver"],
        "ROOT_URLCONF": __name__,
        "USE_TZ": True,
        "STATIC_URL": "static/",
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "spatio_django",
        ],
        "AUTHENTICATION_BACKENDS": ["spatio_django.backends.SpatioBackend"],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "spatio_django.middleware.SpatioMiddleware",
        ],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                    ]
                },
            }
        ],
    }


def __getattr__(name: str) -> object:
    """Give the URLconf when Django asks for it, which is after the settings are there."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.http import HttpRequest, HttpResponse
    from django.template import engines
    from django.urls import include, path

    def front(request: HttpRequest) -> HttpResponse:
        template = engines["django"].from_string(
            "{% load spatio %}{% if user.is_authenticated %}Hello, {{ user }}{% spatio_logout_button %}"
            "{% else %}{% spatio_login_button %}{% endif %}"
        )
        return HttpResponse(template.render({}, request))

    return [path("", front), path("spatio/", include("spatio_django.urls"))]


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside()
    else:
        main(Path(sys.argv[1]).resolve())
