"""What a detector counts: plain numbers that any exporter can read, without touching the worker."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Metrics:
    """Totals since the process started; `lag` and `windows` are as of the last batch."""

    records: int = 0
    """Records read and settled, whatever became of them."""
    legit: int = 0
    fraud: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    batches: int = 0
    """Transactions committed."""
    aborts: int = 0
    fenced: int = 0
    last_batch_records: int = 0
    transaction_seconds: float = 0.0
    """Time spent between begin and commit, over all partitions."""
    rebuilds: int = 0
    rebuilt_records: int = 0
    rebuild_seconds: float = 0.0
    """Time spent on building state from the log."""
    lag: dict[int, int] = field(default_factory=dict)
    """Records behind the log's end, per assigned partition."""
    entries: dict[int, int] = field(default_factory=dict)
    """Entries in the windows, per assigned partition."""
    evicted: dict[int, int] = field(default_factory=dict)
    """Entries let go for want of room, per assigned partition."""

    def forget(self, partition: int) -> None:
        """Drop what is kept per partition: it is no longer ours."""
        for of_partition in (self.lag, self.entries, self.evicted):
            of_partition.pop(partition, None)
