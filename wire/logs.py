"""Structured logs: one event a line on standard error, text for people, JSON for machines."""

import logging
import os
import sys
from contextvars import ContextVar
from typing import Any, TextIO

import structlog

from wire import outputs, tracing
from wire.repeats import Repeats
from wire.settings import Settings

# Expected retries of a client older than the broker's transaction verification (KIP-890):
# aiokafka logs each as a warning, thousands an hour, and none asks for anything.
_EXPECTED = ("CONCURRENT_TRANSACTIONS", "ConcurrentTransactions", "NotEnoughReplicasError")
# The libraries' debug lines show what goes over their connections: records, passwords, tokens.
_OURS = frozenset({"api", "compose", "detector", "loadgen", "wire"})

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request at hand: it stands in each line logged meanwhile."""


def configure(settings: Settings, part: str) -> None:
    """Set up logging for this process; `part` stands in every line."""
    terminal = sys.stderr.isatty()
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and terminal)
    renderer: Any = (
        # Plain tracebacks: the pretty ones show local variables, and with them payloads.
        structlog.dev.ConsoleRenderer(
            colors=terminal and _takes_colours(), exception_formatter=structlog.dev.plain_traceback
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(part),
        tracing.add_ids,
        _of_request,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # The console renderer formats tracebacks by itself; JSON needs them as text.
    tracebacks: Any = () if as_text else (structlog.processors.format_exc_info,)
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tracebacks,
                renderer,
            ],
        )
    )
    handler.addFilter(_not_expected)
    handler.addFilter(Repeats("aiokafka"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("audit").setLevel(logging.INFO)  # at any level: see wire.audit
    if settings.log_level != "debug":  # what these tell at info is for their own developers
        for library in ("aiokafka", "httpx"):
            logging.getLogger(library).setLevel(logging.WARNING)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Note that nobody reads any more; tell of all else, as logging does."""
        if isinstance(sys.exception(), BrokenPipeError):
            outputs.drop(self.stream)
        else:
            super().handleError(record)


def _takes_colours() -> bool:
    """Tell whether the user wants colours (no-color.org) and the terminal can show them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {"dumb", "unknown"}


def _named(part: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["part"] = part
        return event

    return add


def _of_request(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    if of := request_id.get():
        event["request_id"] = of
    return event


def _not_expected(record: logging.LogRecord) -> bool:
    if record.levelno < logging.INFO and record.name.partition(".")[0] not in _OURS:
        return False
    if not record.name.startswith("aiokafka") or record.levelno > logging.WARNING:
        return True
    message = record.getMessage()
    return not any(word in message for word in _EXPECTED)
