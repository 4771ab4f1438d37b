"""Whom the tests' HTTP clients trust, loaded once: for each client anew it takes 40 ms."""

from typing import Final

import httpx

TRUST: Final = httpx.create_ssl_context()
