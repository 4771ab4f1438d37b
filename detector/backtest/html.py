"""A backtest's result as one HTML page that needs nothing else: no script, no network."""

from datetime import UTC, datetime
from html import escape
from importlib import resources
from string import Template
from typing import Final

from detector.backtest import plots
from detector.backtest.report import KINDS, micros, score, share, summary
from detector.backtest.result import Difference, Result, told

TEMPLATE: Final = "report.html"


def page(result: Result) -> str:
    """Make the page."""
    template = resources.files("detector.backtest").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return Template(template).substitute(
        compared_with=escape(result.compared_with),
        rules_version=escape(result.rules.version),
        tiles="".join(map(_tile, _headline(result))),
        summary=_table(None, [[name, value] for name, value in summary(result)]),
        confusion=_confusion(result),
        timeline=plots.timeline(result),
        thresholds=plots.thresholds(result),
        scores=plots.scores(result),
        rules=_rules(result),
        hits=plots.hits(result),
        examples="".join(
            f"<h3>{escape(KINDS[kind])}</h3>{_differences(differences)}"
            for kind, differences in result.examples.items()
            if differences
        )
        or "<p>Nothing differs.</p>",
    )


def _headline(result: Result) -> list[tuple[str, str]]:
    confusion = result.confusion
    return [
        ("decided", f"{result.decided:,}"),
        ("fraud", share(result.decisions["fraud"] / result.decided if result.decided else None)),
        ("precision", share(confusion.precision)),
        ("recall", share(confusion.recall)),
        ("decided otherwise", f"{result.flips:,}"),
        ("µs a decision", micros(result.cost.microseconds)),
    ]


def _tile(headline: tuple[str, str]) -> str:
    name, value = headline
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _confusion(result: Result) -> str:
    if not result.confusion:
        return "<p>Compared with nothing.</p>"
    rows = [
        [f"reference {reference}"]
        + [f"{result.confusion[reference, decision]:,}" for decision in ("fraud", "legit")]
        for reference in ("fraud", "legit")
    ]
    return _table(["", "decided fraud", "decided legit"], rows)


def _rules(result: Result) -> str:
    rows = [
        [
            f"{rule.id} (shadow)" if rule.shadow else rule.id,
            rule.kind,
            f"{rule.hits:,}",
            f"{rule.hits_on_fraud:,}",
            f"{result.failures[rule.id]:,}",
            micros(rule.cost.microseconds),
        ]
        for rule in result.rule_results.values()
    ]
    return _table(["rule", "kind", "hits", "on fraud", "no answer", "µs a check"], rows)


def _differences(differences: list[Difference]) -> str:
    rows = [
        [
            each.transaction_id,
            f"{each.source} → {each.target}",
            f"{each.amount} {each.currency}",
            _moment(each.received_at),
            score(each),
            "\n".join(told(each.decided.reasons)) or "-",
            "\n".join(told(each.reference.reasons)) if each.reference else "-",
        ]
        for each in differences
    ]
    head = ["transaction", "accounts", "amount", "received", "score", "why now", "why before"]
    return _table(head, rows)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")


def _table(head: list[str] | None, rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head or ())
    body = "".join(
        "<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table>{top and f"<tr>{top}</tr>"}{body}</table></div>'


def _lines(cell: str) -> str:
    return escape(cell).replace("\n", "<br>")
