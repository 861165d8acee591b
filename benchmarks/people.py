"""Who signs in, and what the provider tells about them. Seeds and provider agree on it here."""

from typing import Any

CLIENT_ID = "benchmark"
CLIENT_SECRET = "a-secret-of-the-benchmark"  # noqa: S105 - it opens nothing
SCOPES = ("openid", "profile", "email")


def subject(number: int) -> str:
    """Give ``sub`` of person *number*."""
    return f"person-{number}"


def email(number: int) -> str:
    """Give their address."""
    return f"person-{number}@people.example"


def profile(number: int) -> dict[str, Any]:
    """Give what userinfo tells, and an ID token that tells everything."""
    return {
        "sub": subject(number),
        "name": f"Person {number}",
        "given_name": "Person",
        "family_name": str(number),
        "preferred_username": subject(number),
        "email": email(number),
        "email_verified": True,
        "picture": f"https://people.example/{number}.png",
        "updated_at": 1_760_000_000,
    }
