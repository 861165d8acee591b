"""
What ``manage.py check`` says about this package: each finding has an id, and a hint that is the fix.

What ``migrate`` or ``spatio_register`` mends is a warning, since an error would keep those from running.
Nothing here calls Spatio, and nothing raises, whatever the settings hold: what can't be read is another
check's finding, or Django's own to tell. The ids are explained in docs/checks.md.
"""

from typing import Any

from django.core import checks

# Each function imports what it runs: a site starts, and mostly serves, without any of it.


def check_site(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """What do the settings and the URLconf know?"""
    from spatio_django.checks.addresses import check_urls
    from spatio_django.checks.backend import check_backend
    from spatio_django.checks.client import check_client
    from spatio_django.checks.cookies import check_cookies
    from spatio_django.checks.keys import check_keys
    from spatio_django.checks.middleware import check_middleware
    from spatio_django.checks.values import check_settings

    return [
        *check_backend(app_configs, **kwargs),
        *check_middleware(app_configs, **kwargs),
        *check_urls(app_configs, **kwargs),
        *check_client(app_configs, **kwargs),
        *check_cookies(app_configs, **kwargs),
        *check_keys(app_configs, **kwargs),
        *check_settings(app_configs, **kwargs),
    ]


def check_database(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """What does the database know?"""
    from spatio_django.checks.client import check_registration

    return check_registration(app_configs, **kwargs)


def check_for_deployment(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """What does ``--deploy`` add?"""
    from spatio_django.checks.deployment import check_deployment

    return check_deployment(app_configs, **kwargs)
