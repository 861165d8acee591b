"""The session of a sign-in: a key that nobody knew before, and written where a failure can be answered."""

from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse

from spatio_django.tokens import user_key

DJANGOS_MIDDLEWARE = f"{SessionMiddleware.__module__}.{SessionMiddleware.__qualname__}"


def log_in(request: HttpRequest, user: Any) -> None:
    """
    Sign *user* in with ``auth.login``, and always under a new key, whoever was signed in here before.

    Args:
        user: Its ``backend`` is set.
    """
    session = request.session
    is_new = auth.SESSION_KEY not in session and session.session_key is None
    key = session.session_key
    if is_new and only_django_listens() and isinstance(user, AbstractBaseUser):
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
    return len(auth.user_logged_in.receivers) <= 1


def written(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """
    Write the session and give *response* its cookie, as Django's middleware does later.

    Now, because a store that fails then is beyond the view: an error report would show the address of the
    callback. The middleware has nothing left to do, unless something changes the session meanwhile. A
    middleware of the site's own is left to its ways.
    """
    if DJANGOS_MIDDLEWARE in settings.MIDDLEWARE:
        response = SessionMiddleware(lambda _: response).process_response(request, response)
        request.session.modified = False
    return response
