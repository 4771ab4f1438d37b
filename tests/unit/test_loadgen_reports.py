"""The reports: all made from one summary, and each readable by what it is for."""

import json
import os
import re
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from structlog.testing import capture_logs

from loadgen import hdrlog, html, report, summary
from loadgen.errors import ReportError
from loadgen.measure import LONGEST_US, Course, Tally
from loadgen.settings import LoadgenSettings
from wire.messages import encode

SECONDS = 10.0


def counted() -> Tally:
    """What a run might count."""
    tally = Tally(requests=100, due=110, sent=100, accepted=98, late=3, dropped=10)
    tally.errors["503"] += 2
    tally.labels["ordinary"] += 100
    tally.verdicts, tally.fraud, tally.lost = 97, 3, 1
    for each in range(98):
        tally.latency.record(0.001 * (each + 1))
        tally.verdict_latency.record(0.002 * (each + 1))
    return tally


def made(*thresholds: str, verify: bool = True) -> summary.Summary:
    """Sum that run up."""
    settings = LoadgenSettings(
        loadgen_verify=verify, loadgen_threshold=thresholds, loadgen_duration=SECONDS
    )
    return summary.make(settings, counted(), SECONDS)


def test_the_summary_s_rates_and_percentiles() -> None:
    """Sent and due a second, and the histogram's percentiles in ms."""
    found = made()
    assert (found.rate, found.target_rate, found.failed) == (10.0, 11.0, 2)
    assert found.latency_ms["p50"] == pytest.approx(49, abs=0.1)
    assert found.latency_ms["max"] == 98.0


def test_a_lost_verdict_fails_the_run() -> None:
    """With --verify a fault needs no threshold to count."""
    assert not made().ok
    assert made(verify=False).ok


@pytest.mark.parametrize(
    ("threshold", "held"),
    [
        ("p99<100ms", True),
        ("p99<10ms", False),
        ("errors<2.5%", True),
        ("errors<1%", False),
        ("errors==2", True),
        ("late<3%", True),
        ("dropped==0", False),
        ("rate>=10/s", True),
        ("lost==1", True),
        ("verdict_max<0.2s", True),
        ("fraud<4%", True),
    ],
)
def test_a_threshold_is_checked_in_its_unit(threshold: str, held: bool) -> None:
    """Shares in percent, counts as counts, times in ms."""
    assert made(threshold).thresholds[0].held is held


def test_what_got_no_answer_counts_among_the_errors() -> None:
    """A server that stands still to the end of the run has refused nothing."""
    settings = LoadgenSettings(loadgen_threshold="errors<50%", loadgen_duration=SECONDS)
    found = summary.make(settings, Tally(due=100, sent=64, dropped=36, cut_off=64), SECONDS)
    assert [(each.value, each.held) for each in found.thresholds] == [(100.0, False)]


def test_a_file_of_which_nothing_can_be_read_verifies_nothing() -> None:
    """It leaves nothing due, and so nothing that could be lost."""
    settings = LoadgenSettings(loadgen_verify=True)
    found = summary.make(settings, Tally(unreadable=3), SECONDS)
    assert not found.ok
    assert "NOT VERIFIED" in report.text(found)


def test_the_json_is_one_object() -> None:
    """Numbers as numbers; what was not measured is null."""
    found = json.loads(encode(summary.make(LoadgenSettings(), Tally(), 1.0)))
    assert found["latency_ms"]["p99"] is None
    assert found["verification"] is None
    assert found["ok"] is True


def test_the_text_names_what_did_not_hold() -> None:
    """With the value that was measured."""
    said = report.text(made("p99<10ms"))
    assert re.search(r"NOT HELD +p99<10ms +\(9[78]", said)
    assert re.search(r"lost +1\b", said)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, no address, three plots; a run's id can't break out of it."""
    course = Course()
    for second in range(1, 30):
        course.add(counted(), float(second))
    run = made()
    page = html.page(run, course, counted())
    assert "http" not in page.replace(run.target, "")
    assert "<script" not in page
    assert page.count("<svg") == 3
    assert "nan" not in page


def test_the_page_of_a_run_without_an_answer() -> None:
    """Nothing to plot is no error."""
    course = Course()
    course.add(Tally(), 1.0)
    assert "<svg" in html.page(made(), course, Tally())


def test_the_log_is_read_back_by_hdrhistogram(tmp_path: Path) -> None:
    """Each interval and kind, with all it counted."""
    path = tmp_path / "run.hlog"
    with hdrlog.opened(path, 1_780_000_000.0) as log:
        log.add(counted(), begin=0.0, length=1.0)
        log.add(Tally(), begin=1.0, length=1.0)
        log.add(counted(), begin=2.0, length=1.0)
    reader = HistogramLogReader(str(path), HdrHistogram(1, LONGEST_US, 3))
    counts = []
    while (found := reader.get_next_interval_histogram()) is not None:
        counts.append(found.get_total_count())
    reader.close()
    assert counts == [98, 98, 98, 98]


def test_a_log_that_can_t_be_written_says_so(tmp_path: Path) -> None:
    """Before the run, not after it."""
    with (
        pytest.raises(ReportError, match="No such file"),
        hdrlog.opened(tmp_path / "no" / "run.hlog", 0.0),
    ):
        pass


def test_a_log_of_latencies_that_can_t_go_on_ends_no_run(tmp_path: Path) -> None:
    """A full disk, here a pipe whose reader has gone: it is told, and nothing is raised."""
    path = tmp_path / "log"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with capture_logs() as told, hdrlog.opened(path, 0.0) as log:
        os.close(reading)
        for second in range(3):
            log.add(counted(), begin=second, length=1)
    assert [line["event"] for line in told] == ["the log of latencies ends here"]
