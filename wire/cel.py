"""What CEL (the Common Expression Language) has that is no code: comments and quoted texts."""

import re
from typing import Final

NO_CODE: Final = re.compile(
    r"""//[^\n]*
    | \b[bB]?[rR][bB]?(?P<raw>\"{3}|'{3}|["']).*?(?:(?P=raw)|\Z)
    | (?P<quote>\"{3}|'{3}|["'])(?:\\.?|[^\\])*?(?:(?P=quote)|\Z)""",
    re.DOTALL | re.VERBOSE,
)
"""A comment, raw string (a backslash is itself) or string; one without an end goes to the text's.

The groups `raw` and `quote` have the quotation mark; neither has anything for a comment.
"""
