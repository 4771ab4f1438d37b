"""The layers: the parts never import each other."""

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_the_parts_know_only_wire() -> None:
    """api, detector and loadgen import wire alone; wire imports none; compose may import all."""
    assert lint_imports(cache_dir=None) == EXIT_STATUS_SUCCESS
