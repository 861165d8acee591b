"""Four user models that are unlike Django's own."""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AbstractUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models
from django.utils.crypto import get_random_string


def new_key() -> str:
    """Give a primary key that is no number."""
    return "u" + get_random_string(7)


class EmailManager(BaseUserManager[Any]):
    """The manager of sites that know people by e-mail: its ``create_user`` takes no username."""

    def create_user(self, email: str, password: str | None = None) -> Any:
        """Create somebody."""
        user = self.model(email=email)
        user.set_password(password)
        user.save()
        return user


class EmailUser(AbstractBaseUser):
    """Known by e-mail and nothing else."""

    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    objects = EmailManager()

    class Meta:
        app_label = "customuser"


class EmailAndUsernameUser(AbstractUser):
    """Django's user that signs in by e-mail; its unique username is still there."""

    email = models.EmailField(unique=True)
    groups = None  # type: ignore[assignment]
    user_permissions = None  # type: ignore[assignment]

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["username"]

    class Meta:
        app_label = "customuser"


class HandleUser(AbstractBaseUser):
    """No e-mail, no names; a short handle and a primary key that is no number."""

    id = models.CharField(max_length=8, primary_key=True, default=new_key)
    handle = models.CharField(max_length=12, unique=True, validators=[RegexValidator(r"^[a-z0-9]+$")])

    USERNAME_FIELD = "handle"

    class Meta:
        app_label = "customuser"


class JoiningManager(BaseUserManager[Any]):
    """Reads along what may not be there, with an outer join."""

    def get_queryset(self) -> Any:
        """Give users with whom they answer to."""
        return super().get_queryset().select_related("boss").order_by("name")


class UuidUser(AbstractBaseUser):
    """A random primary key, and a manager that joins."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50, unique=True)
    boss = models.ForeignKey("self", models.SET_NULL, null=True)

    USERNAME_FIELD = "name"

    objects = JoiningManager()

    class Meta:
        app_label = "customuser"
