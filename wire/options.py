"""Command-line options made from a settings class, so that each setting is described once."""

import atexit
import gc
import inspect
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from wire import outputs
from wire.errors import FraudstreamError
from wire.settings import Settings, load

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Option:
    """Marks a field whose option has a name of its own: `Annotated[int, Option("--tps")]`.

    The environment variable keeps the field's name.
    """

    flag: str


USAGE_ERROR = 2
"""Exit code for bad settings and for a start that cannot be made."""


def command(kind: type[S], run: Callable[[S], int | None]) -> Callable[..., None]:
    """Make a Typer command that reads settings of `kind` and hands them to `run`.

    `run` returns an exit code or None for 0. Errors of ours become one line and exit code 2.
    Secrets get no option: a command line can be read by every user of the machine.
    """

    def invoke(**given: Any) -> None:
        raise typer.Exit(guarded(lambda: run(load(kind, **_present(given)))))

    invoke.__doc__ = run.__doc__
    invoke.__name__ = run.__name__
    parameters = [
        _parameter(name, field) for name, field in kind.model_fields.items() if _offered(field)
    ]
    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    invoke.__annotations__ = {p.name: p.annotation for p in parameters}
    return invoke


def guarded(run: Callable[[], int | None]) -> int:
    """Run, turning errors of ours into one line on standard error and exit code 2."""
    try:
        return run() or 0
    except FraudstreamError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return USAGE_ERROR


def main(kind: type[S], run: Callable[[S], int | None]) -> None:
    """Run one service as a program of its own: `python -m api`, and so on."""
    outputs.open_all()
    print_whatever_comes()
    end_at_once()
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command(kind, run))
    app()


def print_whatever_comes() -> None:
    """Have characters that the terminal's encoding lacks written as escapes, not end the program.

    Paths in the help are the user's, and names of accounts the senders'.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # the other one does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def end_at_once() -> None:
    """Have the end of the process wait for no last look for cyclic garbage, a tenth of a second."""
    atexit.register(gc.freeze)


def _present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in (None, [])}


def _offered(field: FieldInfo) -> bool:
    return SecretStr not in (field.annotation, *get_args(field.annotation))


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = field.annotation is bool
    many = get_origin(field.annotation) is tuple
    marks = (mark.flag for mark in field.metadata if isinstance(mark, Option))
    text = next(marks, "--" + name.replace("_", "-"))
    option = typer.Option(
        *((text, f"--no-{text[2:]}") if flag else (text,)),
        envvar=name.upper(),
        help=field.description,
        show_default=_shown(field.default),
        metavar=None if flag else _metavar(field),
    )
    kind = bool | None if flag else list[str] | None if many else str | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _shown(default: Any) -> str | bool:
    return False if default in (None, (), PydanticUndefined) else str(default)


def _metavar(field: FieldInfo) -> str:
    if any(isinstance(mark, BeforeValidator) for mark in field.metadata):
        return "TEXT"  # which comes to something else
    choices = get_args(field.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "|".join(choices)
    kind: object = next((c for c in choices if c is not type(None)), field.annotation)
    return "N" if kind in (int, float) else "TEXT"
