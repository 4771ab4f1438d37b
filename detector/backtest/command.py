"""One backtest from settings to report: the progress bar, the tables, JSON, the HTML file."""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from detector import rulesfile
from detector.backtest import files, html, recorded, report
from detector.backtest.recorded import Progress as Told
from detector.backtest.result import Result
from detector.backtest.settings import BacktestSettings
from detector.backtest.trial import Trial
from detector.errors import BacktestError
from detector.rules import RuleSet
from detector.windows import WindowLimits
from wire import outputs

NOTHING: Final = "nothing"
"""What a file is compared with that has no label, unless there are other rules."""


def run(settings: BacktestSettings) -> int:
    """Judge past transactions by a rules file, compare, and say what differs and why.

    Gives 0; with `--strict`, 1 if anything differs.

    Raises:
        RulesError: a rules file can't be used.
        BacktestError: the input can't be read, or the report can't be written; with `--strict`,
            nothing was compared.
        StuckError: Kafka does not answer.
    """
    with ExitStack() as stack:
        result = find(settings, _bar(stack))
    if settings.backtest_html is not None:
        _write(settings.backtest_html, html.page(result))
    if settings.backtest_json:
        outputs.line(report.as_json(result))
    else:
        # Ids and details are others' words: no markup of ours.
        report.show(result, Console(markup=False, emoji=False))
    if not settings.backtest_strict:
        return 0
    if result.same and not result.confusion:
        is_told = result.compared_with != NOTHING
        what = result.compared_with if is_told else "anything: --label or --against says what"
        raise BacktestError(f"nothing was compared with {what}")
    return int(not result.same)


def find(settings: BacktestSettings, progress: Told = lambda _done, _total: None) -> Result:
    """Do the backtest; errors as for `run`."""
    rules = rulesfile.load(settings.backtest_rules)
    path = settings.backtest_against
    against = None if path is None else rulesfile.load(path)
    result = Result(rules, _compared_with(settings, against), settings.backtest_examples)
    if settings.backtest_input is None:
        asyncio.run(recorded.run(settings, result, against, progress))
    else:
        _over_file(settings, settings.backtest_input, result, against, progress)
    return result


def _compared_with(settings: BacktestSettings, against: RuleSet | None) -> str:
    if against is not None:
        return f"the rules of {settings.backtest_against} ({against.version})"
    if settings.backtest_label is not None:
        return f"the label {settings.backtest_label}"
    return NOTHING if settings.backtest_input else "the recorded verdicts"


def _over_file(
    settings: BacktestSettings, path: Path, result: Result, against: RuleSet | None, progress: Told
) -> None:
    trial = Trial(
        result,
        against=against,
        limits=WindowLimits(settings.backtest_window_entries),
        since_ms=settings.backtest_since,
        until_ms=settings.backtest_until,
        expects=False,
    )
    size = path.stat().st_size
    for case, done in files.read(path, settings.backtest_label):
        trial.take(case)
        if trial.over:
            break
        progress(done, size)
    trial.close()


def _bar(stack: ExitStack) -> Told:
    """Open a progress bar on standard error; it shows on a terminal only."""
    bar = stack.enter_context(
        Progress(
            TextColumn("judging"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
    )
    task = bar.add_task("judging", total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BacktestError(f"{path}: {error.strerror}") from None
