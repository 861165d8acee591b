"""
A Spatio to develop and test against, on this machine and without a network.

::

    from spatio_django.testing import FakeSpatio

    with FakeSpatio() as spatio:
        client = spatio.register(["http://testserver/spatio/callback/"])
        settings.SPATIO_ISSUER = spatio.issuer

or, from a terminal: ``python -m spatio_django.testing``. It needs ``pip install "spatio-django[testing]"``,
but importing this module does not: that is looked for when a :class:`FakeSpatio` is made.

The provider shares nothing with the site it serves, neither code nor settings nor database, so that the
two can't agree on a mistake. It serves loopback only. The names below are the public API; the other
modules of this package are not.
"""

from spatio_django.testing.fake import FakeSpatio
from spatio_django.testing.personas import PERSONAS, Persona
from spatio_django.testing.recording import RecordedRequest

__all__ = ["PERSONAS", "FakeSpatio", "Persona", "RecordedRequest"]
