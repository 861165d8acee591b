"""
Everything this package raises on purpose::

    SpatioError
    ├── ConfigurationError    this site is not set up for it: an operator must act
    ├── ProviderUnavailable   no usable answer came: try again later
    ├── ProviderRefused       a well-formed OAuth error: ask the user, or drop the tokens
    ├── ProtocolViolation     an answer no conforming provider sends: fail closed, log
    │   └── InvalidToken      a JWT whose signature, header or claims do not hold
    ├── LoginNotFound         a callback that matches no pending login: start again
    ├── LoginRefused          the sign-in was genuine, but this site does not let that person in
    ├── SiteFailure           code of the site failed in the middle of a sign-in: read the log
    ├── Undecryptable         stored text can't be read: another key, another place, another site
    └── TokenUnavailable      no access token can be handed out now
        └── SessionEnded      and none ever will be again for this session: sign in anew

One class per reaction of the caller, one ``code`` per case. All can be pickled, as pools of processes and
task queues do with what a job raises.
"""

from typing import Any


class SpatioError(Exception):
    """
    Base class, never raised itself.

    Args:
        message: A sentence for the developer who reads the log. Never shown to visitors, never translated.
        code: Short and stable, for logs, metrics and tests.
        context: Facts for the log record. Never a token, code, secret, nonce or verifier.

    Attributes:
        code: As given.
        context: As given.
    """

    def __init__(self, message: str, *, code: str, **context: object) -> None:
        super().__init__(message)
        self.code = code
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the message alone, and no code: the process that waits for a job
        # would take its pool for broken.
        return _made_again, (type(self), self.args), self.__dict__


class ConfigurationError(SpatioError):
    """The site lacks a setting or a registration that this step needs."""


class ProviderUnavailable(SpatioError):
    """
    No usable answer came: DNS, connection, TLS, deadline, 429 or 5xx.

    Attributes:
        retry_after: Seconds the provider asked to wait (RFC 9110 §10.2.3), or ``None``.
    """

    def __init__(
        self, message: str, *, code: str, retry_after: float | None = None, **context: object
    ) -> None:
        super().__init__(message, code=code, **context)
        self.retry_after = retry_after


class ProviderRefused(SpatioError):
    """The provider answered with an OAuth error; ``code`` is its ``error`` (RFC 6749 §4.1.2.1, §5.2)."""


class ProtocolViolation(SpatioError):
    """An answer that no conforming provider sends."""


class InvalidToken(ProtocolViolation):
    """A JWT that does not hold; ``code`` names the header member, the claim, or ``signature``."""


class LoginNotFound(SpatioError):
    """A callback whose ``state`` belongs to no pending login of this browser, or to one already used."""


class LoginRefused(SpatioError):
    """A person who proved to be who they are, and whom this site's rules do not let in."""


class SiteFailure(SpatioError):
    """
    Code of the site (a hook, a signal receiver, a template, the database) failed during a sign-in.

    Its text is the traceback, as text: a traceback object would carry the request, and with it ``code`` and
    ``state``, into error reports that show local variables.
    """


class Undecryptable(SpatioError):
    """Text that was not sealed here, not for this place, or with a key that is no longer configured."""


class TokenUnavailable(SpatioError):
    """No access token can be handed out now; the session may go on."""


class SessionEnded(TokenUnavailable):
    """The grant is over, or there never was one: only a new sign-in helps."""


def _made_again(kind: type[SpatioError], arguments: tuple[object, ...]) -> SpatioError:
    return kind.__new__(kind, *arguments)
