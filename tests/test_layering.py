"""Imports point one way, and nothing heavy or chatty happens before it is needed."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import spatio_django

PACKAGE = Path(spatio_django.__file__).parent

#: What each module of the Django side may import from the package, beside ``exceptions`` and plain values of
#: ``oidc``. Top to bottom as docs/how-it-works.md draws it; a module that is not listed may import nothing.
MAY_IMPORT = {
    "conf": set(),
    "encryption": {"conf"},
    "explanations": set(),
    "models": {"encryption"},
    "provider": {"conf"},
    "registration": {"conf", "models"},
    "links": set(),
    "pending": {"encryption", "links"},
    "flow": {"conf", "links", "models", "pending", "provider", "registration"},
    "breaker": set(),
    "signals": set(),
    "threads": set(),
    "statements": {"models"},
    "revocation": {"conf", "memo", "models", "provider", "registration", "signals", "statements", "threads"},
    "refreshing": {
        "breaker",
        "conf",
        "models",
        "provider",
        "registration",
        "revocation",
        "signals",
        "statements",
        "threads",
    },
    "tokens": {
        "backends",
        "conf",
        "flow",
        "links",
        "models",
        "pending",
        "refreshing",
        "revocation",
        "statements",
        "threads",
    },
    "memo": set(),
    "tending": {
        "backends",
        "conf",
        "links",
        "memo",
        "models",
        "refreshing",
        "revocation",
        "threads",
        "tokens",
    },
    "backends": {"conf", "flow", "models"},
    "middleware": {"answers", "links", "revocation", "tending", "tokens"},
    "sessions": {"tokens"},
    "decorators": {"links", "tokens"},
    "answers": {"conf", "explanations", "links"},
    "views": {
        "answers",
        "backends",
        "explanations",
        "flow",
        "links",
        "models",
        "pending",
        "registration",
        "sessions",
        "signals",
        "tokens",
    },
    "account_views": {"answers", "backends", "flow", "links", "models", "pending", "registration", "tokens"},
    "urls": {"account_views", "views"},
    "maintenance": {"models", "revocation", "tokens"},
    "rotation": {"encryption", "models"},
    "management.commands.spatio_maintain": {"maintenance"},
    "management.commands.spatio_rotate_keys": {"management.commands.spatio_maintain", "rotation"},
    "admin": {"maintenance", "models", "revocation", "tokens"},
    "apps": {"checks", "registration", "tokens"},
    "fit": {"conf", "models", "registration"},
    "checks.reading": {"registration"},
    "checks.backend": {"checks.reading"},
    "checks.middleware": {"checks.reading"},
    "checks.addresses": {"checks.reading"},
    "checks.cookies": {"checks.addresses", "checks.reading", "fit"},
    "checks.client": {"checks.cookies", "checks.reading", "conf", "fit", "models", "registration"},
    "checks.keys": {"checks.reading"},
    "checks.values": {"checks.reading", "conf", "registration"},
    "checks.deployment": {"checks.client", "checks.reading", "conf", "fit"},
    "templatetags.spatio": {"backends", "links"},
    "adoption": {"conf", "models"},
    "adoption_lists": {"adoption", "conf", "models"},
    "management.commands.spatio_adopt": {"adoption", "adoption_lists", "conf"},
    "env_file": set(),
    "registrar": {"conf", "env_file", "models", "provider", "registration"},
    "management.commands.spatio_register": {"conf", "fit", "models", "registrar", "registration"},
}
GLUE = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
    and path.relative_to(PACKAGE).parts[0] not in {"oidc", "testing", "migrations"}
)


def run(program: str) -> str:
    """Run *program* in a new interpreter; give what it printed."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def imported(path: Path) -> set[str]:
    """Give the modules of this package that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {node.module}
                if node.module != "spatio_django"
                else {f"spatio_django.{alias.name}" for alias in node.names}
            )
    return {name.removeprefix("spatio_django.") for name in found if name.startswith("spatio_django")}


def dotted(path: Path) -> str:
    """Name the module in that file, as seen from the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", GLUE, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    """Each module imports what stands below it, and nothing else."""
    name = dotted(path)
    if name == "exceptions":
        assert imported(path) == set()
        return

    glue = {module for module in imported(path) if module != "exceptions" and not module.startswith("oidc")}

    assert glue <= MAY_IMPORT[name]


def test_the_protocol_never_imports_django() -> None:
    """``spatio_django.oidc`` can be read, and run, without Django."""
    program = (
        "import sys, pkgutil, importlib, spatio_django.oidc as o\n"
        "for m in pkgutil.iter_modules(o.__path__): importlib.import_module('spatio_django.oidc.' + m.name)\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in {'django', 'mozilla_django_oidc'}))"
    )

    assert run(program) == "[]\n"


def test_the_provider_shares_no_code_with_what_it_tests() -> None:
    """A signer and a verifier that share code agree on their mistakes."""
    for path in (PACKAGE / "testing").rglob("*.py"):
        assert all(module.startswith("testing") for module in imported(path)), path


def test_setting_up_django_and_urls_loads_no_http_jose_or_crypto_library() -> None:
    """They come with the first sign-in: a command or a worker that never signs in does not pay for them."""
    program = (
        "import sys, django; django.setup()\n"
        "import spatio_django.urls\n"
        "heavy = {'requests', 'urllib3', 'josepy', 'cryptography', 'jwt'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )

    assert run(program) == "[]\n"


def test_starting_up_opens_no_socket() -> None:
    """Import, ``ready()``, checks, URLconf and constructors: none talks to anybody."""
    program = (
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in {'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'}:\n"
        "        print(event)\n"
        "sys.addaudithook(hook)\n"
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('check', '--deploy', '--fail-level', 'CRITICAL', stdout=open('/dev/null', 'w'),"
        " stderr=open('/dev/null', 'w'))\n"
        "import spatio_django.urls\n"
        "from spatio_django.backends import SpatioBackend; SpatioBackend()\n"
        "from spatio_django.provider import get_client; get_client()\n"
        "from spatio_django.middleware import SpatioMiddleware; SpatioMiddleware(print)\n"
        "print('done')"
    )

    assert run(program) == "done\n"
