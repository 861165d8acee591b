"""How the documentation is built: ``sphinx-build -n -W docs build/docs``. Needs no network."""

import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Enough of a site for autodoc to import models and views.
settings.configure(
    SECRET_KEY="for the documentation",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "spatio_django"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from spatio_django import __version__  # noqa: E402 - after the path is set

project = "spatio-django"
author = "The spatio-django developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Other projects' names are not looked up: that would need a network. Ours must all be found.
nitpick_ignore_regex = [(r"py:.*", r"(?!spatio_django\.).*")]

html_theme = "furo"
html_title = f"spatio-django {release}"
html_show_copyright = False
