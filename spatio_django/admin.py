"""The admin: who is connected, which grants there are, what is still to be revoked. To look at, and to end."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import batched
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename, get_user_model
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from spatio_django import revocation, tokens
from spatio_django.models import (
    DatabaseNow,
    GrantState,
    PendingRevocation,
    SpatioAccount,
    SpatioClient,
    SpatioToken,
    from_now,
)
