"""What a backtest needs to know: which rules, over which records, compared with what."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, model_validator

from detector.windows import DEFAULT_LIMITS
from wire.moments import Since, Until
from wire.options import Option
from wire.settings import KafkaSettings


class BacktestSettings(KafkaSettings):
    """One backtest; nothing is written to Kafka."""

    log_format: Literal["auto", "json", "text"] = Field(
        "text", description="json, text, or auto: text on a terminal, json elsewhere"
    )

    backtest_rules: Annotated[FilePath | None, Option("--rules")] = Field(
        None, description="TOML file of rules to try; without it, the shipped rule"
    )
    backtest_against: Annotated[FilePath | None, Option("--against")] = Field(
        None, description="compare with these rules, not with the recorded verdicts"
    )
    backtest_label: Annotated[str | None, Option("--label")] = Field(
        None,
        min_length=1,
        description="compare with this column of the file, or this key of the metadata:"
        " fraud or legit, 1 or 0, true or false",
    )
    backtest_input: Annotated[FilePath | None, Option("--input")] = Field(
        None, description="read a .csv or .jsonl file and not the transactions topic"
    )
    backtest_since: Annotated[Since, Option("--since")] = Field(
        None, description="judge from this time on: RFC 3339, Unix ms, or earliest"
    )
    backtest_until: Annotated[Until, Option("--until")] = Field(
        None, description="judge up to this time: RFC 3339, Unix ms, or latest"
    )
    backtest_examples: Annotated[int, Option("--examples")] = Field(
        10, ge=0, le=1_000, description="most examples kept of each kind of difference"
    )
    backtest_strict: Annotated[bool, Option("--strict")] = Field(
        False,
        description="exit with 1 if anything differs from what it is compared with, with 2 if"
        " nothing was compared",
    )
    backtest_json: Annotated[bool, Option("--json")] = Field(
        False, description="print the result as JSON, not as tables"
    )
    backtest_html: Annotated[Path | None, Option("--html")] = Field(
        None, description="write a report with plots to this file"
    )
    backtest_window_entries: Annotated[int, Option("--window-entries")] = Field(
        DEFAULT_LIMITS.entries,
        ge=1,
        description="most entries in each window of a partition; as the detectors have it",
    )
    backtest_deadline_seconds: Annotated[float, Option("--deadline")] = Field(
        30.0, gt=0, le=900, description="longest wait for Kafka in one step, in seconds"
    )

    @model_validator(mode="after")
    def _judges_something(self) -> Self:
        since, until = self.backtest_since, self.backtest_until
        if since is not None and until is not None and since >= until:
            raise ValueError("BACKTEST_SINCE is not before BACKTEST_UNTIL: nothing lies between")
        return self
