"""What the page on mozilla-django-oidc has its reader add."""

from tests.moving.page import code

exec(code("backends.py"))  # noqa: S102 - the page's own lines
