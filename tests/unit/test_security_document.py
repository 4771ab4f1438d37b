"""SECURITY.md is true: each threat names a test, and each test it names is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = ("Spoofing", "Tampering", "Repudiation", "Information", "Denial", "Elevation")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "SECURITY.md").read_text().splitlines()
    if line.startswith("| ") and "---" not in line
][1:]
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])})


def test_every_sort_of_threat_is_there() -> None:
    """STRIDE, in this order."""
    first = [row[0].replace("*", "") for row in ROWS if row[0]]
    assert [name.split()[0] for name in first] == list(SECTIONS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1] or row[3])
def test_every_threat_names_a_test(row: list[str]) -> None:
    """And says where it is closed; a row without a threat has another test for the one above."""
    assert len(row) == 4
    assert re.fullmatch(r"`[^`]+`", row[3])
    assert bool(row[1]) == bool(row[2])


@pytest.mark.parametrize("name", NAMED)
def test_every_named_test_is_there(name: str) -> None:
    """As a file with tests, or as one test of it."""
    path, _, test = name.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tests = {node.name for node in tree.body if isinstance(node, kinds)}
    assert test in tests if test else any(each.startswith("test_") for each in tests)
