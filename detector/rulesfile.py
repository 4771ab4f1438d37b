"""Rules files: TOML in, a checked RuleSet out; and noticing that a file has changed."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detector import toml
from detector.errors import RulesError
from detector.rules import KINDS, AnyRule, RuleSet
from detector.rules.rule import Duration
from wire.audit import Audit, Event

log = structlog.get_logger(__name__)
DEFAULT_NAME: Final = "default_rules.toml"
MAX_RULES: Final = 200
MAX_FILE_BYTES: Final = 4_194_304
"""Largest rules file read; lists of accounts may be long."""
MAX_COMPLAINTS: Final = 5
VERSION_DIGITS: Final = 12
_IN_TOML: Final = dict.fromkeys(("frozen_set_type", "tuple_type"), "expected a list")
"""What is told in Python's words otherwise."""


class _RulesFile(BaseModel):
    """The document as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: int = Field(100, ge=1, le=100)
    duplicates: Duration = 600_000
    rules: tuple[AnyRule, ...] = Field((), max_length=MAX_RULES)


def load(path: Path | None) -> RuleSet:
    """Read a rules file; None: the one that comes with the detector.

    Raises:
        RulesError: it can't be read or used; one line that names file, rule and field.
    """
    name, content = _read(path)
    return parse(content, name)


def parse(content: bytes, name: str) -> RuleSet:
    """Make a rule set of a file's content; `name` stands in errors.

    Raises:
        RulesError: as for `load`.
    """
    document = toml.parse(content, name)
    if not document:  # cut off, as by a full disk; to have no rules is said by `rules = []`
        raise RulesError(f"{name}: says nothing")
    try:
        file = _RulesFile.model_validate(document)
    except ValidationError as error:
        complaints = [_complaint(each, document) for each in error.errors()[:MAX_COMPLAINTS]]
        if (others := error.error_count() - MAX_COMPLAINTS) > 0:
            complaints.append(f"and {others} more")
        raise RulesError(_one_line(f"{name}: {'; '.join(complaints)}")) from None
    ids = [rule.id for rule in file.rules]
    for repeated in sorted({each for each in ids if ids.count(each) > 1}):
        raise RulesError(f"{name}: rule {repeated}: id: used by more than one rule")
    return RuleSet(_version(file), file.threshold, file.duplicates, file.rules)


class RulesSource:
    """A rules file that may change while the detector runs."""

    def __init__(self, path: Path | None, audit: Audit | None = None) -> None:
        """Read the file for the first time.

        Raises:
            RulesError: as for `load`.
        """
        self._path = path
        self._audit = audit or Audit("detector")
        self._stamp = self._seen = self._stat()
        """Of the file that was read last, and of the one that was there at the last look."""
        self.rules = load(path)

    def begin(self) -> None:
        """Record the rules that are decided by from now on."""
        self._record(Event.RULES_LOADED, rules_version=self.rules.version)

    def poll(self, *, force: bool = False) -> RuleSet | None:
        """Give the new rules if the file has changed and is good, else None.

        A changed file is read when it has stayed as it is from one call to the next: one that is
        being written has some of its rules, or none, and may be no less right. One that can't be
        used is logged once, and the rules stay. `force` reads the file as it is now.
        """
        before, self._seen = self._seen, self._stat()
        if not force and (self._seen == self._stamp or self._seen != before):
            return None
        self._stamp = self._seen
        try:
            rules = load(self._path)
        except RulesError as error:
            log.warning("rules kept", error=str(error), rules_version=self.rules.version)
            self._record(Event.RULES_REFUSED, rules_version=self.rules.version)
            return None
        if rules.version == self.rules.version:
            log.info("rules are the same", rules_version=rules.version)
            return None
        versions = {"rules_version": rules.version, "before": self.rules.version}
        log.info("rules changed", **versions)
        self._record(Event.RULES_CHANGED, **versions)
        self.rules = rules
        return rules

    def _record(self, event: Event, **versions: str) -> None:
        self._audit.record(event, file=str(self._path or DEFAULT_NAME), **versions)

    def _stat(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path | None) -> tuple[str, bytes]:
    if path is None:
        return DEFAULT_NAME, resources.files("detector").joinpath(DEFAULT_NAME).read_bytes()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RulesError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise RulesError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    return str(path), content


def _version(file: _RulesFile) -> str:
    content = file.model_dump(mode="json")
    for rule in content["rules"]:
        del rule["description"]
    canonical = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:VERSION_DIGITS]


def _complaint(error: Any, document: dict[str, Any]) -> str:
    """Say what is wrong, and where, as whoever wrote the file knows it."""
    message = _IN_TOML.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    match error["loc"]:
        case ["rules", int(index)]:  # which kind it is can't be told
            return f"{_rule_name(document, index)}: kind: expected one of {', '.join(KINDS)}"
        case ["rules", int(index), _kind, *path]:
            place = [_rule_name(document, index)]
        case path:
            place = []
    field = ".".join(map(str, path))
    return ": ".join([*place, *([field] if field else []), message])


def _rule_name(document: dict[str, Any], index: int) -> str:
    rule = document["rules"][index]
    known = isinstance(rule, dict) and isinstance(rule.get("id"), str)
    return f"rule {rule['id']}" if known else f"rule number {index + 1}"


def _one_line(text: str) -> str:
    """Write out what would move a terminal's cursor: names in a file can be anything."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])
