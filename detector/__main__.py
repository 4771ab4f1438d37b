"""`python -m detector`: run one detector process."""

from detector.settings import DetectorSettings
from wire.options import main


def detector(settings: DetectorSettings) -> int:
    """Run a detector: decide on each transaction, exactly once."""
    from detector.service import serve  # noqa: PLC0415 - `--help` need not load Kafka

    return serve(settings)


if __name__ == "__main__":
    main(DetectorSettings, detector)
