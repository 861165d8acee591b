"""What the protocol may import, and when."""

import pkgutil
import subprocess
import sys

import spatio_django.oidc

MODULES = [module.name for module in pkgutil.iter_modules(spatio_django.oidc.__path__)]
HEAVY = {"requests", "urllib3", "josepy", "cryptography"}


def imported_by(*modules: str) -> set[str]:
    """Return the top-level names that a new interpreter has after importing *modules*."""
    names = "".join(f"import spatio_django.oidc.{module}\n" for module in modules)
    program = f"import sys\n{names}print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(result.stdout.split())


def test_protocol_package_never_imports_django() -> None:
    """``spatio_django.oidc`` can be read, and run, without Django."""
    imported = imported_by(*MODULES)

    assert "josepy" in imported
    assert not imported & {"django", "mozilla_django_oidc", "asgiref"}


def test_judging_needs_neither_network_nor_cryptography() -> None:
    """Starting a process does not pay for what its first sign-in needs."""
    assert not imported_by(*set(MODULES) - {"api", "http", "jose", "keys"}) & HEAVY
