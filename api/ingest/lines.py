"""A body cut into lines as it arrives."""


class Lines:
    """Cuts what arrives into lines; holds no more than the beginning of one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._skipping = False

    @property
    def held(self) -> int:
        """Bytes of the line that has begun."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the lines that are complete now, without line feeds.

        One that is too long is given once, longer than it may be, and what follows of it dropped.
        """
        lines = chunk.split(b"\n")
        if self._skipping:
            if len(lines) == 1:
                return []
            del lines[0]
            self._skipping = False
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        if len(self._rest) > self._max_bytes:
            lines.append(self._rest)
            self._rest = b""
            self._skipping = True
        return lines
