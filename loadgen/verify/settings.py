"""What an audit of the log needs to know."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field

from loadgen.payments import Expectation
from loadgen.settings import EXPECT_DESCRIPTION
from wire.moments import Since
from wire.options import Option
from wire.settings import KafkaSettings

MAX_DUPLICATES_S: Final = 31 * 24 * 3600.0


class VerifySettings(KafkaSettings):
    """Which stretch of the log to audit, and what to expect of it."""

    verify_since: Annotated[Since, Option("--since")] = Field(
        None, description="audit from this time on: RFC 3339, Unix ms, or earliest"
    )
    verify_duration: Annotated[float, Option("--duration")] = Field(
        0.0,
        ge=0,
        description="seconds to watch what comes, before judging; 0: judge what is there now",
    )
    verify_settle: Annotated[float, Option("--settle")] = Field(
        10.0,
        ge=0,
        le=3600,
        description="seconds that verdicts may take; then they are lost",
    )
    verify_expect: Annotated[Expectation, Option("--expect")] = Field(
        Decimal(900), description=EXPECT_DESCRIPTION
    )
    verify_duplicates: Annotated[float, Option("--duplicates")] = Field(
        600.0,
        gt=0,
        le=MAX_DUPLICATES_S,
        description="seconds within which the same id from the same source is one transaction, as "
        "`duplicates` in the detector's rules has it; later it is one of its own",
    )
    verify_window: Annotated[int, Option("--window")] = Field(
        1_000_000,
        ge=1_000,
        le=10_000_000,
        description="transactions that are remembered, to match them and to know repeats; about "
        "300 bytes each",
    )
    verify_json: Annotated[bool, Option("--json")] = Field(
        False, description="print the findings as one JSON object"
    )
