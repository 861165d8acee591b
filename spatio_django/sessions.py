"""The session of a sign-in: a key that nobody knew before, and written where a failure can be answered."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from spatio_django.tokens import user_key


def log_in(request: HttpRequest, user: Any) -> None:
    """
    Sign *user* in with ``auth.login``, and always under a new key, whoever was signed in here before.

    Args:
        user: Its ``backend`` is set.
    """
    session = request.session
    is_new = auth.SESSION_KEY not in session and session.session_key is None
    key = session.session_key
    if is_new and only_django_listens() and hasattr(user, "get_session_auth_hash"):
        # auth.login would write an empty session, only to renew its key. There is none to renew: this tells
        # it so, and the session is written once, with everything in it.
        session[auth.SESSION_KEY] = user_key(user)
        session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    auth.login(request, user)
    if key is not None and session.session_key == key:
        # Django keeps the key when the same user signs in again; a planted one must not survive that.
        session.cycle_key()


def only_django_listens() -> bool:
    """
    Tell whether ``user_logged_in`` has no receiver but Django's, which notes the time.

    Others may want to read the key of the session, which ``auth.login`` has written by then.
    """
    return all(entry[0][0] == "update_last_login" for entry in auth.user_logged_in.receivers)


def write(session: SessionBase) -> None:
    """
    Write *session* now, and not once more by the end of the request if nothing changes it.

    Now, because a store that fails later is beyond the view: an error report would show the address of the
    callback. Django's middleware, which gives the answer its cookie, would write it a second time.
    """
    if session.session_key is None:
        # Django draws a key, asks whether there is such a session, and inserts it only if there is none. The
        # insert alone would notice; and no two of 36**32 keys are ever the same.
        session.exists = _is_new  # type: ignore[method-assign]
        try:
            session.save()
        finally:
            del session.exists
    else:
        session.save()
    mark_written(session)


def _is_new(session_key: str) -> bool:
    return False


def renew_key(session: SessionBase) -> None:
    """Give *session* a new key, which writes it; see :func:`write`."""
    session.cycle_key()
    mark_written(session)


def mark_written(session: SessionBase) -> None:
    """Let *session* be saved again only if it holds something else than now."""
    try:
        contents = deepcopy(dict(session.items()))
    except Exception:  # noqa: BLE001 - whatever a site keeps there: then it is written twice
        return
    session.save = partial(_save_changes, session, session.save, contents)  # type: ignore[method-assign]


def _save_changes(
    session: SessionBase, save: Callable[..., None], written: dict[str, Any], must_create: bool = False
) -> None:
    if must_create or dict(session.items()) != written:
        save(must_create)
