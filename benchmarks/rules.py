"""The rules: what a decision costs with few and many of them, and what windows hold in memory.

Aims: default rule about 1 us a decision, all window rules at most 8 us; the windows of 600,000
transactions (1000/s, ten minutes, four partitions) well within a detector's 400 MB.

The load is one partition's quarter of 1000 transactions a second over 10,000 accounts, measured
when the windows are full, in processor time. The reference is decoding one transaction, in the
same run.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median
from typing import Final
from uuid import UUID

import psutil

import detector
from detector import rulesfile
from detector.engine import Engine
from detector.rules import RuleSet
from detector.tally import TallySpec
from detector.windows import CounterpartiesSpec, Recent, Window
from wire.messages import Transaction, decode_transaction, decode_transactions, encode

ACCOUNTS: Final = 10_000
STEP_MS: Final = 4
START_MS: Final = 1_700_000_000_000
WARM: Final = 150_000
CHUNK: Final = 500
CHUNKS: Final = 100
MILLION: Final = 1_000_000
HOUR_MS: Final = 3_600_000
EXAMPLE: Final = Path(detector.__file__).parent / "example_rules.toml"


def main() -> int:
    """Measure and print; with an argument, hold that window's entries and print their size."""
    if len(sys.argv) > 1:
        print(measure_memory(sys.argv[1]))
        return 0
    decode = median(decode_times())
    print(f"decoding a transaction {decode:28.2f} us  (the reference)")
    for name, rules in rule_sets():
        cost = median(decide_times(rules))
        print(f"{name:40} {cost:10.2f} us  {cost / decode:5.1f}x")
    for name in WINDOWS:
        command = [sys.executable, "-m", "benchmarks.rules", name]
        size = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{name:40} {float(size):10.0f} MB")
    return 0


def rule_sets() -> Iterator[tuple[str, RuleSet]]:
    """Give the sets that are measured, by name."""
    default, example = rulesfile.load(None), rulesfile.load(EXAMPLE)
    # With this load the example's limits would be passed all the time; a rule that hits pays for
    # its reason, and most transactions hit none.
    quiet = {"sum_limit": Decimal(1_000_000), "new_counterparty": Decimal(990)}
    rules = tuple(
        rule.model_copy(update={"limit": quiet[rule.kind]}) if rule.kind in quiet else rule
        for rule in example.rules
    )
    yield "duplicates only", replace(default, rules=())
    yield "default rule (aim 1)", default
    for rule in rules:
        yield f"  {rule.kind} alone", replace(example, rules=(rule,))
    windows = tuple(rule for rule in rules if rule.window or rule.kind == "amount_limit")
    yield "all window rules and amount_limit (aim 8)", replace(example, rules=windows)
    yield "the whole example file, with CEL", replace(example, rules=rules)


def traffic(records: int) -> Iterator[bytes]:
    """Give records as they lie in Kafka."""
    random = Random(1)
    for number in range(records):
        yield encode(
            Transaction(
                str(UUID(int=random.getrandbits(128))),
                f"acc-{random.randrange(ACCOUNTS):06d}",
                f"acc-{random.randrange(ACCOUNTS):06d}",
                Decimal(random.randrange(1, 90_000 + (number % 50 == 0) * 20_000)) / 100,
            )
        )


def decode_times() -> Iterator[float]:
    """Give the microseconds that decoding takes, a figure a chunk."""
    for _ in range(CHUNKS):
        values = list(traffic(CHUNK))
        began = time.thread_time()
        decode_transactions(values)
        yield (time.thread_time() - began) / CHUNK * 1e6


def decide_times(rules: RuleSet) -> Iterator[float]:
    """Give the microseconds of a decision with full windows, a figure a chunk."""
    engine = Engine(rules)
    for first in range(0, len(LOG), CHUNK):
        chunk = decode_transactions(LOG[first : first + CHUNK])
        times_ms = range(START_MS + STEP_MS * first, START_MS + STEP_MS * (first + CHUNK), STEP_MS)
        began = time.thread_time()
        engine.decide(chunk, times_ms)
        spent = time.thread_time() - began
        if first >= WARM:
            yield spent / CHUNK * 1e6


def measure_memory(name: str) -> float:
    """Give the megabytes that this process grows by when the window is filled."""
    process = psutil.Process()
    fill = WINDOWS[name]
    before = process.memory_info().rss
    held = fill()
    grown = process.memory_info().rss - before
    assert held
    return grown / 1e6


def filled(window: Window) -> Window:
    """Put a million transactions into a window."""
    for number, value in enumerate(traffic(MILLION)):
        window.add([decode_transaction(value)], [START_MS + number])
    return window


def duplicates() -> Recent:
    """Put a million transactions' ids into a window."""
    recent = Recent(HOUR_MS, MILLION)
    for number, value in enumerate(traffic(MILLION)):
        transaction = decode_transaction(value)
        recent.saw([f"{transaction.source}\n{transaction.transaction_id}"], [START_MS + number])
    return recent


def detector_at_work() -> list[Engine]:
    """Judge ten minutes of 1000 transactions a second by the default rule, in four partitions."""
    engines = [Engine(rulesfile.load(None)) for _ in range(4)]
    for number, value in enumerate(traffic(600_000)):
        engines[number % 4].decide([decode_transaction(value)], [START_MS + number])
    return engines


WINDOWS: Final[dict[str, Callable[[], object]]] = {
    "million duplicates": duplicates,
    "million counterparties": lambda: filled(CounterpartiesSpec(HOUR_MS).open(MILLION)),
    "million entries of a count": lambda: filled(TallySpec(HOUR_MS).open(MILLION)),
    "million entries of a sum": lambda: filled(TallySpec(HOUR_MS, sums=True).open(MILLION)),
    "default rule, 600,000 transactions": detector_at_work,
}

if __name__ == "__main__":
    LOG: Final = list(traffic(WARM + CHUNK * CHUNKS)) if len(sys.argv) == 1 else []
    sys.exit(main())
