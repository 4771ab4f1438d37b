"""NDJSON is cut into lines the same way however it arrives."""

from hypothesis import given
from hypothesis import strategies as st

from api.ingest.lines import Lines

LONGEST = 8


def cut(line: bytes) -> bytes:
    """Leave of a line that is too long what shows that it is."""
    return line[: LONGEST + 1]


@given(st.lists(st.binary(max_size=12)), st.data())
def test_lines_do_not_depend_on_the_chunks(lines: list[bytes], data: st.DataObject) -> None:
    """Each line comes out whole, and one that is too long too long, once."""
    lines = [line.replace(b"\n", b"") for line in lines]
    body = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)))))
    reader = Lines(LONGEST)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:end])

    assert list(map(cut, found)) == list(map(cut, lines))
    assert reader.held <= LONGEST
