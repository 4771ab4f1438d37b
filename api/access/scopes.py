"""The scopes: what a credential can be allowed to do."""

from typing import Final

TRANSACTIONS_WRITE: Final = "transactions:write"
"""Post transactions, and look up what became of them."""
STREAM_LEGIT: Final = "stream:legit"
STREAM_FRAUD: Final = "stream:fraud"
METRICS_READ: Final = "metrics:read"
ACCOUNTS_READ: Final = "accounts:read"
"""See accounts where they are masked for others."""

SCOPES: Final = frozenset(
    {TRANSACTIONS_WRITE, STREAM_LEGIT, STREAM_FRAUD, METRICS_READ, ACCOUNTS_READ}
)
