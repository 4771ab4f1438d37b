"""The load generator's settings: every option, bound and default.

A run's exit code: 0 it ran and all that was asked of it held (also when it was stopped early by
SIGINT or SIGTERM: the summary is of what ran), 1 a threshold or the verification failed, 2 bad
settings or nothing to talk to, 130 stopped at once by a second signal.
"""

import math
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    HttpUrl,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import NoDecode

from loadgen import schedule, thresholds
from loadgen.payments import Expectation
from loadgen.thresholds import Threshold
from wire.options import Option
from wire.settings import KafkaSettings

MAX_RATE: Final = 1_000_000
DEFAULT_DURATION_S: Final = 60.0
EXPECT_DESCRIPTION: Final = (
    "amounts above this are expected to be fraud and all others legit; unknown: other rules are "
    "in force, expect nothing"
)


def _thresholds(given: Any) -> Any:
    """Read thresholds given as text: one string (separated by spaces) or several."""
    texts = given.split() if isinstance(given, str) else given
    return tuple(thresholds.parse(text) if isinstance(text, str) else text for text in texts)


def _columns(given: Any) -> Any:
    """Read what columns mean: MEANING=COLUMN, separated by commas."""
    if not isinstance(given, str):
        return given
    pairs = [part.partition("=") for part in given.split(",")]
    if not all(meaning and column for meaning, _, column in pairs):
        raise ValueError("expected MEANING=COLUMN,...")
    return {meaning.strip(): column.strip() for meaning, _, column in pairs}


def _address(text: str) -> str:
    url = HttpUrl(text)
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("expected http[s]://HOST[:PORT][/PATH]; a credential goes by a token")
    return str(url).rstrip("/")


class LoadgenSettings(KafkaSettings):
    """What to drive, how hard, for how long, and what must hold."""

    loadgen_target: Annotated[Literal["http", "kafka"], Option("--target")] = Field(
        "http",
        description="the gateway by HTTP, or the transactions topic directly",
    )
    loadgen_url: Annotated[str, AfterValidator(_address), Option("--url")] = Field(
        "http://127.0.0.1:8000",
        description="the gateway's address",
    )
    loadgen_cafile: Annotated[FilePath | None, Option("--cafile")] = Field(
        None, description="PEM file of authorities to trust for https; else the system's"
    )
    loadgen_insecure: Annotated[bool, Option("--insecure")] = Field(
        False, description="don't check the gateway's certificate: for your own machine only"
    )
    loadgen_token: SecretStr | None = Field(
        None, description="API key or token for the gateway, if it asks for one"
    )
    loadgen_token_file: Annotated[FilePath | None, Option("--token-file")] = Field(
        None, description="file with that API key or token, in place of LOADGEN_TOKEN"
    )
    transactions_per_second: Annotated[float, Option("--tps")] = Field(
        1000,
        gt=0,
        le=MAX_RATE,
        description="transactions due a second, whatever the server does",
    )
    loadgen_duration: Annotated[float | None, Option("--duration")] = Field(
        None,
        ge=0,
        description="seconds to send; 0: until stopped; default: 60, or to the end of a replayed "
        "file",
    )
    loadgen_arrivals: Annotated[str, AfterValidator(schedule.check), Option("--arrivals")] = Field(
        "constant",
        description="constant, poisson, ramp[:FROM-TO], steps[:R1,R2,...] or spike[:PEAK], rates "
        "a second; SHAPE+poisson spaces any shape at random",
    )
    loadgen_connections: Annotated[int, Option("--connections")] = Field(
        64,
        ge=1,
        le=4096,
        description="most requests in flight at once, per process",
    )
    loadgen_batch: Annotated[int, Option("--batch")] = Field(
        1,
        ge=1,
        le=10_000,
        description="transactions a request; more than 1 go as NDJSON",
    )
    loadgen_processes: Annotated[int, Option("--processes")] = Field(
        1,
        ge=1,
        le=64,
        description="processes that share the rate, where one can't hold it",
    )
    loadgen_retry: Annotated[bool, Option("--retry")] = Field(
        False,
        description="send again, with the same id, what was refused for now (429, 503) or got no "
        "answer; retries are counted",
    )
    loadgen_timeout: Annotated[float, Option("--timeout")] = Field(
        10.0,
        gt=0,
        le=300,
        description="seconds to wait for an answer",
    )
    loadgen_wait: Annotated[float, Option("--wait")] = Field(
        60.0,
        ge=0,
        description="seconds to wait for the server to be there before the clock starts",
    )
    loadgen_late_after: Annotated[float, Option("--late-after")] = Field(
        0.05,
        gt=0,
        description="a send this many seconds after its due time counts as late",
    )
    loadgen_drop_after: Annotated[float, Option("--drop-after")] = Field(
        10.0,
        gt=0,
        description="a send that could not begin so many seconds after its due time, all "
        "connections being busy, is dropped and counted",
    )
    loadgen_grace: Annotated[float, Option("--grace")] = Field(
        5.0,
        ge=0,
        description="seconds that requests in flight get to be answered once sending has ended",
    )
    loadgen_seed: Annotated[int, Option("--seed")] = Field(
        1,
        ge=0,
        description="the same seed gives the same accounts, payments and random arrivals",
    )
    loadgen_accounts: Annotated[int, Option("--accounts")] = Field(
        10_000,
        ge=10,
        le=1_000_000,
        description="accounts in the simulated world",
    )
    loadgen_run_id: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$"), Option("--run-id")
    ] = Field(
        default_factory=lambda: f"lg-{secrets.token_hex(4)}",
        description="begins each transaction_id; default: random, so that no run repeats another's",
    )
    loadgen_replay: Annotated[FilePath | None, Option("--replay")] = Field(
        None,
        description="send the transactions in this CSV or JSONL file in place of simulated ones; "
        "the columns of PaySim and Sparkov are known by name",
    )
    loadgen_replay_columns: Annotated[
        dict[str, str] | None, NoDecode, BeforeValidator(_columns), Option("--replay-columns")
    ] = Field(
        None,
        description="which columns of the file mean what, as "
        "source=FROM,target=TO,amount=VALUE[,currency=C][,time=T][,label=IS_FRAUD]",
    )
    loadgen_speed: Annotated[float | None, Option("--speed")] = Field(
        None,
        gt=0,
        description="replay at the file's own pace times this; default: at the set rate",
    )
    loadgen_verify: Annotated[bool, Option("--verify")] = Field(
        False, description="match every accepted transaction with its verdict on the stream"
    )
    loadgen_expect: Annotated[Expectation, Option("--expect")] = Field(
        Decimal(900), description=EXPECT_DESCRIPTION
    )
    loadgen_settle: Annotated[float, Option("--settle")] = Field(
        10.0,
        ge=0,
        le=3600,
        description="seconds that verdicts may still take once sending has ended; then they are "
        "lost",
    )
    loadgen_verify_window: Annotated[int, Option("--verify-window")] = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="transactions that are remembered to match their verdicts, per process; 10 "
        "bytes each",
    )
    loadgen_threshold: Annotated[
        tuple[Threshold, ...], NoDecode, BeforeValidator(_thresholds), Option("--threshold")
    ] = Field(
        (),
        description="what must hold, else exit code 1: 'p99<50ms', 'errors<0.1%', 'lost==0'; "
        "may be given several times (in the variable: separated by spaces)",
    )
    loadgen_json: Annotated[bool, Option("--json")] = Field(
        False,
        description="print the summary as one JSON object and nothing else on standard output",
    )
    loadgen_hdr: Annotated[Path | None, Option("--hdr")] = Field(
        None,
        description="write latencies to this file as an HdrHistogram log, an interval a second",
    )
    loadgen_html: Annotated[Path | None, Option("--html")] = Field(
        None, description="write a report with plots to this file"
    )

    @property
    def authorization(self) -> dict[str, str]:
        """What requests say about who sends them."""
        if self.loadgen_token is not None:
            token = self.loadgen_token.get_secret_value()
        elif self.loadgen_token_file is not None:
            token = self.loadgen_token_file.read_text().strip()
        else:
            return {}
        return {"authorization": f"Bearer {token}"}

    @property
    def seconds(self) -> float:
        """How long to send at most; infinite for until stopped, or to the end of a file."""
        if self.loadgen_duration is None:
            return math.inf if self.loadgen_replay else DEFAULT_DURATION_S
        return self.loadgen_duration or math.inf

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self._check_token()
        schedule.shape(self.loadgen_arrivals, self.transactions_per_second, self.seconds)
        for threshold in self.loadgen_threshold:
            if threshold.metric in thresholds.VERIFIED and not self.loadgen_verify:
                raise ValueError(f"the threshold {threshold.text!r} needs --verify")
        if not self.loadgen_replay and (self.loadgen_speed or self.loadgen_replay_columns):
            raise ValueError("--speed and --replay-columns go with --replay")
        return self

    def _check_token(self) -> None:
        try:
            given = self.authorization.get("authorization", "")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"LOADGEN_TOKEN_FILE can't be read: {type(error).__name__}") from None
        if not given.isascii() or not given.isprintable():
            raise ValueError("a token is one line of ASCII")
