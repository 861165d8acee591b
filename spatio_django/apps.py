"""The app."""

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SpatioConfig(AppConfig):
    """Sign in with Spatio."""

    name = "spatio_django"
    verbose_name = _("Spatio")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen for what ends a grant, whoever does it, and add the system checks. No I/O."""
        from django.contrib.auth.signals import user_logged_out
        from django.core.checks import register
        from django.db.models.signals import post_delete, post_save, pre_delete

        from spatio_django import checks, tokens

        user_logged_out.connect(tokens.grant_signed_out, dispatch_uid="spatio_django.grant_signed_out")
        post_save.connect(tokens.user_saved, dispatch_uid="spatio_django.user_saved")
        pre_delete.connect(
            tokens.grant_to_be_deleted,
            sender=self.get_model("SpatioToken"),
            dispatch_uid="spatio_django.grant_to_be_deleted",
        )
        for changed in (post_save, post_delete):
            changed.connect(
                registration_changed,
                sender=self.get_model("SpatioClient"),
                dispatch_uid="spatio_django.registration_changed",
            )
        register(checks.check_site, "spatio", "spatio_settings")
        register(checks.check_database, "spatio")
        register(checks.check_for_deployment, "spatio", deploy=True)


def registration_changed(**kwargs: Any) -> None:
    """Let this process read the registration anew (receiver of ``post_save`` and ``post_delete``)."""
    from spatio_django import registration  # here: sites start without what sign-in needs

    registration.forget()
