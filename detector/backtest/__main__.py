"""`python -m detector.backtest`: judge past transactions by a rules file."""

from detector.backtest.settings import BacktestSettings
from wire import logs
from wire.options import main


def backtest(settings: BacktestSettings) -> int:
    """Judge past transactions by a rules file: what differs, and why. Writes nothing."""
    from detector.backtest.command import run  # noqa: PLC0415 - `--help` need not load Kafka

    logs.configure(settings, "backtest")
    return run(settings)


if __name__ == "__main__":
    main(BacktestSettings, backtest)
