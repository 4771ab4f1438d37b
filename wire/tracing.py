"""Tracing: whether it is on, and the W3C trace context in Kafka's record headers.

Nothing of OpenTelemetry is loaded here: where no collector is set, none of it ever is. What makes
spans is in wire/spans.py, which a part loads when `start` finds that it traces.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from wire.settings import TracingSettings

if TYPE_CHECKING:
    from wire.spans import Tracing

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
Headers = Sequence[tuple[str, bytes]]
"""Headers of a Kafka record."""

_NONE: Final[Mapping[str, str]] = {}
_LENGTH: Final = 55
"""Characters of a traceparent: 00-TRACE-SPAN-FLAGS (W3C Trace Context, section 3.2)."""
_SAMPLED: Final = 1

_ids: Callable[[], Mapping[str, str]] = lambda: _NONE  # noqa: E731 - replaced by `start`


def start(settings: TracingSettings, part: str) -> "Tracing | None":
    """Begin to trace this process, if a collector is set; None if not.

    Args:
        settings: where traces go, and which requests are traced.
        part: what the process is: its service.name is fraudstream-PART unless that is set.
    """
    global _ids  # noqa: PLW0603 - logs are of the whole process, and so is this
    if settings.traces_url is None:
        return None
    from wire.spans import Tracing, current_ids  # noqa: PLC0415 - loaded by those who trace

    _ids = current_ids
    return Tracing(settings, part)


def add_ids(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add trace_id and span_id to a log line that is written within a span (structlog)."""
    event.update(_ids())
    return event


def is_sampled(traceparent: bytes) -> bool:
    """Tell whether a traceparent says that its trace is recorded."""
    if len(traceparent) != _LENGTH:
        return False
    try:
        return bool(int(traceparent[-2:], 16) & _SAMPLED)
    except ValueError:
        return False


def sampled(headers: Headers) -> bytes | None:
    """Give a record's traceparent if its trace is recorded; None if there is nothing to do."""
    for name, value in headers:
        if name == TRACEPARENT and value and is_sampled(value):
            return value
    return None
