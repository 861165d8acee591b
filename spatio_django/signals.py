"""
What a site can listen to. None carries a token.

:data:`signed_in`
    Somebody signed in with Spatio. ``request``, ``user``, ``account``, ``scopes``.
:data:`grant_refreshed`
    A grant has a new access token. ``account``, ``scopes``, ``expires_in`` (seconds, or ``None``).
:data:`grant_ended`
    A grant is over. ``account``, ``scopes``, ``reason`` (see ``spatio_django.revocation.REASONS``).

All are sent with ``send_robust``, the last two from whichever thread and process did it, after the database
has it: a receiver that fails is logged and stops nothing. ``sender`` is the model of what changed.
"""

from django.dispatch import Signal

signed_in = Signal()
grant_refreshed = Signal()
grant_ended = Signal()
