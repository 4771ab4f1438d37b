"""Who gets a page at a stream's address, and who the raw stream; and who gets pages zipped."""

import pytest

from api.negotiation import takes_gzip, wants_json, wants_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (BROWSER, True),
        ("TEXT/HTML", True),
        ("text/html;q=0.5", True),
        ("text/html; charset=utf-8; q=0.7, text/event-stream;q=0.6", True),
        ("text/event-stream", False),
        ("text/html, text/event-stream", False),
        ("text/html;q=0", False),
        ("text/html;q=x", True),
        ("text/html;q=0.000", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        ("application/json", False),
    ],
)
def test_only_who_prefers_html_gets_the_page(accept: str, *, expected: bool) -> None:
    """EventSource, curl and everything else get the stream."""
    assert wants_page(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("Application/JSON;q=0.5, text/html;q=0.4", True),
        (BROWSER, False),
        ("text/html, application/json", False),
        ("application/json;q=0", False),
        ("application/problem+json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_only_who_prefers_json_gets_a_page_as_such(accept: str, *, expected: bool) -> None:
    """By name: what takes anything may be a human's."""
    assert wants_json(accept) is expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.001", True),
        ("gzip;q=0, identity", False),
        ("gzip; q=0.0", False),
        ("identity", False),
        ("", False),
    ],
)
def test_pages_are_zipped_only_for_who_takes_that(accept_encoding: str, *, expected: bool) -> None:
    """Who gives gzip a weight of 0 does not."""
    assert takes_gzip(accept_encoding) is expected
