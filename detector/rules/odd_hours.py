"""Transactions at hours when the account's owners sleep."""

import re
from collections.abc import Iterable, Sequence
from datetime import time, timedelta, timezone, tzinfo
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, model_validator

from detector.rules.rule import Amount, Check, Finding, NoAnswer, Row, Rule
from detector.windows import Windows
from wire.messages import instant

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_OFFSET: Final = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)")


def _clock(value: object) -> object:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise ValueError('expected a time of day like "22:00"')
    return time.fromisoformat(value)


def _known_zone(name: str) -> str:
    _zone(name)
    return name


def _zone(name: str) -> tzinfo:
    offset = _OFFSET.fullmatch(name)
    if offset:
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-ahead if offset[1] == "-" else ahead)
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a directory of the zone database is an OSError
        raise ValueError('expected a zone like "Europe/Berlin", "UTC" or "+02:00"') from None


Clock = Annotated[time, BeforeValidator(_clock)]


class OddHours(Rule):
    """Hits at or after `after` and before `before`, by the clock of `zone`; may span midnight.

    The time is `occurred_at` if the transaction has it, else its record's timestamp.
    """

    kind: Literal["odd_hours"]
    after: Clock
    before: Clock
    zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """An IANA name, or an offset from UTC."""
    limit: Amount | None = None
    """Only transactions of more than this; None: of any amount."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.after == self.before:
            raise ValueError("`after` and `before` must differ")
        return self

    def check(self, windows: Windows) -> Check:  # noqa: ARG002 - looks at no other transaction
        """Compare the time of day."""
        after, before, limit = self.after, self.before, self.limit
        over_midnight = after > before
        zone_name, zone = self.zone, _zone(self.zone)
        hours = f"between {after:%H:%M} and {before:%H:%M} {self.zone}"

        def odd(rows: Iterable[Row], received_ms: Sequence[int]) -> Iterable[Finding]:
            for position, transaction in rows:
                if limit is not None and transaction.amount <= limit:
                    continue
                moment = transaction.occurred_at or instant(received_ms[position])
                try:
                    clock = moment.astimezone(zone).time()
                except OverflowError:  # by that clock it is the year 0, or 10,000
                    yield position, NoAnswer(f"no time of day: {moment.isoformat()} in {zone_name}")
                    continue
                # Over midnight, the hours are those that are not between `before` and `after`.
                if not before <= clock < after if over_midnight else after <= clock < before:
                    yield position, f"at {clock:%H:%M}, {hours}"

        return odd
