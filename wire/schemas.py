"""JSON Schemas (draft 2020-12) of the messages, made from the types that read them."""

from typing import Any, Final

import msgspec

from wire.messages import (
    DEFAULT_CURRENCY,
    MAX_AMOUNT_DIGITS,
    Reason,
    Transaction,
    Verdict,
)
from wire.posted import Posted

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DIGITS: Final = f"at most {MAX_AMOUNT_DIGITS} digits, 4 of them after the point"
_POSITIVE: Final = (
    rf"^(?=[0-9.]*[1-9])(?=(?:\.?[0-9]){{1,{MAX_AMOUNT_DIGITS}}}$)"
    r"(?:0|[1-9][0-9]*)(?:\.[0-9]{1,4})?$(?!\n)"
)
_AMOUNT: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": _POSITIVE,
    "description": f"decimal, greater than 0, {_DIGITS}",
}
_POSTED_AMOUNT: Final[dict[str, Any]] = {
    "description": f"greater than 0, {_DIGITS}; as a number or, safer, as a string",
    "oneOf": [
        {"type": "string", "pattern": _POSITIVE},
        # No `multipleOf`: most validators divide floats, by which 0.3 is no multiple of 0.0001.
        {"type": "number", "exclusiveMinimum": 0, "maximum": 10**MAX_AMOUNT_DIGITS - 1},
    ],
}


def components(ref_template: str) -> dict[str, dict[str, Any]]:
    """Give the schemas of PostedTransaction, Transaction, Verdict and Reason, by name.

    Args:
        ref_template: how one refers to another: "#/components/schemas/{name}".
    """
    _, schemas = msgspec.json.schema_components(
        [Posted, Transaction, Verdict, Reason], ref_template=ref_template
    )
    posted = schemas.pop("Posted")
    posted["title"] = "PostedTransaction"
    posted["properties"]["amount"] = _POSTED_AMOUNT
    posted["properties"]["currency"]["default"] = DEFAULT_CURRENCY
    posted["properties"]["transaction_id"]["description"] = (
        "who sends a transaction again sends it with the same id; by default the gateway makes one"
    )
    for name in ("Transaction", "Verdict"):
        schemas[name]["properties"]["amount"] = _AMOUNT
    return {"PostedTransaction": posted, **schemas}


def document(name: str) -> dict[str, Any]:
    """Give one schema as a document of its own, with what it refers to in `$defs`."""
    schemas = components("#/$defs/{name}")
    schema = {"$schema": DIALECT, **schemas.pop(name)}
    return schema | ({"$defs": {"Reason": schemas["Reason"]}} if name == "Verdict" else {})
