"""`GET /transactions/{id}`: what became of one, as far as any process of the gateway knows."""

from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response

from api.ingest import answers
from api.ingest.verdicts import Verdicts
from api.masking import Masking
from api.problems import OVERLOADED, UNKNOWN_TRANSACTION, Problem
from api.settings import ApiSettings
from api.workers import Workers

WORKER_PATH: Final = "/worker/transactions/"
"""Where one process tells what it knows of a transaction, without asking the others."""
_PASSED_ON: Final = ("content-type", "cache-control", "retry-after")


class _Anything(PathConvertor):
    """What is left of a path, line feeds and all, so that every unknown id is told as one."""

    regex = "(?s:.*)"


register_url_convertor("anything", _Anything())


class LookUps:
    """Looks transactions up."""

    def __init__(
        self, settings: ApiSettings, verdicts: Verdicts, masking: Masking, workers: Workers
    ) -> None:
        self._size = settings.verdict_index_size
        self._verdicts = verdicts
        self._masking = masking
        self._workers = workers

    def routes(self) -> APIRouter:
        """Make the routes."""
        router = APIRouter(include_in_schema=False)

        @router.get("/transactions/{transaction_id:anything}")
        async def look_up(transaction_id: str, request: Request) -> Response:
            # Verdicts are known to all processes, what is pending only to the one that took it.
            found = self._here(transaction_id, request)
            return found or await self._elsewhere(transaction_id, request)

        @router.get(WORKER_PATH + "{transaction_id:anything}")
        async def look_up_here(transaction_id: str, request: Request) -> Response:
            found = self._here(transaction_id, request)
            if found is None:
                raise self._unknown()
            return found

        return router

    def _here(self, transaction_id: str, request: Request) -> Response | None:
        verdict = self._verdicts.find(transaction_id)
        if verdict:
            verdict = self._masking.viewer(request.scope).verdict(verdict)
        if verdict is None:
            return None
        answer = answers.looked_up(transaction_id, verdict)
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        return Response(answer.body, answer.status, headers)

    async def _elsewhere(self, transaction_id: str, request: Request) -> Response:
        path = WORKER_PATH + quote(transaction_id, safe="")
        heard = await self._workers.ask(path, request)
        if not heard.answers and heard.unheard:
            raise Problem(OVERLOADED, "a process of the gateway that may know it does not answer")
        if not heard.answers:
            raise self._unknown()
        # Decided (200) before pending (202).
        answer = min(heard.answers, key=lambda each: each.status_code)
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.content, answer.status_code, headers)

    def _unknown(self) -> Problem:
        return Problem(UNKNOWN_TRANSACTION, f"not among the last {self._size} transactions")
