"""TOML as rules are written in it: numbers exact, and nothing that takes for ever to read.

`tomllib` reads a key of n parts in n² steps at least, and makes a whole number of any length, which
takes as long to be turned into a decimal. A rules file needs neither.
"""

import re
import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from detector.errors import RulesError

MAX_KEY_PARTS: Final = 8
MAX_WORD: Final = 100
"""Longest key, number or date without quotes, in characters."""
MAX_EXPONENT: Final = 100
"""Of a number, either way; no field takes one that is nearly so large or small."""
_INFINITE: Final = Decimal("Infinity")

# Comments and quoted texts; one without an end goes on to the line's end, or the text's.
# Groups are atomic, not possessive, which Python before 3.11.5 gets wrong (its issue 106052).
_NO_CODE: Final = re.compile(
    r"""\#[^\n]*
    | \"{3}(?>(?:[^\\"]++|\\.|\"(?!\"{2}))*)(?:\"{3})?
    | '{3}(?>(?:[^']++|'(?!'{2}))*)(?:'{3})?
    | "(?>(?:[^\\"\n]++|\\.)*)"?
    | '[^'\n]*+'?""",
    re.DOTALL | re.VERBOSE,
)
_LONG_WORD: Final = re.compile(rf"[\w+-]{{{MAX_WORD + 1}}}")
_LONG_KEY: Final = re.compile(rf"(?:[\w'-]++[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}")


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Read a document; `name` stands in errors.

    Raises:
        RulesError: it is no TOML, or such as no rules file needs.
    """
    try:
        text = content.decode()
        code = _NO_CODE.sub(lambda found: "" if found[0].startswith("#") else "''", text)
        if _LONG_WORD.search(code):
            raise RulesError(f"{name}: a key or number of more than {MAX_WORD} characters")
        if _LONG_KEY.search(code):
            raise RulesError(f"{name}: a key of more than {MAX_KEY_PARTS} parts")
        # Amounts stay decimal: a float would make 900.10 something else.
        return tomllib.loads(text, parse_float=_decimal)
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RulesError(f"{name}: not TOML: {error}") from None
    except RecursionError:
        raise RulesError(f"{name}: not TOML: nested too deep") from None


def _decimal(text: str) -> Decimal:
    """Read a number with a point or an exponent; one beyond all sense comes out infinite.

    Every field refuses that by name. As a whole number it could have more digits than there is
    memory.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent that no decimal has
        return _INFINITE
    if number.is_finite() and abs(number.adjusted()) > MAX_EXPONENT:
        return _INFINITE
    return number
