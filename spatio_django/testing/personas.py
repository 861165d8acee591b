"""The people one can be at the development provider. Frozen values, no imports from this package."""

import hashlib
from dataclasses import dataclass

#: Which claims each scope opens (OpenID Connect Core 1.0 §5.4), as far as Spatio has them.
SCOPE_CLAIMS = {
    "profile": (
        "name",
        "given_name",
        "family_name",
        "preferred_username",
        "picture",
        "updated_at",
    ),
    "email": ("email", "email_verified"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """
    Somebody who can sign in at the development provider.

    A claim that is ``None`` is left out of every answer, as Spatio leaves out what an account doesn't have.

    Attributes:
        key: Short name, the value of the radio button and of ``FakeSpatio.sign_in(persona=...)``.
        sub: Subject identifier, stable and case-sensitive.
        note: One line for the person who chooses, shown beside the radio button.
        picture: A URL; one that starts with ``/`` is a file served by this provider.
    """

    key: str
    sub: str
    note: str = ""
    email: str | None = None
    email_verified: bool | None = None
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    preferred_username: str | None = None
    picture: str | None = None
    updated_at: int | None = None

    @property
    def label(self) -> str:
        """What to call this person on a page."""
        return self.name or self.email or self.preferred_username or self.sub

    @property
    def user_id(self) -> str:
        """
        The internal id that introspection shows.

        Deliberately not ``sub``: nothing in Spatio's documents says the two are equal, and a site that
        joins them by luck here would join them wrongly there.
        """
        return "usr_" + hashlib.sha256(self.sub.encode()).hexdigest()[:20]

    def claims(self, scope: str, *, issuer: str) -> dict[str, object]:
        """``sub``, and what the scopes in *scope* open."""
        claims: dict[str, object] = {"sub": self.sub}
        for name in (name for part in scope.split() for name in SCOPE_CLAIMS.get(part, ())):
            value = getattr(self, name)
            if value is not None:
                claims[name] = value
        picture = claims.get("picture")
        if isinstance(picture, str) and picture.startswith("/"):
            claims["picture"] = issuer + picture
        return claims


#: Each one has something that sites get wrong.
PERSONAS: tuple[Persona, ...] = (
    Persona(
        key="ada",
        sub="acc_2Yh7QmVxK0aDaLovelace",
        note="everything filled in, verified e-mail",
        email="ada@example.com",
        email_verified=True,
        name="Ada Lovelace",
        given_name="Ada",
        family_name="Lovelace",
        preferred_username="ada",
        picture="/static/ada.svg",
        updated_at=1_767_225_600,
    ),
    Persona(
        key="bo",
        sub="acc_9cPzT4nR1bOnoNameAtAll",
        note="no name of any kind, verified e-mail",
        email="bo@example.com",
        email_verified=True,
        updated_at=1_769_904_000,
    ),
    Persona(
        key="cleo",
        sub="acc_5kWq8LsE3cLeoUnverified",
        note="the e-mail address is not verified",
        email="cleo@example.com",
        email_verified=False,
        name="Cleo Marchetti",
        given_name="Cleo",
        family_name="Marchetti",
        preferred_username="cleo",
        updated_at=1_772_323_200,
    ),
    Persona(
        key="zoe",
        sub="acc_7dXj6HuB2zOeAngstroem",
        note="a name beyond ASCII, no username",
        email="zoe@example.com",
        email_verified=True,
        name="Zoë Ångström-李",
        given_name="Zoë",
        family_name="Ångström-李",
        updated_at=1_775_001_600,
    ),
    Persona(
        key="dee",
        sub="acc_2yh7qmvxk0adalovelace",
        note="same name and username as Ada; the identifier differs from hers in case only",
        email="dee@example.com",
        email_verified=True,
        name="Ada Lovelace",
        given_name="Ada",
        family_name="Lovelace",
        preferred_username="ada",
        updated_at=1_777_593_600,
    ),
)
