"""Accounts hidden from those who may not see them: a keyed hash in place of each id.

The same key gives the same masked id, in every process and for as long as the key is kept, so a
viewer can follow an account without learning whose it is. Without the key nobody can find out by
trying ids (HMAC, RFC 2104).
"""

import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from api.access.principal import PRINCIPAL
from api.access.scopes import ACCOUNTS_READ
from api.settings import ApiSettings
from wire.cel import NO_CODE
from wire.errors import MessageError
from wire.messages import decode_verdict, encode

MASK_BYTES: Final = 12
"""Of the hash: two of 100 million accounts share a masked id with a chance of one in 10^13."""
CACHED_ACCOUNTS: Final = 65_536

_PREFIX: Final = "masked-"
_MASKED: Final = re.compile(rf"{_PREFIX}[0-9a-f]{{{2 * MASK_BYTES}}}", re.ASCII)


def is_masked(account: str) -> bool:
    """Tell whether a text has the form of a masked id."""
    return _MASKED.fullmatch(account) is not None


class Mask:
    """Replaces account ids; pure, for a key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.account = lru_cache(CACHED_ACCOUNTS)(self._account)
        """Gives the masked id of an account."""

    def verdict(self, value: bytes) -> bytes | None:
        """Give a verdict's JSON with its accounts masked; None for what is no verdict.

        Masked wherever they stand as a word by themselves in the reasons, too; a transaction_id
        in which one does is masked as a whole. What a reason quotes is a rule's own text, which
        may name other accounts: it is hidden, and so are comments. So is the metadata: nobody
        knows what it holds.
        """
        try:
            verdict = decode_verdict(value)
        except MessageError:
            return None
        of = verdict.transaction_id
        masked = {name: self.account(name) for name in (verdict.source, verdict.target)}
        # Longest first: one id may be a part of the other.
        names = "|".join(re.escape(name) for name in sorted(masked, key=len, reverse=True))
        words = re.compile(rf"(?<![^\W_])(?:{names})(?![^\W_])")

        reasons = [
            replace(each, detail=_hidden(each.detail, words, masked)) for each in verdict.reasons
        ]
        return encode(
            replace(
                verdict,
                transaction_id=self._hash("transaction", of) if words.search(of) else of,
                source=masked[verdict.source],
                target=masked[verdict.target],
                metadata=None,
                reasons=tuple(reasons),
            )
        )

    def _account(self, name: str) -> str:
        return self._hash("account", name)

    def _hash(self, kind: str, name: str) -> str:
        digest = hmac.digest(self._key, f"{kind}:{name}".encode(), "sha256")
        return _PREFIX + digest[:MASK_BYTES].hex()


def _hidden(text: str, words: re.Pattern[str], masked: Mapping[str, str]) -> str:
    """Mask accounts, and hide what is quoted, in one go: either may have a part of the other in it.

    An account's own quotation mark begins no quotation, and a quoted one ends none.
    """
    parts: list[str] = []
    at = 0
    while True:
        quoted, word = NO_CODE.search(text, at), words.search(text, at)
        if quoted is not None and (word is None or quoted.start() <= word.start()):
            mark = quoted["raw"] or quoted["quote"] or "//"
            parts += text[at : quoted.start()], mark, "…", mark.removesuffix("//")
            at = quoted.end()
        elif word is not None:
            parts += text[at : word.start()], masked[word[0]]
            at = word.end()
        else:
            return "".join([*parts, text[at:]])


class Viewer(NamedTuple):
    """What one client may see."""

    mask: Mask | None = None
    """None where no key is set."""
    is_masked: bool = False
    """Whether accounts are hidden from it."""

    def verdict(self, value: bytes) -> bytes | None:
        """Give a verdict's JSON as this client may see it; None if it may not see it at all."""
        return self.mask.verdict(value) if self.is_masked and self.mask is not None else value


class Masking:
    """Decides who sees accounts, by the settings."""

    def __init__(self, settings: ApiSettings) -> None:
        key = settings.stream_mask_secret
        mask = None if key is None else Mask(key)
        self._clear = Viewer(mask)
        self._masked = Viewer(mask, is_masked=True)
        self._mode = settings.stream_mask_accounts

    def viewer(self, scope: Mapping[str, Any]) -> Viewer:
        """Tell what the client of a request (ASGI scope) may see."""
        if self._mode == "never":
            return self._clear
        if self._mode == "unless-scope" and may_see_accounts(scope.get(PRINCIPAL)):
            return self._clear
        return self._masked


def may_see_accounts(principal: Any) -> bool:
    """Tell whether a principal has the scope; where nobody is asked who they are, nobody has."""
    return principal is not None and ACCOUNTS_READ in principal.scopes
