"""What stands before all routes: who may ask, how much may come, and what every answer says about itself.

A browser lets any page ask a server on this machine; so a request says for which host it is (another name may have been
pointed at this machine) and, where a page sent it, that it is our own.
"""

import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from miao.errors import MiaoError

_log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self'; media-src 'self' blob:; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(), camera=(), geolocation=(), midi=(self)"),
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Refusal(MiaoError):
    """What a client asked for is not done; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """Refuses what is for another host or from another page, and puts the headers on answers. ``hosts`` are names that
    the server goes by; None: any."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = LOOPBACK) -> None:
        self._app, self._hosts = app, None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wrong = self._wrong(scope)
        if wrong and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": wrong[:120]})
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if wrong:
            await JSONResponse({"error": wrong}, 403)(scope, receive, told)
        else:
            await self._app(scope, receive, told)

    def _wrong(self, scope: Scope) -> str:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            return "this server does not go by that name; see `miao serve --host`"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "only the server's own page may ask"
        return ""


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def body_of(request: Request, most_bytes: int, what: str) -> bytes:
    """All that is sent, as long as it is no more than allowed. Raises: Refusal."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most_bytes:
        raise Refusal(f"{what} is larger than {most_bytes / 1e6:g} MB, the most that is taken", 413)
    parts: list[bytes] = []
    n = 0
    try:
        async for part in request.stream():
            n += len(part)
            if n > most_bytes:
                raise Refusal(f"{what} is larger than {most_bytes / 1e6:g} MB, the most that is taken", 413)
            parts.append(part)
    except ClientDisconnect:
        raise Refusal(f"{what} has not come whole", 499) from None
    if not n:
        raise Refusal(f"{what} is empty", 400)
    return b"".join(parts)


async def explained(request: Request, error: Exception) -> Response:
    """The answer to a request that failed: one line, as the command says it."""
    if isinstance(error, MiaoError):
        status = getattr(error, "status", 400)
        # what is too large may have no end: the line is closed, not read to it
        headers = {"connection": "close"} if status == 413 else None
        return JSONResponse({"error": str(error)}, status, headers)
    _log.exception("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "the server made a mistake; its log says which"}, 500)


def number_of(message: dict[str, Any], key: str, low: float, high: float, usual: float) -> float:
    """A number that a client says. Raises: Refusal."""
    value = message.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(f'"{key}" must be a number from {low:g} to {high:g}')
    return float(value)
