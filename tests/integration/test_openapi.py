"""The OpenAPI document is true: a live gateway on a real Kafka never answers other than it says.

`FRAUDSTREAM_FUZZ` sets how many requests are made for each operation (20 by default).
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft202012Validator

from api.app import create
from api.problems import KINDS
from api.settings import ApiSettings
from api.streams.position import STREAMS, decode
from tests.credentials import KeyFile
from wire.messages import decode_verdict
from wire.settings import TopicSettings

DEFAULT_RULES = Path(__file__).parents[2] / "detector" / "default_rules.toml"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = os.environ.get("FRAUDSTREAM_FUZZ", "20")


@pytest.fixture
def address(kafka_settings: TopicSettings, start_gateway: Callable[..., Any]) -> Iterator[str]:
    """A gateway process of this test: its URL."""
    with start_gateway(kafka_settings, max_wait_seconds=0) as url:
        yield url


@pytest.mark.timeout(3600)
def test_every_answer_is_one_that_the_document_describes(address: str) -> None:
    """All of Schemathesis's checks hold: statuses, headers, media types, bodies, refusals."""
    explore(address)


@pytest.mark.timeout(3600)
def test_who_may_ask_is_as_the_document_says(
    kafka_settings: TopicSettings, start_gateway: Callable[..., Any], tmp_path: Path
) -> None:
    """The same where credentials are asked for; without one, and with a wrong one, it is a 401."""
    keys = KeyFile(tmp_path)
    key = keys.add()
    given = {"max_wait_seconds": 0, "api_keys_file": keys.path}
    with start_gateway(kafka_settings, **given) as url:
        explore(url, "--header", f"Authorization: Bearer {key}")


def explore(address: str, *options: str) -> None:
    """Have Schemathesis look for an answer that the document does not describe."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", f"{address}/openapi.json"),
        *("--exclude-path-regex", "^/stream/"),  # these never end
        *("--checks", "all", "--max-examples", EXAMPLES, "--generation-deterministic"),
        "--no-color",
        *options,
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    run = subprocess.run(
        command, env=os.environ | hooks, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr


async def test_every_example_fits_its_schema() -> None:
    """The examples in the document are valid by the schemas beside them."""
    document = create(ApiSettings()).openapi()
    examples = list(_examples(document["paths"]))
    for schema, example in examples:
        whole = schema | {"components": document["components"]}
        Draft202012Validator(whole).validate(example)
    assert len(examples) > 15


@pytest.mark.parametrize("is_guarded", [False, True])
def test_every_error_is_described_as_a_problem(*, is_guarded: bool) -> None:
    """By the one schema, with an example of each code that it may have, and that has its status."""
    given = {"api_jwt_jwks_url": "https://idp.example", "api_jwt_issuer": "i"} if is_guarded else {}
    document = create(ApiSettings(**given, api_jwt_audience="a")).openapi()
    of_code = {kind.code: kind.status for kind in KINDS}
    described = 0
    for path, operations in document["paths"].items():
        for status, answer in ((s, a) for o in operations.values() for s, a in _answers(o)):
            content = answer["content"]["application/problem+json"]
            problem, narrowed = content["schema"]["allOf"]
            codes = narrowed["properties"]["code"]["enum"]
            examples = [each["value"] for each in content["examples"].values()]
            assert problem == {"$ref": "#/components/schemas/Problem"}, path
            assert [of_code[code] for code in codes] == [int(status)] * len(codes), path
            assert [each["code"] for each in examples] == codes, path
            assert [each["status"] for each in examples] == [int(status)] * len(codes), path
            assert list(answer["content"]) == ["application/problem+json"], path
            described += 1
    assert described > 2 * len(document["paths"])


def _answers(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((s, a) for s, a in operation["responses"].items() if s[0] in "45")


async def test_every_example_of_a_request_is_accepted(
    shared_gateway: httpx.AsyncClient,
) -> None:
    """What the document shows can be sent just so."""
    document = (await shared_gateway.get("/openapi.json")).json()
    content = document["paths"]["/transactions"]["post"]["requestBody"]["content"]
    examples = [item["value"] for item in content["application/json"]["examples"].values()]
    answers = [await shared_gateway.post("/transactions", json=example) for example in examples]
    media_type = "application/x-ndjson"
    answers.append(
        await shared_gateway.post(
            "/transactions",
            content=content[media_type]["example"],
            headers={"Content-Type": media_type},
        )
    )

    assert [answer.status_code for answer in answers] == [202, 202, 202]


def test_every_record_of_the_examples_of_many_gets_a_verdict_of_its_own() -> None:
    """By ids of their own: of what is sent twice, one verdict comes."""
    content = create(ApiSettings()).openapi()["paths"]["/transactions"]["post"]["requestBody"]
    lines = content["content"]["application/x-ndjson"]["example"].splitlines()
    many = content["content"]["application/json"]["examples"]["many"]["value"]
    for records in (many, [json.loads(line) for line in lines]):
        assert len({record["transaction_id"] for record in records}) == len(records) > 1


@pytest.mark.parametrize("name", STREAMS)
def test_the_example_of_a_stream_is_one_of_its_events(name: str) -> None:
    """Its id is a position there, its verdict is of that decision, by a rule that is shipped."""
    operation = create(ApiSettings()).openapi()["paths"][f"/stream/{name}"]["get"]
    example = operation["responses"]["200"]["content"]["text/event-stream"]["example"]
    _, event = example.removesuffix("\n\n").split("\n\n")
    position, data = (line.partition(": ")[2] for line in event.split("\n"))
    verdict = decode_verdict(data.encode())
    rules = tomllib.loads(DEFAULT_RULES.read_text())["rules"]

    assert decode(position).vectors.keys() == set(STREAMS[name])
    assert name in (verdict.decision, "all")
    assert {reason.rule for reason in verdict.reasons} <= {rule["id"] for rule in rules}


def test_a_stream_is_resumed_by_a_header_that_a_client_knows_of() -> None:
    """The document has it as a parameter."""
    parameters = create(ApiSettings()).openapi()["paths"]["/stream/all"]["get"]["parameters"]
    assert {"header": "Last-Event-ID"}.items() <= {
        (parameter["in"], parameter["name"]) for parameter in parameters
    }


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        if "schema" in node and "examples" in node:
            yield from ((node["schema"], item["value"]) for item in node["examples"].values())
        for value in node.values():
            yield from _examples(value)
    elif isinstance(node, list):
        for value in node:
            yield from _examples(value)
