"""Matching verdicts with what was sent: what is lost, doubled, wrong; within bounded memory."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from loadgen.ledger import Ledger
from loadgen.measure import Tally
from loadgen.payments import Expectation

WINDOW = 8


def ledger(expect: Expectation = Decimal(900)) -> tuple[Ledger, Tally]:
    """A small ledger and what it counts into."""
    tally = Tally()
    return Ledger(tally, window=WINDOW, expect=expect), tally


def send(book: Ledger, number: int, amount: str = "10", *, accepted: bool = True) -> None:
    """Enter a transaction, and that it was accepted."""
    book.sent(number, since=float(number), amount=Decimal(amount), label="ordinary")
    if accepted:
        book.accepted(number)


def test_a_verdict_settles_what_was_accepted() -> None:
    """One sent, accepted and decided: nothing is pending, nothing is wrong."""
    book, tally = ledger()
    send(book, 1)
    assert book.pending == 1
    book.decided(1, fraud=False, at=1.5)
    book.close()
    assert (book.pending, tally.verdicts, tally.lost, tally.duplicate) == (0, 1, 0, 0)
    assert tally.verdict_latency.longest == 500.0


def test_a_verdict_may_come_before_the_acknowledgement() -> None:
    """The stream can be faster than the answer to the POST."""
    book, tally = ledger()
    send(book, 1, accepted=False)
    book.decided(1, fraud=False, at=1.1)
    book.accepted(1)
    book.close()
    assert (book.pending, tally.lost, tally.unaccepted) == (0, 0, 0)


def test_what_stays_without_a_verdict_is_lost() -> None:
    """Only what was accepted is owed one."""
    book, tally = ledger()
    send(book, 1)
    send(book, 2, accepted=False)
    book.close()
    assert tally.lost == 1


def test_a_second_verdict_is_a_duplicate() -> None:
    """It is counted, and timed only once."""
    book, tally = ledger()
    send(book, 1)
    for _ in range(3):
        book.decided(1, fraud=False, at=2.0)
    assert (tally.verdicts, tally.duplicate, tally.verdict_latency.count) == (1, 2, 1)


def test_the_limit_itself_is_legit() -> None:
    """900.00 is expected legit, 900.01 fraud; the other way round is misclassified."""
    book, tally = ledger()
    send(book, 1, "900.00")
    send(book, 2, "900.01")
    book.decided(1, fraud=False, at=3.0)
    book.decided(2, fraud=True, at=3.0)
    assert (tally.misclassified, tally.fraud) == (0, 1)
    send(book, 3, "900.00")
    send(book, 4, "900.01")
    book.decided(3, fraud=True, at=3.0)
    book.decided(4, fraud=False, at=3.0)
    assert tally.misclassified == 2


def test_without_an_expectation_nothing_is_misclassified() -> None:
    """Other rules may say what they like."""
    book, tally = ledger("unknown")
    send(book, 1, "10")
    book.decided(1, fraud=True, at=2.0)
    assert (tally.misclassified, tally.fraud, tally.caught["ordinary"]) == (0, 1, 1)


def test_what_leaves_the_window_undecided_is_lost() -> None:
    """And its verdict, should it still come, is told apart."""
    book, tally = ledger()
    for number in range(1, WINDOW + 2):
        send(book, number)
    assert (tally.lost, book.pending) == (1, WINDOW)
    book.decided(1, fraud=False, at=20.0)
    assert (tally.forgotten, tally.verdicts) == (1, 0)


def test_what_is_accepted_when_it_has_left_the_window_is_told_apart() -> None:
    """A slow answer, or a small window: that none is lost would be a guess."""
    book, tally = ledger()
    for number in range(1, WINDOW + 2):
        send(book, number, accepted=number > 1)
    book.accepted(1)
    for number in range(2, WINDOW + 2):
        book.decided(number, fraud=False, at=20.0)
    book.close()
    assert (tally.forgotten, tally.lost, tally.verdicts) == (1, 0, WINDOW)


def test_a_verdict_on_what_got_no_answer_is_no_fault() -> None:
    """The 202 may be lost on the way while the transaction is in Kafka."""
    book, tally = ledger()
    send(book, 1, accepted=False)
    book.decided(1, fraud=False, at=2.0)
    book.close()
    assert (tally.unaccepted, tally.lost, tally.duplicate) == (1, 0, 0)


def test_a_number_that_was_never_sent_is_told_apart() -> None:
    """It does not touch what was sent."""
    book, tally = ledger()
    send(book, 1)
    book.decided(7, fraud=False, at=2.0)
    assert (tally.forgotten, tally.verdicts, book.pending) == (1, 0, 1)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=80))
def test_nothing_is_counted_twice(steps: list[tuple[int, bool]]) -> None:
    """Whatever order verdicts come in: accepted = decided + lost, once all is over."""
    book, tally = ledger()
    last = 0
    for number, decide in steps:
        if decide:
            book.decided(number, fraud=False, at=1e6)
        else:
            last += 1
            send(book, last)
    book.close()
    assert tally.verdicts + tally.lost == last
