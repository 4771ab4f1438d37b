"""NDJSON is cut into lines the same way however it arrives."""

from hypothesis import given
from hypothesis import strategies as st

from api.ingest.lines import Lines

LONGEST = 8


@given(st.lists(st.binary(max_size=12)), st.data())
def test_lines_do_not_depend_on_the_chunks(lines: list[bytes], data: st.DataObject) -> None:
    """Each line comes out whole, and one that is too long as None, once."""
    lines = [line.replace(b"\n", b"") for line in lines]
    body = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)))))
    reader = Lines(LONGEST)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:end])

    assert [line if line is None or len(line) <= LONGEST else None for line in found] == [
        line if len(line) <= LONGEST else None for line in lines
    ]
    assert reader.held <= LONGEST
