"""Moments as options give them: RFC 3339, Unix time in milliseconds, or a word for no limit."""

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator

from wire.messages import LATEST_MS


def _or(word: str) -> BeforeValidator:
    def read(value: object) -> int | None:
        if value is None or value == word:
            return None
        text = str(value)
        if text.isascii() and text.isdigit():
            if int(text) > LATEST_MS:
                raise ValueError("a time is not beyond the year 9999")
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ValueError(f"expected RFC 3339 with offset, Unix time in milliseconds, or {word}")
        return int(moment.timestamp() * 1000)

    return BeforeValidator(read)


Since = Annotated[int | None, _or("earliest")]
"""From when on, in milliseconds since the Unix epoch; None: from the beginning."""
Until = Annotated[int | None, _or("latest")]
"""Up to when; None: to the end."""
