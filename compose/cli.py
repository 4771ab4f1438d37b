"""The `fraudstream` command: each subcommand reads its settings and runs one thing."""

import asyncio
from collections.abc import Callable

import typer

from api.__main__ import api
from api.settings import ApiSettings
from compose import keys
from compose.settings import BrokerSettings, TailSettings, UpSettings
from detector.__main__ import detector
from detector.backtest.__main__ import backtest
from detector.backtest.settings import BacktestSettings
from detector.settings import DetectorSettings
from loadgen.__main__ import loadgen, verify
from loadgen.settings import LoadgenSettings
from loadgen.verify.settings import VerifySettings
from wire import logs, outputs
from wire.options import command, end_at_once, print_whatever_comes
from wire.settings import TopicSettings

# Each subcommand imports what it runs only when it runs: `--help` and the other subcommands
# need not wait for it.
app = typer.Typer(
    help="A streaming fraud gateway: HTTP in, Kafka, exactly-once verdicts, events out.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut off names of options and variables
)
tail = typer.Typer(help="Print verdicts as they come, straight from Kafka.", no_args_is_help=True)


def up(settings: UpSettings) -> int:
    """Run everything on this machine: Kafka, gateway, detectors, load."""
    from compose.up import run  # noqa: PLC0415

    return run(settings)


def broker(settings: BrokerSettings) -> int:
    """Run the embedded Kafka alone."""
    from compose.embedded import run  # noqa: PLC0415

    return run(settings)


def topics(settings: TopicSettings) -> int:
    """Make the topics that are missing, as soon as Kafka is up."""
    from wire.topics import ensure  # noqa: PLC0415

    logs.configure(settings, "topics")
    for name, partitions in asyncio.run(ensure(settings)).items():
        typer.echo(f"{name}: {partitions} partitions")
    return 0


def _tail(stream: str) -> Callable[[TailSettings], int]:
    def follow(settings: TailSettings) -> int:
        from compose.tail import run  # noqa: PLC0415

        logs.configure(settings, "tail")
        return run(stream, settings)

    follow.__doc__ = f"Print the {stream} verdicts." if stream != "all" else "Print all verdicts."
    return follow


app.command("up")(command(UpSettings, up))
app.command("api")(command(ApiSettings, api))
app.command("detector")(command(DetectorSettings, detector))
app.command("loadgen")(command(LoadgenSettings, loadgen))
app.command("verify")(command(VerifySettings, verify))
app.command("backtest")(command(BacktestSettings, backtest))
app.command("broker")(command(BrokerSettings, broker))
app.command("topics")(command(TopicSettings, topics))
app.add_typer(keys.app, name="keys")
app.add_typer(tail, name="tail")
for name in ("fraud", "legit", "all"):
    tail.command(name)(command(TailSettings, _tail(name)))


def main() -> None:
    """Run the command."""
    outputs.open_all()
    print_whatever_comes()
    end_at_once()
    app()
