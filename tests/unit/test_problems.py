"""What the gateway can answer instead of what was wanted is told to those who call it."""

import re
from pathlib import Path

from api.problems import KINDS

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_code() -> None:
    """Each code stands in the table, with its status, and no other does."""
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", README.read_text(), re.MULTILINE)
    listed = {
        (int(status), code) for status, codes in rows for code in re.findall(r"`(.+?)`", codes)
    }
    assert listed == {(kind.status, kind.code) for kind in KINDS}
