"""The backtest: what it counts, what it says differs, and what it reads from files."""

import json
import os
import pty
import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from detector import rulesfile
from detector.backtest import html, plots
from detector.backtest.command import find, run
from detector.backtest.files import MAX_LINE_BYTES, read
from detector.backtest.result import Reference, Result
from detector.backtest.settings import BacktestSettings
from detector.backtest.trial import Case
from detector.errors import BacktestError, RulesError
from tests import forked
from tests.rules import STRICTER
from wire.errors import SettingsError
from wire.messages import Transaction
from wire.settings import load

LINES = [
    {"source": "a", "target": "x", "amount": "100", "received_at": 1_000, "fraud": 0},
    {"source": "a", "target": "x", "amount": "600.5", "received_at": 2_000, "fraud": 1},
    {"source": "a", "target": "x", "amount": "700", "received_at": 3_000, "fraud": 0},
    {"source": "b", "target": "x", "amount": "900.01", "received_at": 4_000, "fraud": 1},
    {"source": "b", "target": "x", "amount": "50", "received_at": 5_000, "fraud": 1},
]


@pytest.fixture
def lines(tmp_path):
    """A JSONL file of five labelled transactions."""
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


@pytest.fixture
def stricter(tmp_path):
    """A rules file that calls more than 500 fraud, and counts transactions in shadow."""
    path = tmp_path / "stricter.toml"
    path.write_text(STRICTER)
    return path


def settings(**given):
    return load(BacktestSettings, **{f"backtest_{name}": value for name, value in given.items()})


def test_compared_with_labels(lines, stricter):
    """Confusion, precision and recall say how the rules do against the truth."""
    result = find(settings(input=lines, rules=stricter, label="fraud"))
    expected = {("fraud", "fraud"): 2, ("legit", "fraud"): 1, ("fraud", "legit"): 1}
    expected["legit", "legit"] = 1
    assert expected == result.confusion
    confusion = result.confusion
    assert {confusion.precision, confusion.recall, confusion.f1} == {2 / 3}
    assert (result.decided, result.flips, result.changed) == (5, 2, 0)


def test_compared_with_other_rules(lines, stricter):
    """Each flip has its reasons now and before."""
    result = find(settings(input=lines, rules=stricter, against=rulesfile_default(lines)))
    flipped = [
        (each.transaction_id, each.reference.decision, each.decided.reasons[0].detail)
        for each in result.examples["became fraud"]
    ]
    assert flipped == [
        ("line-2", "legit", "amount 600.5 > 500"),
        ("line-3", "legit", "amount 700 > 500"),
    ]
    assert result.examples["became legit"] == []
    assert result.changed == 1, "the reason of 900.01 is another"


def rulesfile_default(beside):
    path = beside.parent / "default.toml"
    path.write_text('[[rules]]\nid = "amount-limit"\nkind = "amount_limit"\nlimit = 900\n')
    return path


def test_each_rule_has_its_hits_and_cost(lines, stricter):
    """Shadow rules are counted too; each check has a cost."""
    result = find(settings(input=lines, rules=stricter, label="fraud"))
    hits = {rule.id: (rule.hits, rule.hits_on_fraud) for rule in result.rule_results.values()}
    assert hits == {"amount-limit": (3, 2), "velocity": (1, 0)}
    costs = [result.cost, *(rule.cost for rule in result.rule_results.values())]
    assert all(cost.microseconds > 0 for cost in costs)


@pytest.mark.parametrize(
    ("bounds", "decided", "replayed"),
    [
        ({}, 5, 0),
        ({"since": 3_000}, 3, 2),
        ({"since": "3000", "until": 5_000}, 2, 2),
        ({"until": 1_000}, 0, 0),
    ],
)
def test_since_and_until(lines, stricter, bounds, decided, replayed):
    """What is before the range only moves the windows; what is after it is not read."""
    result = find(settings(input=lines, rules=stricter, **bounds))
    assert (result.decided, result.replayed) == (decided, replayed)
    velocity = result.rule_results["velocity"]
    assert velocity.hits == (decided > 0), "the third transaction of a, with two before the range"


def test_duplicates_have_no_decision(tmp_path):
    """As live, the same id again is counted and not decided."""
    path = tmp_path / "log.jsonl"
    line = json.dumps(LINES[0] | {"transaction_id": "1"})
    path.write_text(f"{line}\n\n{line}\n")
    result = find(settings(input=path))
    assert (result.decided, result.duplicates) == (1, 1)
    labelled = find(settings(input=path, label="fraud"))
    assert (labelled.confusion.total(), labelled.extra, labelled.same) == (1, 0, True)


def test_csv_and_jsonl_are_read_alike(tmp_path, lines):
    """A CSV with a header gives the same transactions; columns of no use are left aside."""
    path = tmp_path / "log.csv"
    rows = [",".join([*LINES[0], "note"])]
    rows += [",".join([*map(str, line.values()), "hm"]) for line in LINES]
    path.write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    from_csv = [case for case, _ in read(path, "fraud")]
    from_jsonl = [case for case, _ in read(lines, "fraud")]
    strip = [(case[1:], case.transaction.amount) for case in from_jsonl]
    assert [(case[1:], case.transaction.amount) for case in from_csv] == strip
    assert from_csv[1] == Case(
        Transaction("line-3", "a", "x", Decimal("600.5")), 2_000, Reference("fraud")
    )


def test_numbers_in_json_stay_decimal(tmp_path):
    """An amount written as a number is read digit by digit."""
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"source": "a", "target": "x", "amount": 900.0001, "occurred_at": "2026-01-01T00:00:00Z"}'
    )
    [(case, _)] = read(path, None)
    assert str(case.transaction.amount) == "900.0001"
    assert case.received_ms == datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"source": "a"}', "line 1: Object missing required field `target`"),
        ('{"source": "a", "target": "b", "amount": "1"}', "needs received_at or occurred_at"),
        (
            '{"source": "a", "target": "b", "amount": "1", "received_at": "2026-01-01T00:00:00"}',
            "received_at needs an offset from UTC",
        ),
        ('{"source": "a", "target": "b", "amount": "-1", "received_at": 1}', "line 1: `amount`"),
        ('{"source": "a", "target": "b", "amount": "1", "received_at": 1}', "has no fraud"),
        (
            '{"source": "a", "target": "b", "amount": "1", "received_at": 1, "fraud": "maybe"}',
            "fraud is neither fraud nor legit: 'maybe'",
        ),
        ("[1]", "line 1: expected a JSON object"),
        (
            '{"source": "a", "target": "b", "amount": "1", "received_at": 253402300800000}',
            "line 1: received_at is beyond the year 9999",
        ),
        (
            '{"source": "\\ud800", "target": "b", "amount": "1", "received_at": 1, "fraud": 1}',
            "line 1: 'utf-8' codec can't encode",
        ),
        ("\n \n{", "line 3: can't be read as .jsonl: Expecting property name"),
        ("[" * 100_000, "line 1: can't be read as .jsonl: nested too deep"),
        ("\x00\xff", "line 1: can't be read as .jsonl"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, complaint):
    """A line that can't be used is told, not skipped."""
    path = tmp_path / "log.jsonl"
    path.write_text(line, encoding="latin-1")
    with pytest.raises(BacktestError) as caught:
        find(settings(input=path, label="fraud"))
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_file_without_line_ends_is_not_read_whole(tmp_path, name):
    """A line is bounded, as a record of Kafka is: what is longer is told by its number."""
    path = tmp_path / name
    path.write_bytes(b"\n" + b" " * 4 * MAX_LINE_BYTES)
    with pytest.raises(BacktestError, match=f"{name}: line 2: longer than {MAX_LINE_BYTES} bytes"):
        find(settings(input=path))


def test_a_bad_rules_file_is_told(lines, tmp_path):
    """The rules are checked before anything is read."""
    path = tmp_path / "bad.toml"
    path.write_text("threshold = 0")
    with pytest.raises(RulesError, match=r"bad.toml: threshold"):
        find(settings(input=lines, rules=path))


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00"])
def test_times_need_an_offset(since):
    """A time without an offset from UTC could be any of a day's."""
    with pytest.raises(SettingsError, match=r"BACKTEST_SINCE.*expected RFC 3339 with offset"):
        settings(since=since)


def test_times_are_milliseconds():
    """RFC 3339 is read exactly."""
    assert settings(since="1970-01-01T01:00:00.001+01:00").backtest_since == 1
    assert settings(since="earliest", until="latest").backtest_since is None


def test_a_range_does_not_end_at_the_beginning():
    """Nor was that what it meant: all was judged."""
    with pytest.raises(SettingsError, match=r"BACKTEST_UNTIL='earliest'.*or latest"):
        settings(until="earliest")


def test_times_are_of_the_calendar():
    """Kafka could not be asked for others."""
    with pytest.raises(SettingsError, match=r"BACKTEST_UNTIL.*year 9999"):
        settings(until="253402300800000")


def test_a_range_ends_after_it_begins():
    """The other way round nothing would be judged, and nothing would differ."""
    with pytest.raises(SettingsError, match="BACKTEST_SINCE is not before BACKTEST_UNTIL"):
        settings(since=5, until=5)


@pytest.mark.parametrize(("strict", "code"), [(True, 1), (False, 0)])
def test_strict_tells_a_difference_by_the_exit_code(lines, stricter, capsys, strict, code):
    """A script can ask if anything differs."""
    given = settings(input=lines, rules=stricter, label="fraud", strict=strict, json=True)
    assert run(given) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["confusion"] == {
        "legit_legit": 1,
        "legit_fraud": 1,
        "fraud_legit": 1,
        "fraud_fraud": 2,
    }
    assert [each["transaction_id"] for each in printed["examples"]["became_fraud"]] == ["line-3"]
    assert (printed["compared"], printed["same"]) == (5, False)


@pytest.mark.parametrize(
    ("given", "content"),
    [({"label": "fraud"}, ""), ({}, json.dumps(LINES[0]))],
    ids=["no transaction", "nothing to compare with"],
)
def test_strict_is_not_content_with_nothing(tmp_path, capsys, given, content):
    """Who relies on the exit code would take what was never compared for the same."""
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    with pytest.raises(BacktestError, match="nothing was compared with"):
        run(settings(input=path, strict=True, json=True, **given))
    assert json.loads(capsys.readouterr().out)["same"]


def test_what_has_no_label_is_not_said_to_be_compared(lines, capsys):
    """With nothing else to go by, no difference would look like agreement."""
    run(settings(input=lines))
    assert "│ compared │ 0 │" in " ".join(capsys.readouterr().out.split())


def test_examples_show_the_score_before(lines, stricter, capsys):
    """A reason that stayed as it was does not tell that its weight has changed."""
    lighter = lines.parent / "lighter.toml"
    lighter.write_text(STRICTER.replace("limit = 500", "limit = 500\nweight = 99"))
    given = {"input": lines, "rules": lighter, "against": stricter}
    run(settings(**given, html=lines.parent / "page.html"))
    assert "(was" in capsys.readouterr().out
    assert "99 (was 100)" in (lines.parent / "page.html").read_text()


def test_tables_say_it_all(lines, stricter, capsys):
    """The terminal shows counts, confusion, rules and examples."""
    run(settings(input=lines, rules=stricter, label="fraud"))
    printed = capsys.readouterr().out
    for text in ("decided otherwise", "precision 66.67%", "velocity", "line-5"):
        assert text in printed


@pytest.mark.parametrize("transaction_id", ["[/b]", "[red]x", ":bug:"])
def test_tables_show_ids_as_they_are(tmp_path, stricter, capsys, transaction_id):
    """Senders choose them: what a terminal library takes for markup is none."""
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({**LINES[1], "fraud": 0, "transaction_id": transaction_id}))
    run(settings(input=path, rules=stricter, label="fraud"))
    assert transaction_id in capsys.readouterr().out


class Page(HTMLParser):
    """What a page refers to, and whether its tags match."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        self.text += data


def test_a_terminal_shows_how_far_it_is(lines):
    """The bar is on standard error, and only on a terminal: what is printed stays JSON."""
    leader, follower = pty.openpty()
    ended = forked.run(
        *("detector.backtest", "--input", str(lines), "--json"), env=os.environ, errors=follower
    )
    os.close(follower)
    shown = os.read(leader, 1 << 16)
    os.close(leader)
    assert b"judging" in shown
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["decided"] == len(LINES)


def test_the_page_is_whole_and_needs_nothing_else(lines, stricter, tmp_path):
    """The HTML report is well-formed, refers to nothing outside, and escapes what it shows."""
    path = tmp_path / "report.html"
    lines.write_text(lines.read_text().replace('"b"', '"<b>&"'))
    run(settings(input=lines, rules=stricter, label="fraud", html=path))
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert (page.open, page.links) == ([], [])
    assert "<b>& → x" in page.text
    for text in ("Decisions by time", "Precision and recall by threshold", "amount 700 > 500"):
        assert text in page.text


@pytest.mark.parametrize(
    ("times", "ticks"), [([1], ["0", "1"]), ([1, 1], ["0", "1", "2"]), ([1] * 8, list("02468"))]
)
def test_counts_are_no_shares(times, ticks):
    """A plot of few decisions has whole numbers at its side, and no percentages."""
    result = Result(rulesfile.load(None), "nothing", 10)
    for time_ms in times:
        result.timeline.add(time_ms, "legit")
    assert re.findall(r'text-anchor="end">(\d[\d%]*)<', plots.timeline(result)) == ticks


def test_a_page_of_nothing():
    """An empty range makes a report as well."""
    assert "Nothing differs" in html.page(Result(rulesfile.load(None), "nothing", 10))


def test_a_report_that_can_not_be_written_is_told(lines, tmp_path):
    """The path stands in the error."""
    with pytest.raises(BacktestError, match=r"none/report.html: No such file"):
        run(settings(input=lines, html=tmp_path / "none" / "report.html"))


def test_thresholds_show_what_each_would_make(lines, stricter):
    """The sweep at the threshold in force gives the confusion that is."""
    result = find(settings(input=lines, rules=stricter, label="fraud"))
    sweep = dict(result.thresholds())
    assert sweep[result.rules.threshold] == result.confusion
    assert len(sweep) == 100


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    """On the command line a bad file is told without a traceback."""
    path = tmp_path / "bad.toml"
    path.write_text("threshold = 0")
    ended = forked.run("detector.backtest", "--rules", str(path), env=os.environ)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {path}: threshold: ")
    assert ended.stderr.count("\n") == 1
