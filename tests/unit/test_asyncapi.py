"""The AsyncAPI document: whole, and of the same messages as the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from api.asyncapi import document
from api.settings import ApiSettings
from api.streams.position import STREAMS
from wire import schemas
from wire.messages import Transaction, Verdict

DOCUMENT = document(ApiSettings(fraud_topic="our.fraud"))


def references(node: Any) -> Iterator[str]:
    """Give every $ref in the document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_every_reference_leads_somewhere() -> None:
    """A tool can follow each $ref within the document."""
    found = set(references(DOCUMENT))
    assert "#/components/schemas/Verdict" in found
    for reference in found:
        node = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert isinstance(node, dict)


def test_it_has_what_version_3_requires() -> None:
    """The required members of AsyncAPI 3.0's objects, and its enumerations."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for channel in DOCUMENT["channels"].values():
        assert all(s["$ref"].startswith("#/servers/") for s in channel["servers"])
        assert channel["messages"]


def test_topics_go_by_their_set_names_and_streams_by_their_addresses() -> None:
    """The document is of this deployment."""
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert {"our.fraud", "queueing.transactions", *(f"/stream/{n}" for n in STREAMS)} <= addresses


def test_the_gateway_is_reached_as_it_serves(tmp_path: Path) -> None:
    """Over HTTPS where it has a certificate."""
    certificate = tmp_path / "gateway.pem"
    certificate.touch()
    over_tls = document(ApiSettings(api_tls_certificate=certificate))
    protocols = [each["servers"]["gateway"]["protocol"] for each in (DOCUMENT, over_tls)]
    assert protocols == ["http", "https"]


def test_its_schemas_are_those_of_the_messages() -> None:
    """Each field of the message types is described, and no other, as in the other documents."""
    described = schemas.components("#/components/schemas/{name}")
    for kind in (Transaction, Verdict):
        schema = DOCUMENT["components"]["schemas"][kind.__name__]
        assert schema == described[kind.__name__]
        fields = msgspec.structs.fields(kind)
        assert schema["properties"].keys() == {field.encode_name for field in fields}
        assert set(schema["required"]) == {f.encode_name for f in fields if f.required}
