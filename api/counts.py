"""What the ingest path counts, in plain numbers that an exporter can read at any time."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Sums since the process started, except where a name says `in_flight`."""

    requests: Counter[int] = field(default_factory=Counter)
    """POST /transactions answered, by HTTP status."""
    problems: Counter[str] = field(default_factory=Counter)
    """POST /transactions answered with a problem, by its code."""
    requests_in_flight: int = 0
    records_acknowledged: int = 0
    records_failed: int = 0
    """Records that were put in the outbox and not acknowledged."""
    bytes_in_flight: int = 0
    batches: int = 0
    """Record batches acknowledged."""
    batch_seconds: float = 0.0
    """Time from a batch's first record to its acknowledgement, summed over batches."""
