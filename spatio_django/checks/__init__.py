"""
What ``manage.py check`` says about this package: each finding has an id, and a hint that is the fix.

What ``migrate`` or ``spatio_register`` mends is a warning, since an error would keep those from running.
Nothing here calls Spatio, and nothing raises, whatever the settings hold: what can't be read is another
check's finding, or Django's own to tell. The ids are explained in docs/checks.md.
"""

from spatio_django.checks.addresses import check_urls
from spatio_django.checks.backend import check_backend
from spatio_django.checks.client import check_client, check_registration
from spatio_django.checks.cookies import check_cookies
from spatio_django.checks.deployment import check_deployment
from spatio_django.checks.keys import check_keys
from spatio_django.checks.middleware import check_middleware
from spatio_django.checks.values import check_settings

#: What ``manage.py check`` runs: what the settings and the URLconf know, and what the database knows.
SETTINGS_CHECKS = (
    check_backend,
    check_middleware,
    check_urls,
    check_client,
    check_cookies,
    check_keys,
    check_settings,
)
DATABASE_CHECKS = (check_registration,)
#: What ``--deploy`` adds.
DEPLOYMENT_CHECKS = (check_deployment,)
