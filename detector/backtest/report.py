"""A backtest's result in the terminal, and as JSON."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from detector.backtest.result import Difference, Result, told

KINDS = {
    "became fraud": "legit before, fraud now",
    "became legit": "fraud before, legit now",
    "changed": "same decision, other score or reasons",
    "missing": "no verdict recorded",
}
"""The kinds of difference, as they are told."""


def as_json(result: Result) -> str:
    """Write the whole result as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(as_dict(result))).decode()


def as_dict(result: Result) -> dict[str, Any]:
    """Give the whole result as plain data."""
    confusion = result.confusion
    return {
        "rules_version": result.rules.version,
        "threshold": result.rules.threshold,
        "compared_with": result.compared_with,
        "same": result.same,
        "compared": result.confusion.total(),
        "decided": result.decided,
        "legit": result.decisions["legit"],
        "fraud": result.decisions["fraud"],
        "duplicates": result.duplicates,
        "refused": result.refused,
        "replayed": result.replayed,
        "evicted": result.evicted,
        "confusion": {
            f"{reference}_{decision}": confusion[reference, decision]
            for reference in ("legit", "fraud")
            for decision in ("legit", "fraud")
        },
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "flips": result.flips,
        "changed": result.changed,
        "missing": result.missing,
        "extra": result.extra,
        "microseconds_per_decision": result.cost.microseconds,
        "rules": [
            {
                "id": rule.id,
                "kind": rule.kind,
                "shadow": rule.shadow,
                "hits": rule.hits,
                "hits_on_fraud": rule.hits_on_fraud,
                "no_answer": result.failures[rule.id],
                "microseconds": rule.cost.microseconds,
            }
            for rule in result.rule_results.values()
        ],
        "examples": {
            kind.replace(" ", "_"): [_example(each) for each in differences]
            for kind, differences in result.examples.items()
        },
    }


def show(result: Result, console: Console) -> None:
    """Print the result as tables."""
    console.print(_summary(result))
    if result.confusion:
        console.print(_confusion(result))
    if result.rule_results:
        console.print(_rules(result))
    for kind, differences in result.examples.items():
        if differences:
            console.print(_differences(KINDS[kind], differences))


def share(part: float | None) -> str:
    """Write a share of one as a percentage."""
    return "-" if part is None else f"{part:.2%}"


def micros(cost: float | None) -> str:
    """Write a cost in microseconds."""
    return "-" if cost is None else f"{cost:.2f}"


def score(difference: Difference) -> str:
    """Write the score of a decision, and that of the reference if it is another."""
    now, reference = difference.decided.score, difference.reference
    before = reference and reference.score
    return str(now) if before in (None, now) else f"{now} (was {before})"


def summary(result: Result) -> list[tuple[str, str]]:
    """Give the figures that come first, named."""
    rows = [
        ("rules", f"{result.rules.version}, threshold {result.rules.threshold}"),
        ("compared with", result.compared_with),
        ("decided", f"{result.decided:,}"),
        ("fraud", f"{result.decisions['fraud']:,}"),
        ("legit", f"{result.decisions['legit']:,}"),
        ("duplicates", f"{result.duplicates:,}"),
        ("refused as no transaction", f"{result.refused:,}"),
        ("replayed for the windows", f"{result.replayed:,}"),
        ("compared", f"{result.confusion.total():,}"),
        ("decided otherwise", f"{result.flips:,}"),
        ("other score or reasons", f"{result.changed:,}"),
        ("no verdict recorded", f"{result.missing:,}"),
        ("recorded, not decided here", f"{result.extra:,}"),
        ("cost of a decision", f"{micros(result.cost.microseconds)} µs"),
    ]
    if result.evicted:
        rows.append(("window entries gone early", f"{result.evicted:,} (not exact)"))
    return rows


def _summary(result: Result) -> Table:
    table = Table(title="Backtest", show_header=False)
    for name, value in summary(result):
        table.add_row(name, value)
    return table


def _confusion(result: Result) -> Table:
    confusion = result.confusion
    table = Table(
        title="Reference and decision",
        caption=f"precision {share(confusion.precision)}, recall {share(confusion.recall)},"
        f" F1 {share(confusion.f1)}",
    )
    table.add_column("reference")
    table.add_column("decided fraud", justify="right")
    table.add_column("decided legit", justify="right")
    for reference in ("fraud", "legit"):
        cells = (f"{confusion[reference, decision]:,}" for decision in ("fraud", "legit"))
        table.add_row(reference, *cells)
    return table


def _rules(result: Result) -> Table:
    table = Table(title="Rules")
    for name in ("rule", "kind"):
        table.add_column(name, overflow="fold")
    for name in ("hits", "on fraud", "no answer", "µs a check"):
        table.add_column(name, justify="right")
    for rule in result.rule_results.values():
        table.add_row(
            f"{rule.id} (shadow)" if rule.shadow else rule.id,
            rule.kind,
            f"{rule.hits:,}",
            f"{rule.hits_on_fraud:,}",
            f"{result.failures[rule.id]:,}",
            micros(rule.cost.microseconds),
        )
    return table


def _differences(title: str, differences: list[Difference]) -> Table:
    table = Table(title=f"Examples: {title}")
    for name in ("transaction", "received", "amount", "score", "why now", "why before"):
        table.add_column(name, overflow="fold")
    for each in differences:
        before = each.reference
        table.add_row(
            each.transaction_id,
            f"{each.received_at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            f"{each.amount} {each.currency}",
            score(each),
            "\n".join(told(each.decided.reasons)) or "-",
            "\n".join(told(before.reasons)) if before and before.reasons else "-",
        )
    return table


def _example(difference: Difference) -> dict[str, Any]:
    example: dict[str, Any] = difference._asdict()
    example["decided"] = msgspec.structs.asdict(difference.decided)
    example["reference"] = difference.reference and difference.reference._asdict()
    return example
