"""What the documents show: a transaction as it is posted, and the verdict on it."""

from typing import Any, Final

TRANSACTION: Final[dict[str, Any]] = {
    "transaction_id": "01938f3e-4c1a-7a52-9d0e-0242ac120002",
    "source": "acc-000017",
    "target": "acc-004711",
    "amount": 900.01,
    "currency": "EUR",
    "occurred_at": "2026-11-23T12:00:00.123Z",
}
OTHERS: Final = [
    TRANSACTION | {"transaction_id": f"01938f3e-4c1a-7a52-9d0e-0242ac12000{number}", **given}
    for number, given in enumerate(({"amount": "12.50"}, {"target": "acc-000815"}), 3)
]
"""Ones to post with it or after it: with ids of their own, as each is to get its verdict."""
_DECIDED: Final = {
    "rules_version": "2c26b46b68ff",
    "received_at": "2026-11-23T12:00:00.130Z",
    "decided_at": "2026-11-23T12:00:00.141Z",
}
FRAUD: Final[dict[str, Any]] = {
    **TRANSACTION,
    "amount": "900.01",
    "decision": "fraud",
    "score": 100,
    "reasons": [{"rule": "amount-limit", "version": "1", "detail": "amount 900.01 > 900"}],
    **_DECIDED,
}
LEGIT: Final[dict[str, Any]] = {
    **OTHERS[0],
    "decision": "legit",
    "score": 0,
    "reasons": [],
    **_DECIDED,
}
