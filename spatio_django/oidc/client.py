"""Client: one method per step of the protocol, composed of the modules beside it."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from spatio_django.exceptions import (
    ConfigurationError,
    InvalidToken,
    ProtocolViolation,
    ProviderUnavailable,
    SpatioError,
)
from spatio_django.oidc.cache import Documents
from spatio_django.oidc.discovery import (
    ProviderMetadata,
    fetch_metadata,
    fetch_oauth_metadata,
    optional_endpoint,
)
from spatio_django.oidc.id_token import check_id_token, check_refreshed_id_token
from spatio_django.oidc.registration import (
    REGISTRATION_LIMIT,
    AuthMethod,
    ClientInformation,
    ClientMetadata,
    Management,
)
from spatio_django.oidc.responses import (
    REFRESH_LIMIT,
    TOKEN_LIMIT,
    USERINFO_LIMIT,
    RefreshResponse,
    TokenResponse,
    judge_revocation,
    userinfo_claims,
)
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import origin, require_safe_url

if TYPE_CHECKING:
    from spatio_django.oidc.http import Http

T = TypeVar("T")

logger = logging.getLogger("spatio_django")

#: Seconds for one refresh. Longer than other calls may take: giving up does not undo a rotation.
REFRESH_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """How this site proves at the token endpoint which client it is. RFC 6749 §2.3."""

    client_id: str
    client_secret: Secret | None
    auth_method: AuthMethod


class Client:
    """
    A relying party of one provider. Making one does no I/O; threads may share it.

    Args:
        issuer: Compared character by character with what the provider says.
        http: The way out.
        documents: Keeps metadata and keys.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: ``issuer``, if that is no https URL (or a loopback one) without query.
    """

    def __init__(
        self,
        *,
        issuer: str,
        http: "Http",
        documents: Documents,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = _checked(issuer)
        self._http = http
        self._documents = documents
        self._clock = clock
        digest = hashlib.sha256(self.issuer.encode()).hexdigest()
        self._metadata_name, self._oauth_name = f"spatio:metadata:{digest}", f"spatio:oauth:{digest}"

    def metadata(self) -> ProviderMetadata:
        """
        Return what the provider says about itself; normally without asking it.

        Raises:
            ProviderUnavailable, ProtocolViolation: As
                :meth:`~spatio_django.oidc.discovery.ProviderMetadata.from_document` and
                :func:`~spatio_django.oidc.discovery.fetch_metadata`.
        """
        return self._documents.get(self._metadata_name, self._fetch_metadata).read(self._read_metadata)

    def _read_metadata(self, document: dict[str, Any]) -> ProviderMetadata:
        return ProviderMetadata.from_document(document, issuer=self.issuer)

    def doubt_metadata(self) -> None:
        """Have the metadata fetched again soon: what they led to made no sense, or was not there."""
        self._documents.doubt(self._metadata_name)

    def exchange_code(
        self, credentials: ClientCredentials, *, code: Secret, redirect_uri: str, code_verifier: Secret
    ) -> TokenResponse:
        """
        Exchange the code of a callback for tokens. A code works once, so this is never repeated.

        Args:
            credentials: Sent in the one way that was registered.
            code: From :func:`~spatio_django.oidc.authorization.read_callback`.
            redirect_uri: As in the authorization request.
            code_verifier: Of the pending login.

        Raises:
            ConfigurationError: ``client_secret``, if the registered way needs one.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :meth:`~spatio_django.oidc.responses.TokenResponse.from_answer`.

        OpenID Connect Core 1.0 §3.1.3.1, RFC 6749 §4.1.3, RFC 7636 §4.5.
        """
        fields: dict[str, str | Secret] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
        }
        basic = _authenticate(credentials, fields)
        endpoint = self.metadata().token_endpoint
        return _bare(
            lambda: TokenResponse.from_answer(
                self._http.post_form(endpoint, fields, basic=basic, limit=TOKEN_LIMIT)
            )
        )

    def refresh(
        self,
        credentials: ClientCredentials,
        refresh_token: Secret,
        *,
        timeout: float | None = None,
        send_by: float | None = None,
    ) -> RefreshResponse:
        """
        Exchange a refresh token for its successors. Where these rotate it works once: never repeated here.

        On a connection of its own, so that none can have been closed by the provider at that very moment.

        Args:
            credentials: Sent in the one way that was registered.
            refresh_token: The newest of its grant.
            timeout: Seconds for the call, instead of :data:`REFRESH_TIMEOUT`.
            send_by: Moment on the monotonic clock after which nothing is sent; see
                :meth:`~spatio_django.oidc.http.Http.post_form`.

        Raises:
            ConfigurationError: ``client_secret``, if the registered way needs one.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :meth:`~spatio_django.oidc.responses.RefreshResponse.from_answer`.

        RFC 6749 §6, OpenID Connect Core 1.0 §12.
        """
        fields: dict[str, str | Secret] = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        basic = _authenticate(credentials, fields)
        endpoint = self.metadata().token_endpoint
        return _bare(
            lambda: RefreshResponse.from_answer(
                self._http.post_form(
                    endpoint,
                    fields,
                    basic=basic,
                    limit=REFRESH_LIMIT,
                    timeout=REFRESH_TIMEOUT if timeout is None else timeout,
                    send_by=send_by,
                    fresh=True,
                    inflate=True,
                )
            )
        )

    def check_refreshed_id_token(self, id_token: Secret, *, original: Mapping[str, Any]) -> None:
        """
        Return unless an ID token that came with a refresh is about somebody else, or is none.

        Nothing is taken from it. A signature that can't be told, because a key was just rotated and is not to
        be had yet, is not held against it as long as it says the right things.

        Args:
            original: The claims kept of the ID token of the sign-in.

        Raises:
            InvalidToken: As :func:`~spatio_django.oidc.jose.verify` but ``kid`` and ``signature``, and as
                :func:`~spatio_django.oidc.id_token.check_refreshed_id_token`.

        OpenID Connect Core 1.0 §12.2.
        """
        from spatio_django.oidc import jose, keys  # here: as above

        claims = jose.unverified_claims(id_token)
        if claims is None:
            raise InvalidToken("Not a compact JWS.", code="malformed")
        check_refreshed_id_token(claims, original=original)
        try:
            keys.verify(
                id_token, jwks_uri=self.metadata().jwks_uri, documents=self._documents, http=self._http
            )
        except InvalidToken as error:
            if error.code not in keys.ROTATED:
                raise
            logger.warning("The signature of a refreshed ID token can't be told: %s", error.code)
        except (ProviderUnavailable, ProtocolViolation) as error:
            logger.warning("The signature of a refreshed ID token can't be told: %s", error.code)

    def revoke(self, credentials: ClientCredentials, token: Secret, *, timeout: float | None = None) -> None:
        """
        Have a token revoked. May be repeated. On a connection of its own, as :meth:`refresh`.

        Without a hint: Spatio takes the token alone, and a provider has to look further than the hint anyway.
        With our credentials, which Spatio does not ask for and RFC 7009 demands.

        Args:
            credentials: Sent in the one way that was registered.
            token: A refresh token, or an access token.
            timeout: Seconds for this call instead of the usual.

        Raises:
            ConfigurationError: ``client_secret``, if the registered way needs one.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :func:`~spatio_django.oidc.responses.judge_revocation`; ``revocation_endpoint``, without one.

        RFC 7009 §2.
        """
        endpoint = self._revocation_endpoint()
        fields: dict[str, str | Secret] = {"token": token}
        basic = _authenticate(credentials, fields)
        _bare(
            lambda: judge_revocation(
                self._http.post_form(
                    endpoint, fields, basic=basic, limit=TOKEN_LIMIT, timeout=timeout, fresh=True
                )
            )
        )

    def verify_id_token(
        self,
        id_token: Secret | None,
        *,
        client_id: str,
        nonce: Secret | str,
        access_token: Secret | None,
        max_age: int | None,
    ) -> dict[str, Any]:
        """
        Return the claims of an ID token after every check that there is.

        Args:
            id_token: As it came, if it came.
            client_id: Ours.
            nonce: Of the pending login.
            access_token: The one that came along.
            max_age: Seconds, if the request said so.

        Raises:
            InvalidToken: As :func:`~spatio_django.oidc.jose.verify` and
                :func:`~spatio_django.oidc.id_token.check_id_token`.
            ProtocolViolation: ``id_token``, if there is none: without it nobody has signed in.
            ProviderUnavailable, ProtocolViolation: Metadata or keys can't be had.

        OpenID Connect Core 1.0 §3.1.3.7.
        """
        if id_token is None:
            raise ProtocolViolation("There is no ID token.", code="id_token")
        from spatio_django.oidc import keys  # here: the rest of sign-in gets by without cryptography

        claims = keys.verify(
            id_token, jwks_uri=self.metadata().jwks_uri, documents=self._documents, http=self._http
        )
        check_id_token(
            claims,
            issuer=self.issuer,
            client_id=client_id,
            nonce=nonce,
            access_token=access_token,
            max_age=max_age,
            now=self._clock(),
        )
        return claims

    def userinfo(self, access_token: Secret, *, subject: str) -> dict[str, Any]:
        """
        Return what the provider tells about the person, beyond the ID token.

        Args:
            access_token: Sent in the header, never in a URL.
            subject: ``sub`` of the ID token.

        Raises:
            ProtocolViolation: ``userinfo_endpoint``, if there is none.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :func:`~spatio_django.oidc.responses.userinfo_claims`.

        OpenID Connect Core 1.0 §5.3.
        """
        endpoint = _required("userinfo_endpoint", self.metadata().userinfo_endpoint)
        answer = self._http.get(endpoint, bearer=access_token, limit=USERINFO_LIMIT)
        return userinfo_claims(answer, subject=subject)

    def register(self, request: ClientMetadata) -> ClientInformation:
        """
        Register this site as a client. Each call makes another client: store the result.

        Raises:
            ProtocolViolation: ``registration_endpoint``, if there is none.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :meth:`~spatio_django.oidc.registration.ClientInformation.from_answer`.

        RFC 7591 §3.
        """
        endpoint = self._registration_endpoint()
        answer = self._http.post_json(endpoint, request.to_document(), limit=REGISTRATION_LIMIT)
        return ClientInformation.from_answer(answer, request=request, issuer=self.issuer, now=self._clock())

    def update_registration(
        self, request: ClientMetadata, current: Management, *, keep: Callable[[Management], None]
    ) -> ClientInformation:
        """
        Replace everything that is registered about this client by *request*.

        Args:
            keep: Called with what is left of an answer that does not hold: the secrets in it may be the only
                ones that are good from now on.

        Raises:
            ProtocolViolation: ``registration_client_uri``, if it is not where the registration endpoint is:
                the registration access token would go to a stranger.
            ProviderUnavailable, ProviderRefused, ProtocolViolation: As
                :meth:`~spatio_django.oidc.registration.ClientInformation.from_answer`.

        RFC 7592 §2.2; Spatio names an address and says no more.
        """
        if origin(current.uri) != origin(self._registration_endpoint()):
            raise ProtocolViolation(
                "registration_client_uri is elsewhere than the registration endpoint.",
                code="registration_client_uri",
            )
        document = {"client_id": current.client_id, **request.to_document()}
        answer = self._http.put_json(
            current.uri, document, bearer=current.access_token, limit=REGISTRATION_LIMIT
        )
        try:
            return ClientInformation.from_answer(
                answer, request=request, issuer=self.issuer, now=self._clock(), current=current
            )
        except SpatioError:
            keep(current.renewed_by(answer))
            raise

    def _fetch_metadata(self) -> dict[str, Any]:
        document = fetch_metadata(self.issuer, http=self._http)
        self._read_metadata(document)  # a bad one must not replace a good copy
        return document

    def _registration_endpoint(self) -> str:
        found = self.metadata().registration_endpoint
        if found is None:
            # Asked for once in a site's life, so not kept.
            document = fetch_oauth_metadata(self.issuer, http=self._http)
            found = optional_endpoint(document, "registration_endpoint", self.issuer)
        return _required("registration_endpoint", found)

    def _revocation_endpoint(self) -> str:
        found = self.metadata().revocation_endpoint
        if found is None:
            found = self._documents.get(self._oauth_name, self._fetch_oauth).read(self._read_oauth)
        return _required("revocation_endpoint", found)

    def _fetch_oauth(self) -> dict[str, Any]:
        document = fetch_oauth_metadata(self.issuer, http=self._http)
        self._read_oauth(document)  # as above
        return document

    def _read_oauth(self, document: dict[str, Any]) -> str | None:
        return optional_endpoint(document, "revocation_endpoint", self.issuer)


def _bare(work: Callable[[], T]) -> T:
    """
    Do *work*, whose errors come without what led to them.

    The frames in which an answer is read hold its tokens in clear. Whoever records the local variables of a
    traceback would keep them, and a refresh token is good for months.
    """
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - raised again below; a job's time limit may strike, too
        failure = error
    # Not before, or the frames would be put back.
    failure.__cause__ = failure.__context__ = None
    raise failure.with_traceback(None)


def _checked(issuer: str) -> str:
    try:
        safe = require_safe_url(issuer, member="issuer")
    except ProtocolViolation as error:
        raise ConfigurationError(str(error), code="issuer") from None
    if "?" in safe:
        raise ConfigurationError("An issuer has no query.", code="issuer")
    return safe


def _required(name: str, endpoint: str | None) -> str:
    if endpoint is None:
        raise ProtocolViolation(f"The provider has no {name}.", code=name)
    return endpoint


def _authenticate(
    credentials: ClientCredentials, fields: dict[str, str | Secret]
) -> tuple[str, Secret] | None:
    """Add the credentials to *fields*, or return them for HTTP Basic: one way per request, never two."""
    if credentials.auth_method == "none":
        fields["client_id"] = credentials.client_id
        return None
    if credentials.client_secret is None:
        raise ConfigurationError("The client has no secret.", code="client_secret")
    if credentials.auth_method == "client_secret_basic":
        return credentials.client_id, credentials.client_secret
    fields["client_id"] = credentials.client_id
    fields["client_secret"] = credentials.client_secret
    return None
