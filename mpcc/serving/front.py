"""What clients and operators see of a role over HTTP: the model, one request, health, metrics, and the API's description.

    POST /v1/infer      id (16 bytes, random) | first 16 bytes of the model's digest | the input's share, 64-bit words
    200                 the answer's share, 64-bit words; little-endian both
    GET /v1/prefix      the public part of the model, which the client runs on its input first; 404 where there is none

The size of both follows from the model, so a body of another size is refused, and never kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from mpcc.runtime.net.handshake import DEALER

from .config import ServeConfig
from .desk import Refused
from .helper import HelperService
from .metrics import CONTENT_TYPE
from .served import DIGEST_BYTES, ID_BYTES, WORD
from .server import ServerService
from .service import Service

BINARY = "application/octet-stream"
MOST_DISCARDED = 1 << 18
"""Bytes that are read of a body of the wrong size before it is refused."""
BODY = {
    "requestBody": {
        "required": True,
        "description": "id (16 bytes) | first 16 bytes of the digest | share of the input: little-endian 64-bit words",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The share of the answer: little-endian 64-bit words", "content": {BINARY: {}}},
    400: {"description": "A body of another size than the model's input has"},
    408: {"description": "The other share of the request did not arrive"},
    409: {"description": "A request of this id is being answered, or the digest is that of another model"},
    411: {"description": "No Content-Length"},
    503: {"description": "Too many requests, or another role is away; Retry-After says when to ask again"},
}
PREFIX: dict[int | str, dict[str, Any]] = {
    200: {"description": "The public part of the model: an ONNX file", "content": {BINARY: {}}},
    404: {"description": "The model has no public part"},
}


class Front:
    """The HTTP face of a service."""

    def __init__(self, service: Service, where: Mapping[str, Any] | None = None) -> None:
        """`where`: what else the model's document says, such as the addresses of all replicas."""
        self.service, self.served = service, service.served
        self.digest = bytes.fromhex(self.served.digest)[:DIGEST_BYTES]
        self.size = ID_BYTES + DIGEST_BYTES + WORD * self.served.input_words
        self.document = self.served.document(service.config.role, {"replica": service.config.replica, **(where or {})})

    async def model(self) -> dict[str, Any]:
        """What a client needs to know of the model; all of it is public."""
        return self.document

    async def prefix(self) -> Response:
        """The public part of the model as ONNX: the client computes it in float, and shares what it gives."""
        if self.served.public_part is None:
            return JSONResponse({"error": "all of this model's parameters are secret: it has no public part"}, 404)
        return Response(self.served.public_part.body, media_type=BINARY)

    async def health(self) -> Response:
        """200 while requests can be answered, 503 while another role is away or sessions are being set up."""
        well, text = self.service.state()
        return JSONResponse({"ready": well, "state": text}, 200 if well else 503)

    async def alive(self) -> Response:
        """200 as long as the process answers: not a reason to restart it while others are away."""
        return JSONResponse({"alive": True})

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)

    async def infer(self, request: Request) -> Response:
        """One share of an input in, one share of the answer out."""
        start = time.perf_counter()
        try:
            answer = Response(await self._answered(request), 200, media_type=BINARY)
        except Refused as refused:
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            answer = JSONResponse({"error": str(refused)}, refused.status, headers)
        self.service.metrics.requests.labels(str(answer.status_code)).inc()
        self.service.metrics.seconds.observe(time.perf_counter() - start)
        return answer

    async def _answered(self, request: Request) -> bytes:
        body = await self._body(request)
        if body[ID_BYTES : ID_BYTES + DIGEST_BYTES] != self.digest:
            raise Refused(409, "the request is for another model than the one served here: read /v1/model anew")
        service = self.service
        assert isinstance(service, ServerService | HelperService)
        words = np.frombuffer(body, dtype="<i8", offset=ID_BYTES + DIGEST_BYTES).astype(np.int64)
        number = bytes(body[:ID_BYTES])
        if not any(number):
            raise Refused(400, "the id is zero: draw 16 random bytes")
        asked = await asyncio.to_thread(service.request, number, words)
        answer: asyncio.Future[bytes] = asyncio.wrap_future(asked.answer)
        gone: asyncio.Future[bytes] = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
                raise Refused(499, "the client has left")
            return answer.result()
        finally:
            gone.cancel()
            service.forget(asked)

    async def _body(self, request: Request) -> bytes:
        """The whole body, which must have the size of the model's requests."""
        stated = request.headers.get("content-length")
        if stated is None:
            raise Refused(411, "a Content-Length is needed")
        right = stated.isascii() and stated.isdigit() and int(stated) == self.size
        body, seconds = bytearray(), self.service.config.limits.pair_seconds
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > (self.size if right else MOST_DISCARDED):
                        break
        except TimeoutError:
            raise Refused(408, f"the request did not come within {seconds:g} s") from None
        except ClientDisconnect:
            raise Refused(499, "the client has left") from None
        if not right:  # told only now: what is left unread when a connection is closed takes the answer with it
            raise Refused(400, f"a request for this model has {self.size} bytes, not {stated[:20]}")
        if len(body) != self.size:
            raise Refused(400, f"a request for this model has {self.size} bytes, {len(body)} came")
        return bytes(body)


async def _left(request: Request) -> bytes:
    """Until the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return b""


def application(service: Service, where: Mapping[str, Any] | None = None) -> FastAPI:
    """The ASGI application of a role. The dealer's has nothing for clients."""
    front, config = Front(service, where), service.config
    app = FastAPI(title=f"mpcc: {config.role}", description=(__doc__ or "").partition("\n\n")[0], redoc_url=None)
    app.add_api_route("/healthz", front.health, methods=["GET"])
    app.add_api_route("/livez", front.alive, methods=["GET"])
    app.add_api_route("/metrics", front.metrics, methods=["GET"])
    if config.role != DEALER:
        app.add_api_route("/v1/model", front.model, methods=["GET"])
        app.add_api_route("/v1/prefix", front.prefix, methods=["GET"], response_class=Response, responses=PREFIX)
        app.add_api_route(
            "/v1/infer", front.infer, methods=["POST"], response_class=Response, responses=ANSWERS, openapi_extra=BODY
        )
        app.add_middleware(
            CORSMiddleware, allow_origins=list(_origins(config)), allow_methods=["GET", "POST"], allow_headers=["*"],
            expose_headers=["Retry-After"], max_age=86400,
        )  # fmt: skip
    return app


def _origins(config: ServeConfig) -> tuple[str, ...]:
    return () if config.http is None else config.http.origins
