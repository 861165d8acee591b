"""Key rotation: everything that is sealed, sealed anew with the first key, beside whoever uses it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db import models

from spatio_django.encryption import Encrypted, key_ring
from spatio_django.exceptions import Undecryptable
from spatio_django.models import authoritative

#: Called after each page with the model, and how many of its rows were looked at so far.
Progress = Callable[[type[models.Model], int], object]

#: Rows of a page.
BATCH_SIZE = 500
#: Looks at a row that somebody else changes each time.
LOOKS = 5


@dataclass(slots=True, kw_only=True)
class Count:
    """
    What became of the sealed values of one model.

    Attributes:
        current: They were sealed with the first key already.
        renewed: They are now; in a dry run, they would be.
        unreadable: No key opens them. They were left alone.
        busy: Somebody else changed them each time. They were left alone.
    """

    current: int = 0
    renewed: int = 0
    unreadable: int = 0
    busy: int = 0


def ignore(model: type[models.Model], done: int) -> None:
    """Tell nobody."""


def rotate(
    *, batch_size: int = BATCH_SIZE, dry_run: bool = False, progress: Progress = ignore
) -> dict[type[models.Model], Count]:
    """
    Seal with the first key what is sealed with another one.

    Page by page along the primary key, one statement for each row, and only if its ciphertext is still what
    was read: a refresh or a sign-out at the same moment wins, and the row is looked at again. May be stopped
    and begun again; what is done is skipped.

    Args:
        batch_size: Rows of a page.
        dry_run: Only count.
        progress: Called after each page.

    Returns:
        Counts by model.
    """
    return {
        model: rotate_model(model, fields, batch_size=batch_size, dry_run=dry_run, progress=progress)
        for model, fields in sealed_models()
    }


def sealed_models() -> Iterator[tuple[type[models.Model], list[Encrypted]]]:
    """Give the models that hold something sealed, and where."""
    for model in apps.get_app_config("spatio_django").get_models():
        if fields := [value for value in vars(model).values() if isinstance(value, Encrypted)]:
            yield model, fields


def rotate_model(
    model: type[models.Model], fields: list[Encrypted], *, batch_size: int, dry_run: bool, progress: Progress
) -> Count:
    """Do as :func:`rotate`, for one model."""
    count, done, last = Count(), 0, 0
    while page := list(authoritative(model).filter(pk__gt=last).order_by("pk")[:batch_size]):
        for row in page:
            rotate_row(row, fields, count, dry_run=dry_run)
        done, last = done + len(page), page[-1].pk
        progress(model, done)
    return count


def rotate_row(row: models.Model, fields: list[Encrypted], count: Count, *, dry_run: bool) -> None:
    """Seal one row anew, unless it changes meanwhile: then look at it again."""
    rows = authoritative(type(row)).filter(pk=row.pk)
    found: models.Model | None = row
    for _look in range(LOOKS):
        if found is None:
            return  # deleted: nothing is left to seal
        before, after, seen = {}, {}, Count()
        for field in fields:
            sealed = getattr(found, field.column)
            renewed = renew(found, field, sealed, seen)
            if renewed:
                before[field.column], after[field.column] = sealed, renewed
        if not after or dry_run or rows.filter(**before).update(**after):
            count.current += seen.current
            count.renewed += seen.renewed
            count.unreadable += seen.unreadable
            return
        found = rows.first()
    count.busy += 1


def renew(row: models.Model, field: Encrypted, sealed: str, seen: Count) -> str:
    """Give what to put in the place of *sealed*; empty if nothing."""
    ring = key_ring()
    if not sealed:
        return ""
    if ring.is_current(sealed):
        seen.current += 1
        return ""
    context = field.context(row)
    try:
        renewed = ring.seal(ring.open(sealed, context=context), context=context)
    except Undecryptable:
        seen.unreadable += 1
        return ""
    seen.renewed += 1
    return renewed
