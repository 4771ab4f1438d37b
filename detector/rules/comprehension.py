"""Comprehensions in a CEL condition: how deep they stand in or after one another.

Each goes through a list or map for every element of the one around it, or makes a larger one for
the next in the chain: a line of text can ask for more work, or memory, than there is. The library
has no bound of its own, and gives the processor to nobody else meanwhile. The CEL specification
names nesting as what an implementation should bound.
"""

import re
from typing import Final, NamedTuple

from wire.cel import NO_CODE

NAMES: Final = ("all", "exists", "exists_one", "existsOne", "map", "filter")
_MACRO: Final = rf"\.\s*(?:{'|'.join(NAMES)})\s*\("

_TOKEN: Final = re.compile(rf"(?P<macro>{_MACRO})|(?P<member>\.\s*\w+)|\w+|\S")


class _Outer(NamedTuple):
    """What is left for a bracket's inside."""

    deepest: int
    receiver: int
    """Depth of the value that the bracket belongs to: `x` in `x.map(…)` and `x[…]`."""
    steps: int
    """1 for a comprehension's bracket."""


def depth(condition: str) -> int:
    """Count the comprehensions of a condition that stand in one another, or follow in a chain.

    Where there are several such rows, the longest. The condition is known to be CEL.
    """
    code = NO_CODE.sub(lambda found: " " if found[0].startswith("//") else "''", condition)
    outer: list[_Outer] = []
    deepest = value = 0  # of what stands in the bracket so far; of the value that ends here
    for token in _TOKEN.finditer(code):
        text = token[0]
        if token["macro"] or text in "([{":
            outer.append(_Outer(deepest, value, 1 if token["macro"] else 0))
            deepest = value = 0
        elif text in ")]}" and outer:
            before = outer.pop()
            inside = deepest + before.steps
            # A comprehension's own elements are its receiver's; an index or argument is no more.
            value = before.receiver + inside if before.steps else max(before.receiver, inside)
            deepest = max(before.deepest, value)
        elif not token["member"]:
            value = 0
    return deepest
