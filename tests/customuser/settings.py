"""The tests' settings with another user model: the one that ``SPATIO_TESTS_USER_MODEL`` names."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "django.contrib.admin"] + ["tests.customuser"]
AUTH_USER_MODEL = "customuser." + os.environ["SPATIO_TESTS_USER_MODEL"]
ROOT_URLCONF = "tests.customuser.urls"
SILENCED_SYSTEM_CHECKS = ["auth.E003"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
