"""Several gateway processes on one socket: whichever is asked, the answer is the same."""

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

import httpx

from api.workers import PROOF
from tests.guarded import SESSION_KEY
from tests.parts import DEADLINE_S, Parts, until
from tests.trust import TRUST

ID = "a/b?c d"


@contextlib.contextmanager
def client(url: str) -> Iterator[httpx.Client]:
    """Give a client of one process."""
    with httpx.Client(base_url=url, timeout=DEADLINE_S, verify=TRUST) as made:
        yield made


def post(at: httpx.Client, transaction_id: str) -> None:
    """Post a transaction that is accepted."""
    body = {"transaction_id": transaction_id, "source": "a", "target": "b", "amount": "900.01"}
    assert at.post("/transactions", json=body).status_code == 202


def look_up(at: httpx.Client, transaction_id: str) -> httpx.Response:
    """Ask for a transaction."""
    return at.get(f"/transactions/{quote(transaction_id, safe='')}")


def test_what_one_process_took_is_pending_at_each(parts: Parts) -> None:
    """Until there is a verdict; then each knows that; and what nobody took is known to nobody."""
    _, own = parts.gateway(workers=2)
    with client(own[0]) as one, client(own[1]) as other:
        post(one, ID)
        asked = [look_up(each, ID) for each in (one, other)]
        unknown = [look_up(each, "never") for each in (one, other)]
        assert [each.status_code for each in asked] == [202, 202]
        assert [each.json() for each in asked] == [{"transaction_id": ID, "status": "pending"}] * 2
        assert [each.headers["retry-after"] for each in asked] == ["1", "1"]
        assert [each.headers["cache-control"] for each in asked] == ["no-store"] * 2
        assert [each.json()["code"] for each in unknown] == ["unknown-transaction"] * 2

        parts.detector()
        for each in (one, other):
            until(lambda at=each: look_up(at, ID).status_code == 200)
            assert look_up(each, ID).json()["verdict"]["decision"] == "fraud"


def test_what_a_dead_process_may_know_is_not_called_unknown(parts: Parts) -> None:
    """Its client is to ask again, for it comes back, or another tells the verdict."""
    _, own = parts.gateway(workers=2)
    with client(own[1]) as other:
        with client(own[0]) as one:
            post(one, ID)
        assert look_up(other, ID).status_code == 202
        parts.running[0].kill()
        parts.running[0].wait()
        answer = look_up(other, ID)
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_what_one_asks_another_counts_once(parts: Parts) -> None:
    """Against the client that it is asked for, where that client asks; nobody else can skip it."""
    limits = {"limit_address_rate": 0.001, "limit_address_burst": 100}
    _, own = parts.gateway(workers=2, api_session_key=SESSION_KEY, **limits)
    with client(own[0]) as one, client(own[1]) as other:
        post(one, ID)
        assert [look_up(other, ID).status_code for _ in range(20)] == [202] * 20
        numbers = other.get("/metrics").text
        assert "fraudstream_api_workers 2.0" in numbers
        left = [left_to(one.get("/docs")), left_to(other.get("/docs"))]
        pretending = [
            left_to(other.get("/worker/transactions/x", headers=headers))
            for headers in ({}, {PROOF: ""}, {PROOF: SESSION_KEY})
        ]
    assert left == [98, 78]
    assert pretending == [77, 76, 75]


def test_what_one_asks_another_takes_no_client_s_connection(parts: Parts) -> None:
    """However few an address may have, as all the processes have the same one."""
    shared, own = parts.gateway(workers=2, api_connections_per_address=1)
    with client(own[0]) as one, client(own[1]) as other:
        post(one, ID)
        assert [look_up(each, ID).status_code for each in (one, other)] == [202, 202]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(shared)) for _ in range(3)]
        found = [each.get("/healthz").status_code for each in clients]
    assert found[0] == 200
    assert 429 in found


def left_to(answer: httpx.Response) -> int:
    """Give how many requests are left to a client."""
    return int(answer.headers["ratelimit"].split("r=")[1].split(";")[0])
