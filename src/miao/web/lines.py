"""The lines that a page keeps open: one for what it hears, one for what it plays."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from miao.errors import MiaoError
from miao.web.guard import Refusal
from miao.web.keyboard import Keyboard, echoed
from miao.web.stream import Tell
from miao.web.studio import Studio

_log = logging.getLogger(__name__)

MOST_BAD_MESSAGES = 20
REFUSED, MISUSED = 1013, 1008  # codes that a socket is closed with


class Lines:
    """What each socket does."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def session(self, socket: WebSocket) -> None:
        """Open as long as the page is: what it asks to hear comes in, sound and news go out."""
        tell = await _opened(socket)
        try:
            session = self._studio.open_session(tell)
        except MiaoError as error:
            await _refuse(socket, tell, error)
            return
        try:
            await tell({"tell": "session", "session": session.key})
            handlers = {"play": session.stream.play, "heard": session.stream.heard,
                        "stop": lambda _: session.stream.stop()}  # fmt: skip
            await serve_messages(socket, tell, handlers)
        finally:
            self._studio.close_session(session)

    async def keyboard(self, socket: WebSocket) -> None:
        """Open as long as somebody plays: MIDI bytes and wishes come in, sound goes out."""
        tell, studio = await _opened(socket), self._studio
        try:
            keyboard = studio.open_keyboard(socket.query_params.get("session", ""))
        except MiaoError as error:
            await _refuse(socket, tell, error)
            return
        tasks: dict[str, asyncio.Task[None]] = {"pump": asyncio.create_task(keyboard.pump(tell))}

        def choose(message: dict[str, Any]) -> None:
            if "choose" in tasks and not tasks["choose"].done():
                raise Refusal("one instrument after the other")
            tasks["choose"] = asyncio.create_task(self._choose(keyboard, message, tell))

        def ping(message: dict[str, Any]) -> None:
            tasks["ping"] = asyncio.create_task(tell(echoed(keyboard, message)))

        try:
            await serve_messages(socket, tell, {"choose": choose, "ping": ping}, keyboard.put)
        finally:
            for task in tasks.values():
                task.cancel()
            # begun here and done by its thread, whatever becomes of this task
            closing = asyncio.get_running_loop().run_in_executor(None, studio.close_keyboard, keyboard)
            await asyncio.shield(closing)

    async def _choose(self, keyboard: Keyboard, message: dict[str, Any], tell: Tell) -> None:
        try:
            loop = asyncio.get_running_loop()
            is_new = await loop.run_in_executor(self._studio.readers, keyboard.choose, message)
            await tell({"tell": "ready", "is_new": is_new})
        except MiaoError as error:
            await tell({"tell": "error", "message": str(error)})
        except Exception as error:  # told in one line, and the log has the rest
            _log.exception("keyboard", exc_info=error)
            await tell({"tell": "error", "message": "the server made a mistake; its log says which"})


async def _opened(socket: WebSocket) -> Tell:
    """Accepts a socket; gives what sends to it, one message after the other, and minds not if it has gone."""
    await socket.accept()
    lock = asyncio.Lock()

    async def tell(what: dict[str, Any] | bytes) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # it has gone, which whoever reads finds out
            async with lock:
                await (socket.send_bytes(what) if isinstance(what, bytes) else socket.send_json(what))

    return tell


async def _refuse(socket: WebSocket, tell: Tell, error: MiaoError) -> None:
    await tell({"tell": "refused", "message": str(error)})
    await socket.close(REFUSED)


async def serve_messages(
    socket: WebSocket, tell: Tell,
    handlers: dict[str, Callable[[dict[str, Any]], None]], put: Callable[[bytes], None] | None = None,
) -> None:  # fmt: skip
    """Does what JSON messages say, by their "do", until the client goes; one that talks nonsense is told so, and in the
    end sent away. Bytes are ``put``, where they are expected."""
    n_bad = 0
    while True:
        try:
            received = await socket.receive()
        except RuntimeError:
            return
        if received["type"] == "websocket.disconnect":
            return
        try:
            if put is not None and received.get("bytes") is not None:
                put(received["bytes"])
                continue
            message = parsed(received.get("text") or "")
            handler = handlers.get(str(message.get("do")))
            if handler is None:
                raise Refusal(f'"do" is one of {", ".join(handlers)}')
            handler(message)
        except MiaoError as error:
            n_bad += 1
            about = {} if not isinstance(error, Refusal) or error.status != 404 else {"status": 404}
            await tell({"tell": "error", "message": str(error)} | about)
            if n_bad > MOST_BAD_MESSAGES:
                with suppress(RuntimeError):
                    await socket.close(MISUSED)
                return


def parsed(text: str) -> dict[str, Any]:
    """What a text says as a JSON object. Raises: Refusal."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal("this must be a JSON object")
    return found
