"""Rules files: what they may say, what is said of a bad one, and what happens when one changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import detector
from detector import rulesfile
from detector.errors import RulesError
from detector.rules import KINDS
from wire.audit import Audit

EXAMPLE = Path(detector.__file__).parent / "example_rules.toml"
VALID = '[[rules]]\nid = "big"\nkind = "amount_limit"\nlimit = 900\n'


def test_the_default_is_the_amount_limit():
    """Without a file, more than 900 is fraud and ids are remembered for ten minutes."""
    rules = rulesfile.load(None)
    kinds = [(rule.id, rule.kind, str(rule.limit)) for rule in rules.rules]
    assert kinds == [("amount-limit", "amount_limit", "900")]
    assert (rules.threshold, rules.duplicates_ms) == (100, 600_000)
    assert not rules.needs_windows


def test_the_example_has_every_kind():
    """The example file is right, and complete."""
    rules = rulesfile.load(EXAMPLE)
    assert set(KINDS) == {rule.kind for rule in rules.rules}
    assert rules.needs_windows


def test_the_horizon_is_the_longest_window_and_the_duplicates():
    """What counts in the longest window hangs on the duplicates before it."""
    assert rulesfile.load(EXAMPLE).horizon_ms == (60 + 10) * 60_000
    assert rulesfile.load(None).horizon_ms == 10 * 60_000


def rule(kind, *lines):
    return "\n".join(["[[rules]]", 'id = "r"', f'kind = "{kind}"', *lines])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "says nothing"),
        ("# rules = []", "says nothing"),
        ("threshold = ", "not TOML: Invalid value (at end of document)"),
        ("threshold = 0", "threshold: Input should be greater than or equal to 1"),
        ('duplicates = "soon"', 'duplicates: expected a duration like "90s", "10m", "24h" or "7d"'),
        ('duplicates = "0s"', "duplicates: Input should be greater than 0"),
        ("treshold = 5", "treshold: Extra inputs are not permitted"),
        ("a = " + "[" * 100_000, "not TOML: nested too deep"),
        (".".join("a" * 9) + " = 1", "a key of more than 8 parts"),
        ("[" + " . ".join(["'a'", '"b.c"', *"defghij"]) + "]", "a key of more than 8 parts"),
        ("threshold = 0b1" + "0" * 1_000_000, "a key or number of more than 100 characters"),
        ('"\\u001B[2J" = 1', "\\x1b[2J: Extra inputs are not permitted"),
        (
            '[[rules]]\nid = "r\\n"\nkind = "x"',
            f"rule r\\n: kind: expected one of {', '.join(KINDS)}",
        ),
        ("threshold = 1e999999999", "threshold: Input should be a finite number"),
        (
            rule("velocity", 'within = "1s"', "limit = 1e9999"),
            "rule r: limit: Input should be a finite number",
        ),
        (
            rule("amount_limit", "limit = 1e99999999999999999999"),
            "rule r: limit: Input should be a finite number",
        ),
        (rule("amount_limit"), "rule r: limit: Field required"),
        (rule("amount_limit", "limit = -1"), "rule r: limit: Input should be greater than 0"),
        (
            rule("amount_limit", "limit = true"),
            "rule r: limit: expected an amount like 900 or 900.50",
        ),
        (
            rule("amount_limit", "limit = 900.00001"),
            "rule r: limit: Decimal input should have no more than 4 decimal places",
        ),
        (
            rule("amount_limit", "limit = 1", "weight = 101"),
            "rule r: weight: Input should be less than or equal to 100",
        ),
        (rule("amount_limit", "limit = 1", "x = 1"), "rule r: x: Extra inputs are not permitted"),
        (
            rule("amount_limit", "limit = 1", 'currency = "euro"'),
            "rule r: currency: String should match pattern '^[A-Z]{3}$'",
        ),
        (rule("magic"), f"rule r: kind: expected one of {', '.join(KINDS)}"),
        ('[[rules]]\nid = "r"', f"rule r: kind: expected one of {', '.join(KINDS)}"),
        (
            '[[rules]]\nkind = "amount_limit"\nlimit = 1',
            "rule number 1: id: Field required",
        ),
        (VALID + VALID, "rule big: id: used by more than one rule"),
        (
            rule("structuring", 'within = "1h"', "count = 2", "least = 9", "most = 9"),
            "rule r: `least` must be less than `most`",
        ),
        (rule("block_list", 'accounts = "a"'), "rule r: accounts: expected a list"),
        (rule("block_list", 'pairs = ["a"]'), "rule r: pairs.0: expected a list"),
        ("[rules]", "rules: expected a list"),
        (rule("block_list"), "rule r: `accounts` or `pairs` must name someone"),
        (
            rule("odd_hours", 'after = "22:00"', 'before = "06:00"', 'zone = "Mars"'),
            'rule r: zone: expected a zone like "Europe/Berlin", "UTC" or "+02:00"',
        ),
        (
            rule("odd_hours", 'after = "24:00"', 'before = "06:00"'),
            'rule r: after: expected a time of day like "22:00"',
        ),
        (
            rule("odd_hours", 'after = "06:00"', 'before = "06:00"'),
            "rule r: `after` and `before` must differ",
        ),
        (
            rule("cel", 'condition = "amuont > 1.0"'),
            "rule r: `condition` names amuont; there are transaction_id, source, target, "
            "amount, currency, occurred_at, received_at, metadata",
        ),
        (rule("cel", 'condition = "amount"'), "rule r: `condition` must be true or false"),
        (rule("cel", 'condition = "amount >"'), "rule r: `condition` is not CEL: "),
        (
            rule("cel", 'condition = "fraudulent(source)"'),
            "rule r: `condition` can't be evaluated: ",
        ),
        (
            rule("cel", 'condition = "occurred_at != null && occurred_at.getNights() > 5"'),
            "rule r: `condition` can't be evaluated: ",
        ),
    ],
)
def test_errors_name_file_rule_and_field(content, complaint):
    """Whoever wrote the file can find the place, on one line."""
    with pytest.raises(RulesError) as caught:
        rulesfile.parse(content.encode(), "my.toml")
    text = str(caught.value)
    assert text.startswith(f"my.toml: {complaint}")
    assert "\n" not in text


def test_every_error_is_told():
    """Two mistakes are told at once."""
    with pytest.raises(RulesError, match=r"limit: Field required; rule r: y: Extra"):
        rulesfile.parse(rule("amount_limit", "y = 1").encode(), "my.toml")
    with pytest.raises(RulesError, match=r"d: Extra inputs are not permitted; and 2 more$"):
        rulesfile.parse(rule("amount_limit", *(f"{name} = 1" for name in "abcdef")).encode(), "f")


@pytest.mark.parametrize("content", [b"\xff", b"x" * (rulesfile.MAX_FILE_BYTES + 1)])
def test_files_that_can_not_be_read(content, tmp_path):
    """Bytes that are no text, and more than a rules file can be, are refused."""
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(RulesError, match=r"rules.toml: (not TOML|larger than)"):
        rulesfile.load(path)


def test_a_missing_file_is_named(tmp_path):
    """The path stands in the error."""
    path = tmp_path / "none.toml"
    with pytest.raises(RulesError, match=r"none.toml: No such file or directory"):
        rulesfile.load(path)


def test_the_version_is_of_the_meaning():
    """Comments, order of keys and descriptions change nothing; a number does."""
    plain = rulesfile.parse(VALID.encode(), "a")
    same = rulesfile.parse(b"# hm\n[[rules]]\nlimit=900\nkind='amount_limit'\nid='big'", "b")
    described = rulesfile.parse((VALID + 'description = "!"').encode(), "c")
    other = rulesfile.parse(VALID.replace("900", "901").encode(), "d")
    assert plain.version == same.version == described.version != other.version


def test_the_version_is_the_same_in_every_process():
    """The order that sets happen to have in one process does not get into the hash."""
    program = (
        "import pathlib, sys; from detector import rulesfile; "
        "print(rulesfile.load(pathlib.Path(sys.argv[1])).version)"
    )
    versions = {
        subprocess.run(
            [sys.executable, "-c", program, EXAMPLE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert versions == {rulesfile.load(EXAMPLE).version + "\n"}


@pytest.mark.parametrize(
    "text", ['"a.b.c.d.e.f.g.h.i.j"', "'a.b.c.d.e.f.g.h.i.j'", '"""\n\\"a.b.c.d.e.f.g.h.i.j"""']
)
def test_texts_are_no_keys(text):
    """However many points, and however long a word, there are in a quoted text or a comment."""
    texts = f"{VALID}description = {text} # {'1.' * 20}{'x' * 200}\n"
    assert (
        rulesfile.parse(texts.encode(), "a").version == rulesfile.parse(VALID.encode(), "b").version
    )


def test_amounts_are_exact():
    """A TOML float is read as the decimal that it shows."""
    rules = rulesfile.parse(VALID.replace("900", "900.10").encode(), "a")
    assert str(rules.rules[0].limit) == "900.10"


def test_a_changed_file_gives_new_rules_once(tmp_path):
    """The second poll after a change gives the rules, and the one after it nothing."""
    path = tmp_path / "rules.toml"
    path.write_text(VALID)
    source = rulesfile.RulesSource(path)
    assert source.poll() is None
    path.write_text(VALID.replace("900", "1000"))
    assert source.poll() is None
    rules = source.poll()
    assert rules == rulesfile.load(path) == source.rules
    assert source.poll() is None


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    """What is there of it may be right, and half of the rules: it is read when it has settled."""
    path = tmp_path / "rules.toml"
    path.write_text(VALID + VALID.replace("big", "bigger"))
    source = rulesfile.RulesSource(path)
    before = source.rules
    with path.open("w") as file, capture_logs() as logs:
        for part in ("", VALID, VALID.replace("big", "larger")):
            file.write(part)
            file.flush()
            assert source.poll() is None
    assert (source.rules, logs) == (before, [])
    assert [rule.id for rule in source.poll().rules] == ["big", "larger"]


def test_a_file_is_followed_through_a_link_that_is_swapped(tmp_path):
    """As Kubernetes does it: the file's directory is a link, and another one takes its place."""
    for name, limit in (("1", "900"), ("2", "1000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.toml").write_text(VALID.replace("900", limit))
    current, following = tmp_path / "..data", tmp_path / "..data_tmp"
    current.symlink_to("1")
    path = tmp_path / "rules.toml"
    path.symlink_to("..data/rules.toml")
    source = rulesfile.RulesSource(path)
    following.symlink_to("2")
    following.rename(current)
    assert [source.poll(), source.poll()] == [None, rulesfile.load(tmp_path / "2/rules.toml")]


def polled(source):
    """Give what comes of a change once it has stayed the same for a while."""
    return source.poll() or source.poll()


def test_a_bad_file_keeps_the_rules_and_says_so_once(tmp_path):
    """Rules stay while a file is bad; each bad content is logged once; a good one is taken."""
    path = tmp_path / "rules.toml"
    path.write_text(VALID)
    source = rulesfile.RulesSource(path)
    before = source.rules
    path.write_text("threshold = 0")
    with capture_logs() as logs:
        assert [polled(source), polled(source)] == [None, None]
        path.unlink()
        assert [polled(source), polled(source)] == [None, None]
    assert source.rules is before
    kept = [entry for entry in logs if entry["event"] == "rules kept"]
    assert ["threshold" in entry["error"] for entry in kept] == [True, False]
    assert [entry["event"] for entry in logs if entry not in kept] == ["rules-refused"] * 2
    path.write_text(VALID.replace("900", "1000"))
    assert polled(source) is not None


def test_what_becomes_of_the_rules_is_recorded(tmp_path):
    """Which rules were loaded, refused and put in force: version and file, not their text."""
    path, recorded = tmp_path / "rules.toml", tmp_path / "audit.log"
    path.write_text(VALID)
    log = Audit("detector", recorded)
    source = rulesfile.RulesSource(path, log)
    source.begin()
    old = source.rules.version
    path.write_text("threshold = 0")
    polled(source)
    path.write_text(VALID.replace("900", "1000"))
    polled(source)
    log.close()
    new = source.rules.version
    lines = [json.loads(line) for line in recorded.read_text().splitlines()]
    for line in lines:
        del line["time"]
    base = {"part": "detector", "file": str(path)}
    assert lines == [
        {"event": "rules-loaded", "rules_version": old, **base},
        {"event": "rules-refused", "rules_version": old, **base},
        {"event": "rules-changed", "rules_version": new, "before": old, **base},
    ]


def test_a_file_is_read_again_when_told(tmp_path):
    """A signal reads a file that looks the same; the same rules are no new ones."""
    path = tmp_path / "rules.toml"
    path.write_text(VALID)
    source = rulesfile.RulesSource(path)
    assert source.poll(force=True) is None
    before = path.stat()
    path.write_text(VALID.replace("900", "901"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert polled(source) is None
    assert source.poll(force=True) is not None
