"""The whole walk over real HTTP: button, provider, callback, session."""

from tests.conftest import Site


def test_a_visitor_signs_in_and_lands_on_the_page_they_wanted(site: Site) -> None:
    """The walk of the quickstart ends on ``next``, signed in."""
    browser = site.browser()

    response = site.sign_in(browser, next="/other/?a=1")

    assert response.status_code == 302, response.content.decode()
    assert response["Location"] == "/other/?a=1"
    assert b"other page" in browser.get("/other/?a=1").content
