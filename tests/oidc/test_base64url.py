"""spatio_django.oidc.base64url: one text per value."""

import pytest

from spatio_django.oidc import base64url


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AA==", id="padding"),
        pytest.param("A", id="impossible-length"),
        pytest.param("AB", id="surplus-bits"),
        pytest.param("+/+/", id="the-other-alphabet"),
        pytest.param("AA A", id="space"),
        pytest.param("AAAA\n", id="line-break"),
        pytest.param("ÀÀÀÀ", id="not-ascii"),
    ],
)
def test_a_second_text_for_a_value_is_refused(text: str) -> None:
    """Python's own decoder reads all of these, or skips what it does not know."""
    assert base64url.decode("AA") == b"\0"

    assert base64url.decode(text) is None
