"""The AsyncAPI 3.0 document of what flows: the Kafka topics and the event streams."""

from importlib.metadata import version
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from api.settings import ApiSettings
from api.streams.position import STREAMS
from wire import schemas

_KEY: Final = {"type": "string", "description": "the source account: it keeps its order"}
_GAP: Final[dict[str, Any]] = {
    "type": "object",
    "description": "History that the client asked for and that is gone.",
    "required": ["missing"],
    "properties": {
        "missing": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["topic", "partition", "expected_offset", "next_offset"],
                "properties": {
                    "topic": {"type": "string"},
                    "partition": {"type": "integer", "minimum": 0},
                    "expected_offset": {"type": "integer", "minimum": 0},
                    "next_offset": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "where the stream goes on; smaller than expected_offset "
                        "if the topic was made anew or lost its end",
                    },
                },
            },
        }
    },
}
_DEAD_LETTER_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The record's own headers, and where it came from and what is wrong with it.",
}

_TRACE_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Only where the transaction's trace is recorded (W3C Trace Context).",
    "properties": {"traceparent": {"type": "string"}, "tracestate": {"type": "string"}},
}

_SECURITY: Final[dict[str, Any]] = {
    "security": [
        {"type": "http", "scheme": "bearer", "description": "an API key, or a JSON Web Token"}
    ]
}


def routes(settings: ApiSettings) -> APIRouter:
    """Make `/asyncapi.json`."""
    router = APIRouter(tags=["documents"])
    body = msgspec.json.encode(document(settings))

    @router.get("/asyncapi.json", summary="AsyncAPI document of topics and streams")
    async def asyncapi() -> Response:
        return Response(body, media_type="application/json")

    return router


def document(settings: ApiSettings) -> dict[str, Any]:
    """Describe topics and streams, with the topic names of these settings."""
    messages = schemas.components("#/components/schemas/{name}")
    del messages["PostedTransaction"]  # it is none: it is what becomes one
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fraudstream",
            "version": version("fraudstream"),
            "description": "Transactions in, verdicts out, each exactly once.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": settings.kafka_broker_url,
                "protocol": _kafka_protocol(settings),
                "description": "The verdict topics are written by transactions: read them with "
                "isolation.level=read_committed.",
            },
            "gateway": {
                "host": "{host}",
                "protocol": "http" if settings.api_tls_certificate is None else "https",
                "variables": {"host": {"description": "HOST:PORT of the gateway"}},
                **(_SECURITY if settings.authenticates else {}),
            },
        },
        "channels": _topics(settings) | _streams(),
        "operations": _operations(),
        "components": {"schemas": messages | {"Gap": _GAP}, "messages": _messages()},
    }


def _topics(settings: ApiSettings) -> dict[str, Any]:
    topics = {
        "transactions": (settings.transactions_topic, "transaction", "Accepted transactions."),
        "legit": (settings.legit_topic, "verdict", "Verdicts that say legit."),
        "fraud": (settings.fraud_topic, "verdict", "Verdicts that say fraud."),
        "deadLetters": (
            settings.dead_letter_topic,
            "deadLetter",
            "Records that are no transaction, as they were.",
        ),
    }
    return {
        name: {
            "address": address,
            "description": description,
            "servers": [{"$ref": "#/servers/kafka"}],
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        for name, (address, message, description) in topics.items()
    }


def _streams() -> dict[str, Any]:
    return {
        f"{name}Stream": {
            "address": f"/stream/{name}",
            "description": "Server-sent events (text/event-stream): one unnamed event for each "
            "verdict; its id is the position that Last-Event-ID resumes from.",
            "servers": [{"$ref": "#/servers/gateway"}],
            "messages": {
                "verdict": {"$ref": "#/components/messages/verdict"},
                "gap": {"$ref": "#/components/messages/gap"},
            },
        }
        for name in STREAMS
    }


def _operations() -> dict[str, Any]:
    """Say what others do: produce transactions, consume verdicts, open streams."""
    operations: dict[str, Any] = {
        "produceTransaction": {
            "action": "receive",
            "channel": {"$ref": "#/channels/transactions"},
            "summary": "The gateway's POST /transactions writes here; the detector reads.",
        }
    }
    for name in ("legit", "fraud", "deadLetters"):
        operations[f"publish{name[0].upper()}{name[1:]}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": "Written by the detector, exactly once.",
        }
    for name in STREAMS:
        operations[f"stream{name.capitalize()}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}Stream"},
            "summary": "Sent by the gateway to whoever opened the stream.",
            "bindings": {"http": {"method": "GET", "bindingVersion": "0.3.0"}},
        }
    return operations


def _messages() -> dict[str, Any]:
    kafka = {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}}
    return {
        "transaction": {
            "title": "Transaction",
            "headers": _TRACE_HEADERS,
            "payload": {"$ref": "#/components/schemas/Transaction"},
            "bindings": kafka,
        },
        "verdict": {
            "title": "Verdict",
            "headers": _TRACE_HEADERS,
            "payload": {"$ref": "#/components/schemas/Verdict"},
            "bindings": kafka,
        },
        "deadLetter": {
            "title": "Dead letter",
            "contentType": "application/octet-stream",
            "headers": _DEAD_LETTER_HEADERS,
            "payload": {"description": "the record's bytes, whatever they are"},
        },
        "gap": {
            "title": "Gap",
            "description": "Sent as an event named `gap`.",
            "payload": {"$ref": "#/components/schemas/Gap"},
        },
    }


def _kafka_protocol(settings: ApiSettings) -> str:
    return "kafka-secure" if "SSL" in settings.kafka_security_protocol else "kafka"
