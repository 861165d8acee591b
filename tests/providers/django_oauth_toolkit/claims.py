"""What the provider tells about people."""

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):  # type: ignore[misc]  # the parent has no types
    """The ID token tells the name, and only userinfo the e-mail address: many providers share them out so."""

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        """Give what goes into ID tokens and userinfo alike."""
        return {"name": request.user.get_full_name(), "preferred_username": request.user.get_username()}

    def get_userinfo_claims(self, request: Any) -> dict[str, Any]:
        """Give what userinfo answers."""
        claims: dict[str, Any] = super().get_userinfo_claims(request)
        if "email" in request.scopes:
            claims |= {"email": request.user.email, "email_verified": True}
        return claims
