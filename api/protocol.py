"""HTTP/1.1 on a connection: uvicorn's, but a response can reach the connection under it.

A stream to a client that has stopped reading can't be ended through ASGI: `send` waits until the
client reads, and closing waits for the buffer to empty. Only the transport can be aborted.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "fraudstream.transport"


class Protocol(HttpToolsProtocol):
    """Puts the transport into the scope's extensions."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}
