"""The Prefer header: `wait` is found, and nothing else is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest.preferences import wait_seconds


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("wait=10", 10),
        ("respond-async, wait=10", 10),
        (",, Wait = 5 ;x=y , wait=9", 5),
        ('foo="wait=3, wait=4", wait="7"', 7),
        ("handling=lenient; wait=3", None),
        ("wait", None),
        ("wait=", None),
        ("wait=1.5", None),
        ('wait="10', None),
        ("wait=-1", None),
        ("wait=99999999999999999999", None),
        ("waiting=3", None),
        ("", None),
        ("a ; ; b ; c = ; , wait=3", 3),
    ],
)
def test_wait_is_read_as_rfc_7240_writes_it(prefer: str, expected: int | None) -> None:
    """Names are case-insensitive, values may be quoted, the first one counts."""
    assert wait_seconds(prefer) == expected


@given(st.text())
def test_no_header_is_an_error(prefer: str) -> None:
    """What can't be read is ignored."""
    wait_seconds(prefer)


@pytest.mark.parametrize("begin", ["a", "a=b", 'a="', "a;b"])
@pytest.mark.parametrize("again", ["; ", " ;", " ; b", "; b =", " = ", " ", "\\", ", ", ";b="])
def test_a_header_that_leads_nowhere_is_soon_given_up(begin: str, again: str) -> None:
    """However often something is in it that could be read in more than one way."""
    assert wait_seconds(begin + again * 10_000 + '"') is None
