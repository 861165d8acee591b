"""What importing costs, what is needed, and what is left alone."""

import ast
import subprocess
import sys
from pathlib import Path

import spatio_django.testing

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(spatio_django.testing.__file__).parent


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_importing_it_imports_no_dependency() -> None:
    """Neither the package nor the pytest plugin, which every test run imports, loads Authlib or Flask."""
    done = run(
        "import sys, spatio_django.testing, spatio_django.testing.fixtures;"
        "print({'authlib', 'flask', 'werkzeug', 'joserfc', 'django', 'requests'} & set(sys.modules))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_the_plugin_imports_pytest_alone() -> None:
    """At its top."""
    tree = ast.parse((PACKAGE / "fixtures.py").read_text())
    names = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}

    assert names == {"pytest"}
    assert modules == {"__future__", "typing"}


def test_without_the_extra_it_says_what_to_install() -> None:
    """Importing works; making a provider doesn't, and says why."""
    done = run(
        "import sys; sys.modules['authlib'] = sys.modules['joserfc'] = None\n"
        "from spatio_django.testing import FakeSpatio, PERSONAS\n"
        "try:\n"
        "    FakeSpatio()\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert 'pip install "spatio-django[testing]"' in done.stdout, done.stderr


def test_it_shares_no_code_with_the_site() -> None:
    """No module of it imports Django, or anything of this package outside ``testing``."""
    allowed = ("spatio_django.testing",)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                modules = [node.module or ""]
            for module in modules:
                assert not module.startswith(("django", "josepy", "requests")), (path.name, module)
                assert module.startswith(allowed) or not module.startswith("spatio_django"), (
                    path.name,
                    module,
                )


def test_it_loads_no_django_when_it_runs() -> None:
    """Nor is any of it pulled in by something else."""
    done = run(
        "import sys\n"
        "from spatio_django.testing import FakeSpatio\n"
        "with FakeSpatio() as spatio: spatio.private_jwk\n"
        "print(sorted(name for name in sys.modules if name.startswith('spatio_django.') "
        "and not name.startswith('spatio_django.testing')), 'django' in sys.modules)"
    )
    assert done.stdout.strip() == "[] False", done.stderr
