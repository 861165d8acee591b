"""A site that signs people in through the package of one page, and what that page adds to its settings."""

import os

from tests.moving.page import code, issuer
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

_client_id = os.environ["SPATIO_TESTS_MOVING_CLIENT_ID"]
_client_secret = os.environ["SPATIO_TESTS_MOVING_CLIENT_SECRET"]

_database = DATABASES["default"]
if _database["ENGINE"].endswith("sqlite3"):
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
else:
    DATABASES = {"default": {**_database, "TEST": {"NAME": f"test_spatio_moving_{os.getpid()}"}}}
ROOT_URLCONF = "tests.moving.urls"
LOGIN_URL = "/old/"
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "spatio_django"]
MIDDLEWARE = [path for path in MIDDLEWARE if not path.startswith("spatio_django")]
SPATIO_ISSUER = issuer()

match os.environ["SPATIO_TESTS_MOVING_PAGE"]:
    case "from-allauth.md":
        INSTALLED_APPS += [
            "allauth",
            "allauth.account",
            "allauth.socialaccount",
            "allauth.socialaccount.providers.openid_connect",
        ]
        MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
        ACCOUNT_EMAIL_VERIFICATION = "none"
        SOCIALACCOUNT_PROVIDERS = {
            "openid_connect": {
                "OAUTH_PKCE_ENABLED": True,
                "APPS": [
                    {
                        "provider_id": "spatio",
                        "name": "Spatio",
                        "client_id": _client_id,
                        "secret": _client_secret,
                        "settings": {"server_url": SPATIO_ISSUER},
                    },
                ],
            }
        }
    case "from-social-auth.md":
        INSTALLED_APPS += ["social_django"]
        SOCIAL_AUTH_OIDC_OIDC_ENDPOINT = SPATIO_ISSUER
        SOCIAL_AUTH_OIDC_KEY = _client_id
        SOCIAL_AUTH_OIDC_SECRET = _client_secret
        SOCIAL_AUTH_OIDC_USE_PKCE = True
    case "from-mozilla-django-oidc.md":
        INSTALLED_APPS += ["tests.moving"]
        OIDC_RP_CLIENT_ID = _client_id
        OIDC_RP_CLIENT_SECRET = _client_secret
        OIDC_OP_AUTHORIZATION_ENDPOINT = SPATIO_ISSUER + "/oauth2/authorize"
        OIDC_OP_TOKEN_ENDPOINT = SPATIO_ISSUER + "/oauth2/token"
        OIDC_OP_USER_ENDPOINT = SPATIO_ISSUER + "/oauth2/userinfo"
        OIDC_OP_JWKS_ENDPOINT = SPATIO_ISSUER + "/.well-known/jwks.json"
        OIDC_RP_SIGN_ALGO = "RS256"
        OIDC_USE_PKCE = True

exec(code("settings.py"))  # noqa: S102 - the page's own lines
