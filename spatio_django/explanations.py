"""What a person reads when a sign-in does not work out: one plain, translated sentence per error code."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from spatio_django.exceptions import (
    ConfigurationError,
    LoginNotFound,
    LoginRefused,
    ProviderRefused,
    ProviderUnavailable,
    SpatioError,
    TokenUnavailable,
)

BY_CODE: dict[str, Promise] = {
    "access_denied": _("You chose not to go on at Spatio. Nothing was shared with this site."),
    "site_error": _(
        "Something on this site failed while signing you in. The people who run it can see what."
    ),
    "state_used": _("This sign-in was used already, perhaps by a reload or the Back button."),
    "inactive": _("Your account on this site is switched off. Please ask the people who run it."),
    "no_account": _(
        "There is no account for you on this site yet. Please ask the people who run it for one."
    ),
    "email_missing": _(
        "This site knows people by their e-mail address, and your Spatio account shares none."
    ),
    "email_unverified": _(
        "This site knows people by their e-mail address, and yours is not verified at Spatio yet. Verify it "
        "there, then try again."
    ),
    "email_taken": _(
        "There is an account with your e-mail address on this site already. Sign in to it the way you did "
        "before, then connect your Spatio account to it."
    ),
    "account_taken": _(
        "This Spatio account belongs to another account on this site. Sign out here and sign in with Spatio "
        "to use that one; there you can also disconnect it."
    ),
    "already_connected": _(
        "Your account on this site is connected to another Spatio account. Disconnect that one first."
    ),
    "last_way_in": _(
        "Spatio is your only way to sign in to this site. Set a password first, then you can disconnect it."
    ),
    "connect_user": _(
        "You are not signed in any more as the person who began to connect a Spatio account. Sign in again, "
        "then connect it."
    ),
    "other_host": _(
        "This site is known to Spatio under another address. Go there, sign in the way you did here, and "
        "connect your Spatio account then."
    ),
    "ambiguous": _("More than one account on this site could be yours. Please ask the people who run it."),
    "scope_not_granted": _("The page you wanted needs a permission that was not given at Spatio."),
    "auth_time": _("The page you wanted needs you to prove again at Spatio who you are. Please try again."),
}

BY_CLASS: tuple[tuple[type[SpatioError], Promise], ...] = (
    (LoginNotFound, _("This sign-in was not begun in this browser, or it took longer than ten minutes.")),
    (LoginRefused, _("This site does not let you sign in with this Spatio account.")),
    (ProviderRefused, _("Spatio could not complete the sign-in.")),
    (ProviderUnavailable, _("Spatio does not answer right now. Please try again in a moment.")),
    (
        TokenUnavailable,
        _("This page needs something from Spatio, which can't be had right now. You are still signed in."),
    ),
    (ConfigurationError, _("Signing in with Spatio is not set up on this site yet.")),
)

OTHERWISE: Promise = _("The sign-in could not be completed safely, so it was stopped.")


def explanation(error: SpatioError) -> Promise:
    """Give the sentence for *error*: by its code, else by its class."""
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    return next((text for kind, text in BY_CLASS if isinstance(error, kind)), OTHERWISE)
