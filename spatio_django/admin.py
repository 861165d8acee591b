"""The admin: who is connected, which grants there are, what is still to be revoked."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import display_for_value, flatten
from django.contrib.auth import get_permission_codename, get_user_model
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from spatio_django import revocation, tokens
from spatio_django.maintenance import by_primary_key
from spatio_django.models import (
    DatabaseNow,
    GrantState,
    PendingRevocation,
    SpatioAccount,
    SpatioClient,
    SpatioToken,
    from_now,
)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

#: Seconds before its end from which an access token "expires soon".
SOON = 300
#: Rows that an action works on at once.
PAGE = 500


def user_fields(path: str) -> list[str]:
    """Give the fields by which *path*, a user of whatever model, is searched for: username and e-mail."""
    model: Any = get_user_model()
    there = {field.name for field in model._meta.concrete_fields if not field.is_relation}
    wanted = dict.fromkeys((model.USERNAME_FIELD, getattr(model, "EMAIL_FIELD", "email")))
    return [f"{path}__{name}" for name in wanted if name in there]


def moment(ms: int | None) -> str:
    """Show milliseconds since the epoch in the reader's words; a dash for never, and beyond any calendar."""
    try:
        when = datetime.fromtimestamp(ms / 1000, tz=UTC if settings.USE_TZ else None) if ms else None
    except (OverflowError, OSError, ValueError):
        when = None
    return str(display_for_value(when, admin.site.empty_value_display))


class LookOnly(ModelAdmin):
    """
    Nothing can be added or changed. No token is shown, neither in clear nor as ciphertext.

    And none is told: rows are found by what is shown, and by nothing else.
    """

    # With millions of rows, counting all of them takes longer than showing some.
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the ciphertext in the database."""
        names = [field.name for field in self.opts.concrete_fields if field.name.endswith("_ciphertext")]
        return super().get_queryset(request).defer(*names)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """
        Tell whether rows may be looked for by *lookup*, as an address says it: only by what is shown.

        Django allows any field of the model. By ``?handle__startswith=`` somebody who may only look would
        learn a handle, or a ciphertext, letter by letter from the number of rows.
        """
        filters = [
            each[0] if isinstance(each, (list, tuple)) else getattr(each, "parameter_name", each)
            for each in self.get_list_filter(request)
        ]
        shown = {"id", "pk", *self.get_list_display(request), *flatten(self.get_fields(request))}
        shown |= {str(name).partition(LOOKUP_SEP)[0] for name in filters}
        return lookup.partition(LOOKUP_SEP)[0] in shown and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows come from sign-ins."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing in them is for people to decide."""
        return False

    def has_sign_out_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may use our actions: Django's permission to change these rows."""
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def note(self, request: HttpRequest, rows: QuerySet[Any], message: str) -> None:
        """Write what was done into the history of *rows*."""
        LogEntry.objects.log_actions(str(request.user.pk), rows, CHANGE, message)


@admin.register(SpatioAccount)
class SpatioAccountAdmin(LookOnly):
    """Who is connected. Deleting an account ends its grants, and has their tokens revoked."""

    list_display = ("__str__", "sub", "user", "issuer", "created_at")
    list_filter = ("created_at",)
    list_select_related = ("user",)
    search_fields = (*user_fields("user"), "sub", "issuer")
    fields = ("user", "issuer", "sub", "claims", "reauth_after", "created_at", "grants")
    readonly_fields = ("created_at", "grants")
    actions = ("sign_out_everywhere",)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Note on the account whether the reader may see its grants: :meth:`grants` knows no reader."""
        account: Any = super().get_object(request, object_id, from_field)
        if account is not None and self.admin_site.is_registered(SpatioToken):
            grants = self.admin_site.get_model_admin(SpatioToken)
            account.shows_grants = grants.has_view_or_change_permission(request)
        return account

    @admin.display(description=_("grants"))
    def grants(self, account: SpatioAccount) -> str:
        """Lead to the grants of *account*; a dash where there is no page, or not for the reader."""
        if not getattr(account, "shows_grants", False):
            return self.get_empty_value_display()
        page = reverse(f"{self.admin_site.name}:spatio_django_spatiotoken_changelist")
        return format_html(
            '<a href="{}?account__id__exact={}">{}</a>', page, account.pk, gettext("Show its grants")
        )

    @admin.action(description=_("Sign out everywhere"), permissions=["sign_out"])
    def sign_out_everywhere(self, request: HttpRequest, accounts: QuerySet[SpatioAccount]) -> None:
        """End all sessions that these users have from Spatio."""
        ended = 0
        for page in by_primary_key(accounts.values_list("pk", "user"), PAGE):
            for user_id in {user_id for _pk, user_id in page}:
                ended += tokens.sign_out_everywhere(user_id)
            self.note(
                request,
                SpatioAccount.objects.filter(pk__in=[pk for pk, _user in page]),
                gettext("Signed out everywhere."),
            )
        tell(self, request, ended)


class ExpiryFilter(admin.SimpleListFilter):
    """By when the access token expires, on the database's clock."""

    title = _("access token")
    parameter_name = "expiry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Give the choices."""
        return [
            ("expired", _("expired")),
            ("soon", _("expires within five minutes")),
            ("later", _("expires later")),
            ("unknown", _("not known")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Choose."""
        match self.value():
            case "expired":
                return queryset.filter(expires_ms__lt=DatabaseNow())
            case "soon":
                return queryset.filter(expires_ms__gte=DatabaseNow(), expires_ms__lt=from_now(SOON))
            case "later":
                return queryset.filter(expires_ms__gte=from_now(SOON))
            case "unknown":
                return queryset.filter(expires_ms=None)
        return queryset


@admin.register(SpatioToken)
class SpatioTokenAdmin(LookOnly):
    """What sign-ins gave. Deleting a grant signs its session out, and has its tokens revoked."""

    list_display = ("account", "user", "state", "ended", "expires", "seen", "created_at")
    list_filter = ("state", ExpiryFilter, "created_at")
    list_select_related = ("account__user",)
    search_fields = (*user_fields("account__user"), "account__sub", "account__issuer")
    fields = (
        "account",
        "user",
        "client_id",
        "scope",
        "state",
        "ended",
        "expires",
        "seen",
        "generation",
        "fails",
        "in_doubt",
        "id_token_claims",
        "created_at",
    )
    readonly_fields = ("user", "expires", "seen", "created_at")
    actions = ("sign_out",)

    @admin.display(description=_("user"), ordering="account__user")
    def user(self, grant: SpatioToken) -> Any:
        """Give whose grant it is."""
        return grant.account.user

    @admin.display(description=_("access token expires"), ordering="expires_ms")
    def expires(self, grant: SpatioToken) -> str:
        """Give when that is."""
        return moment(grant.expires_ms)

    @admin.display(description=_("last seen"), ordering="seen_ms")
    def seen(self, grant: SpatioToken) -> str:
        """Give when that was, to the day."""
        return moment(grant.seen_ms)

    @admin.action(description=_("Sign out"), permissions=["sign_out"])
    def sign_out(self, request: HttpRequest, grants: QuerySet[SpatioToken]) -> None:
        """End the sessions that hold these grants, and have the tokens revoked."""
        ended = 0
        active = grants.filter(state=GrantState.ACTIVE)
        for page in by_primary_key(active.values_list("pk"), PAGE):
            grant_ids = [pk for (pk,) in page]
            ended += revocation.end_all(grant_ids, "signed_out")
            signed_out = SpatioToken.objects.filter(pk__in=grant_ids).select_related("account")
            self.note(request, signed_out, gettext("Signed out."))
        tell(self, request, ended)


@admin.register(PendingRevocation)
class PendingRevocationAdmin(LookOnly):
    """What Spatio has not heard of yet. It is not for deleting: the tokens would go on being good there."""

    list_display = ("__str__", "issuer", "reason", "fails", "retry", "created_at")
    list_filter = ("reason",)
    search_fields = ("client_id", "issuer")
    fields = ("issuer", "client_id", "reason", "fails", "retry", "created_at")
    readonly_fields = ("retry", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Maintenance deletes them, when it is done."""
        return False

    @admin.display(description=_("not tried before"), ordering="retry_at_ms")
    def retry(self, pending: PendingRevocation) -> str:
        """Give when it is tried again."""
        return moment(pending.retry_at_ms)


@admin.register(SpatioClient)
class SpatioClientAdmin(LookOnly):
    """As what this site is registered. ``spatio_register`` changes it."""

    list_display = ("client_id", "client_name", "issuer", "auth_method", "expires", "created_at")
    search_fields = ("client_id", "client_name", "issuer")
    fields = (
        "issuer",
        "client_id",
        "client_name",
        "auth_method",
        "redirect_uris",
        "scope",
        "expires",
        "created_at",
    )
    readonly_fields = ("expires", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Its secret can't be had again, and the grants made with it need it."""
        return False

    @admin.display(description=_("secret expires"), ordering="client_secret_expires_at")
    def expires(self, client: SpatioClient) -> str:
        """Give when that is; a provider's 0 means never (RFC 7591 §3.2.1)."""
        return moment(1000 * (client.client_secret_expires_at or 0))


def tell(model_admin: ModelAdmin, request: HttpRequest, ended: int) -> None:
    """Say how many grants ended."""
    text = ngettext("%d grant ended.", "%d grants ended.", ended) % ended
    model_admin.message_user(request, text, messages.SUCCESS)
