"""`fraudstream keys`: API keys made, listed and revoked in the file that gateways read."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from pydantic import Field

from api.access import keyfile
from api.access.keyfile import StoredKey
from api.access.scopes import SCOPES
from api.errors import KeyFileError
from wire.audit import ORDINARY, AuditSettings, Event, opened
from wire.options import Option, guarded
from wire.settings import load

app = typer.Typer(
    help="Make, list and revoke the API keys of gateways.",
    no_args_is_help=True,
    add_completion=False,
)

DEFAULT_FILE: Final = Path("api-keys.json")
_SPAN: Final = re.compile(r"([1-9]\d{0,4})([mhdw])", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class KeysSettings(AuditSettings):
    """Which file the keys are in."""

    api_keys_file: Annotated[Path, Option("--keys-file")] = Field(
        DEFAULT_FILE, description="file of API keys"
    )


File = Annotated[
    str | None,
    typer.Option(
        "--keys-file",
        envvar="API_KEYS_FILE",
        help="the file that gateways read",
        show_default=str(DEFAULT_FILE),
    ),
]


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="whose key it is, for people")],
    scopes: Annotated[str, typer.Option(help="what it allows: " + ", ".join(sorted(SCOPES)))],
    expires_in: Annotated[
        str | None,
        typer.Option(help="how long it counts: 30m, 12h, 90d, 4w", show_default="for good"),
    ] = None,
    keys_file: File = None,
) -> None:
    """Make a key, and print it: it is shown this once, and kept nowhere."""

    def run() -> None:
        now = keyfile.utc_now()
        ends = None if expires_in is None else now + span(expires_in)
        wanted = [each for each in scopes.replace(",", " ").split() if each]
        text, key = keyfile.make(name, wanted, ends, now)
        settings = _settings(keys_file)
        with keyfile.changing(settings.api_keys_file) as stored:
            stored.append(key)
        _record(settings, Event.KEY_CREATED, key)
        typer.echo(text)

    raise typer.Exit(guarded(run))


@app.command("list")
def list_(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a line")] = False,
    keys_file: File = None,
) -> None:
    """List the keys: what each allows, and until when."""

    def run() -> None:
        stored = keyfile.read(_settings(keys_file).api_keys_file)
        if as_json:
            for key in stored:
                typer.echo(msgspec.json.encode(_shown(key)))
            return
        from rich.console import Console  # noqa: PLC0415 - `--help` need not load it
        from rich.table import Table  # noqa: PLC0415

        table = Table("ID", "NAME", "SCOPES", "MADE", "STATE", box=None, pad_edge=False)
        for key in stored:
            shown = _shown(key)
            table.add_row(
                key.id, key.name, " ".join(key.scopes), f"{key.created_at:%Y-%m-%d}", shown["state"]
            )
        Console(markup=False, highlight=False, soft_wrap=True).print(table)

    raise typer.Exit(guarded(run))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="the key's id")],
    *,
    keys_file: File = None,
) -> None:
    """Revoke a key: gateways refuse it once they look at the file again."""

    def run() -> None:
        settings = _settings(keys_file)
        with keyfile.changing(settings.api_keys_file) as stored:
            place = next((i for i, key in enumerate(stored) if key.id == key_id), None)
            if place is None:
                raise KeyFileError(f"there is no key {key_id!r}")
            key = stored[place]
            if key.revoked_at is None:
                stored[place] = msgspec.structs.replace(key, revoked_at=keyfile.utc_now())
        _record(settings, Event.KEY_REVOKED, key)
        typer.echo(f"revoked {key.id} ({key.name})")

    raise typer.Exit(guarded(run))


def span(text: str) -> timedelta:
    """Read a span of time such as 90d.

    Raises:
        KeyFileError: it is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise KeyFileError(f"{text!r} is no span of time: 30m, 12h, 90d and 4w are")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _settings(file: str | None) -> KeysSettings:
    return load(KeysSettings, **({"api_keys_file": file} if file else {}))


def _record(settings: KeysSettings, event: Event, key: StoredKey) -> None:
    """Record a change of the keys, where there is an audit log: a command has no other."""
    if settings.audit_log != ORDINARY:
        audit = opened(settings, "keys")
        audit.record(event, key=key.id, name=key.name, scopes=list(key.scopes))
        audit.close()


def _shown(key: StoredKey) -> dict[str, str]:
    shown: dict[str, str] = msgspec.to_builtins(key) | {"state": _state(key)}
    del shown["sha256"]
    return shown


def _state(key: StoredKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "counts"
    is_over = key.expires_at <= keyfile.utc_now()
    return f"{'expired' if is_over else 'until'} {key.expires_at:%Y-%m-%d %H:%M}"
