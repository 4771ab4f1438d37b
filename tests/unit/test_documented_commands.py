"""The documents' command lines are taken by the command as they stand."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import typer
from typer.testing import CliRunner

from compose import keys
from compose.cli import app
from wire import options, settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ENDS_A_COMMAND = {"|", ">", ";", "&", "&&", "||"}
ASSIGNMENT = re.compile(r"[A-Z_]+=")


class Line(NamedTuple):
    """One command line, and the variables that are set before it."""

    document: str
    text: str
    variables: dict[str, str]

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.document}: {self.text}"


class Read(Exception):  # noqa: N818 - it is no error
    """Its settings were read: it would run now."""


def documented() -> Iterator[Line]:
    """Give what stands in blocks of shell, and between the words if it has options."""
    for document in DOCUMENTS:
        content = document.read_text()
        for block in re.findall(r"```sh\n(.*?)```", content, re.DOTALL):
            variables: dict[str, str] = {}
            for line in block.replace("\\\n", " ").splitlines():
                words = split(line)
                if words[:1] == ["export"]:
                    variables |= dict(word.split("=", 1) for word in words[1:])
                elif "fraudstream" in words:
                    yield Line(document.name, line, variables)
        prose = re.sub(r"```.*?```", "", content, flags=re.DOTALL)
        for line in re.findall(r"`(fraudstream [^`]* --[^`]*)`", prose):
            yield Line(document.name, " ".join(line.split()), {})


def split(line: str) -> list[str]:
    """Split as a shell does, comments left out, up to a pipe or the like."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((at for at, word in enumerate(words) if word in ENDS_A_COMMAND), len(words))
    return words[:end]


LINES = list(documented())


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_documented_command_is_taken(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its options are there, and its settings fit together; it is not run."""
    words = split(line.text)
    at = words.index("fraudstream")
    before, arguments = words[:at], words[at + 1 :]
    assert all(map(ASSIGNMENT.match, before))
    variables = line.variables | dict(word.split("=", 1) for word in before)
    variables = {n: Path(v).name if v.startswith("/") else v for n, v in variables.items()}
    monkeypatch.chdir(tmp_path)
    for word in (*arguments, *variables.values()):  # whichever of them is a file is there
        if "/" not in word:
            Path(word).touch()

    def read(kind: type[settings.Settings], **given: Any) -> NoReturn:
        settings.load(kind, **given)
        raise Read

    monkeypatch.setattr(options, "load", read)
    monkeypatch.setattr(keys, "load", read)
    result = CliRunner().invoke(app, arguments, env=variables)
    if "--help" in arguments:
        assert result.exit_code == 0
    else:
        assert isinstance(result.exception, Read), result.output


def _commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield from (
            _commands(command, *path, name) if hasattr(command, "commands") else [(*path, name)]
        )


@pytest.mark.parametrize("path", [*_commands(typer.main.get_command(app))], ids=" ".join)
def test_the_help_is_whole_in_a_narrow_terminal(path: tuple[str, ...]) -> None:
    """No option and no variable is cut off, nor the line about the command in the list of all."""
    narrow = {"COLUMNS": "80"}
    command: Any = typer.main.get_command(app)
    for word in path:
        command = command.commands[word]
    said = CliRunner().invoke(app, [*path, "--help"], env=narrow).output
    for option in command.params:
        names = {*option.opts, option.envvar} - {None, "key_id"}
        assert names <= set(re.findall(r"[\w-]+", said))
    listed = CliRunner().invoke(app, [*path[:-1], "--help"], env=narrow).output
    assert not re.search(rf"^  {path[-1]} .*\.\.\.$", listed, re.MULTILINE)


def test_the_main_commands_are_documented() -> None:
    """What is looked for is found: each of these has an example."""
    shown = {split(line.text)[split(line.text).index("fraudstream") + 1] for line in LINES}
    assert {"api", "backtest", "detector", "keys", "loadgen", "tail", "topics", "up"} <= shown
