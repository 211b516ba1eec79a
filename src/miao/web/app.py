"""The server: routes, and what each asks of the studio. `create_app` gives the application, `serve` runs it."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from miao.errors import ConfigError, MiaoError
from miao.files import reason
from miao.memory import keep_what_is_loaded
from miao.synth.synthesizer import Synthesizer
from miao.web import exports, learning
from miao.web.guard import LOOPBACK, Guard, Refusal, body_of, explained
from miao.web.jobs import Job
from miao.web.limits import Limits
from miao.web.lines import Lines, parsed
from miao.web.openapi import openapi
from miao.web.songs import EXAMPLES, Song, examples
from miao.web.studio import Studio

PAGE = Path(__file__).parent / "page"
PING_SECONDS, PONG_SECONDS = 2.0, 3.0  # who is silent for longer, though the line is not closed, is gone
BACKLOG = 128
SWITCH_SECONDS = 0.001  # that a thread keeps the others waiting: somebody may be listening
_ARRANGEMENT_BYTES = 1 << 18
_LONGEST_NAME = 120


def create_app(
    synthesizer: Synthesizer, limits: Limits | None = None, hosts: tuple[str, ...] | None = LOOPBACK, *,
    is_prepared: bool = False,
) -> Starlette:  # fmt: skip
    """The application for one bank. ``hosts`` are the names it goes by; None: any. ``is_prepared``: what is slow when
    asked for first is made ready behind the start."""
    studio = Studio(synthesizer, limits or Limits())
    routes, lines = _Routes(studio), Lines(studio)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await studio.open()
        if is_prepared:
            studio.prepare()
        try:
            yield
        finally:
            await studio.close()

    app = Starlette(
        routes=[
            Route("/", _page), Mount("/page", StaticFiles(directory=PAGE)),
            Route("/health", routes.health), Route("/metrics", routes.metrics), Route("/openapi.json", routes.openapi),
            Route("/api/about", routes.about),
            Route("/api/songs", routes.add_song, methods=["POST"]),
            Route("/api/songs/{song}", routes.song, methods=["GET", "DELETE"]),
            Route("/api/songs/{song}/notes", routes.notes), Route("/api/songs/{song}/picture", routes.picture),
            Route("/api/songs/{song}/exports", routes.export, methods=["POST"]),
            Route("/api/songs/{song}/survey", routes.survey, methods=["POST"]),
            Route("/api/songs/{song}/matches", routes.match, methods=["POST"]),
            Route("/api/sounds", routes.add_sound, methods=["POST"]),
            Route("/api/voices", routes.learn, methods=["POST"]),
            Route("/api/jobs/{job}/keep", routes.keep, methods=["POST"]),
            Route("/api/render", routes.render, methods=["POST"]),
            Route("/api/jobs/{job}", routes.job, methods=["GET", "DELETE"]),
            Route("/api/jobs/{job}/files/{name}", routes.file),
            WebSocketRoute("/api/session", lines.session), WebSocketRoute("/api/keyboard", lines.keyboard),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={MiaoError: explained, Exception: explained},
        lifespan=lifespan,
    )  # fmt: skip
    app.state.studio = studio
    return app


def serve(
    synthesizer: Synthesizer, host: str, port: int, limits: Limits, hosts: tuple[str, ...] | None,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve until Ctrl-C; tells the address. Raises: MiaoError if the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small messages at once (TCP_NODELAY) only where the socket says that it is TCP; else each may wait
    # 40 ms for the answer to the one before
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(BACKLOG)  # who comes as soon as the address is told waits, and is not refused
    except (OSError, OverflowError) as error:
        opened.close()
        why = reason(error) if isinstance(error, OSError) else "there is no such port"
        raise ConfigError(f"cannot serve at {host} port {port}: {why}; choose another with --port") from error
    shown = "localhost" if host in LOOPBACK else f"[{host}]" if ":" in host else host
    app = create_app(synthesizer, limits, hosts, is_prepared=True)
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_what_is_loaded()
    tell(f"http://{shown}:{opened.getsockname()[1]}/")
    uvicorn.Server(server_config(app, limits)).run(sockets=[opened])


def server_config(app: Starlette, limits: Limits) -> uvicorn.Config:
    """How uvicorn is to run it."""
    return uvicorn.Config(
        app, log_level="warning", access_log=False, ws="websockets-sansio", ws_max_size=limits.message_bytes,
        ws_ping_interval=PING_SECONDS, ws_ping_timeout=PONG_SECONDS, ws_per_message_deflate=False,
        timeout_graceful_shutdown=1, lifespan="on", server_header=False,
    )  # fmt: skip


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


class _Routes:
    """What each address does."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._limits = studio, studio.limits
        self._loading = asyncio.Semaphore(2)  # large uploads lie in memory

    async def health(self, _: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "sessions": len(self._studio.sessions), "jobs": self._studio.jobs.n_active}
        )

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse(self._studio.metrics())

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(openapi(self._limits))

    async def about(self, _: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._studio.about))

    # songs

    async def add_song(self, request: Request) -> Response:
        self._studio.counts["requests"] += 1
        owner = self._studio.owner(request.query_params.get("session", ""))
        example = request.query_params.get("example")
        if example is not None:
            if example not in examples():
                raise Refusal(f"there is no example of that name; there are {', '.join(examples())}", 404)
            name, data = f"{examples()[example]}.mid", (EXAMPLES / f"{example}.mid").read_bytes()
        else:
            name = request.query_params.get("name", "song.mid")[:_LONGEST_NAME] or "song.mid"
            data = await body_of(request, self._limits.midi_bytes, "the file")
            self._studio.counts["uploads"] += 1
            self._studio.counts["uploaded_bytes"] += len(data)
        loop = asyncio.get_running_loop()
        song = await loop.run_in_executor(self._studio.readers, self._studio.songs.add, name, data, owner)
        if owner and owner not in self._studio.sessions:  # it went while we read
            self._studio.songs.forget(owner)
        return JSONResponse(await loop.run_in_executor(self._studio.readers, song.about), 201)

    async def song(self, request: Request) -> Response:
        song = self._song(request)
        if request.method == "DELETE":
            self._studio.songs.remove(song)
            return Response(status_code=204)
        return JSONResponse(await asyncio.to_thread(song.about))

    async def notes(self, request: Request) -> Response:
        song = self._song(request)
        start, end = (_number(request, key, usual) for key, usual in (("from", 0.0), ("to", song.seconds)))
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._studio.readers, song.drawn, start, end)
        return Response(data, media_type="application/octet-stream")

    async def picture(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._studio.readers, self._song(request).picture)
        return Response(data, media_type="application/octet-stream")

    async def export(self, request: Request) -> Response:
        song, wanted = self._song(request), await _json(request)
        format = exports.wanted_format(wanted.get("format", "wav"))
        return self._started(song.owner, f"export {format}", partial(self._export, song, wanted, format))

    async def survey(self, request: Request) -> Response:
        song, wanted = self._song(request), await _json(request)
        return self._started(song.owner, "survey", lambda job: exports.survey(
            job, self._studio.synthesizer, song, wanted.get("arrangement", {}), self._limits.polyphony,
            self._studio.find(song.owner), self._studio.courtesy,
        ))  # fmt: skip

    def _export(self, song: Song, wanted: dict[str, Any], format: str, job: Job) -> None:
        exports.export(
            job, self._studio.synthesizer, song, wanted.get("arrangement", {}), format, self._limits.polyphony,
            self._studio.find(song.owner),
        )  # fmt: skip

    async def render(self, request: Request) -> Response:
        """The body, a MIDI file, as sound: one request, one answer."""
        self._studio.counts["requests"] += 1
        format = exports.wanted_format(request.query_params.get("format", "wav"))
        told = parsed(request.query_params.get("arrangement", "{}"))
        name = request.query_params.get("name", "song.mid")[:_LONGEST_NAME]
        data = await body_of(request, self._limits.midi_bytes, "the file")
        loop = asyncio.get_running_loop()
        song = await loop.run_in_executor(self._studio.readers, self._studio.songs.add, name, data, "")
        job = self._studio.jobs.add("", "render", partial(self._export, song, {"arrangement": told}, format))
        try:
            while not job.is_over:
                if await request.is_disconnected():
                    raise Refusal("the client has gone", 499)
                await asyncio.sleep(0.02)
            if job.state != "done":
                raise Refusal(job.error)
            name, path = next(iter(job.files.items()))
            content = await asyncio.to_thread(path.read_bytes)
        finally:
            self._studio.jobs.cancel(job)
            self._studio.songs.remove(song)
        return Response(content, media_type=exports.MEDIA[path.suffix[1:]])

    # learning and matching

    async def add_sound(self, request: Request) -> Response:
        self._studio.counts["requests"] += 1
        owner = self._studio.owner(request.query_params.get("session", ""))
        name = request.query_params.get("name", "sound.wav")[:_LONGEST_NAME]
        async with self._loading:
            data = await body_of(request, self._limits.sound_bytes, "the sound")
            self._studio.counts["uploads"] += 1
            self._studio.counts["uploaded_bytes"] += len(data)
            loop = asyncio.get_running_loop()
            sound = await loop.run_in_executor(self._studio.readers, self._studio.sounds.add, name, data, owner)
        if owner not in self._studio.sessions:
            self._studio.sounds.forget(owner)
        return JSONResponse({"sound": sound.key, "name": sound.path.name, "seconds": round(sound.seconds, 3)}, 201)

    async def match(self, request: Request) -> Response:
        song, wanted = self._song(request), await _json(request)
        sound = self._studio.sounds.get(wanted.get("sound"), song.owner)
        folder, longest = self._studio.synthesizer.bank.folder, self._limits.sound_seconds
        return self._started(song.owner, "match", lambda job: learning.match(job, folder, song, sound, longest))

    async def learn(self, request: Request) -> Response:
        wanted = await _json(request)
        owner = self._studio.owner(str(wanted.get("session", "")))
        keys = wanted.get("sounds")
        if not owner or not isinstance(keys, list) or not keys:
            raise Refusal('"session" and "sounds", a list of what was brought, are needed')
        sounds = [self._studio.sounds.get(key, owner) for key in keys]
        song = self._song_of(wanted["song"], owner) if wanted.get("song") else None
        name = learning.voice_name(wanted.get("name", ""), self._studio.sessions[owner].voices)
        return self._started(owner, "learn", lambda job: learning.learn(
            job, self._studio.synthesizer, name, sounds, song, self._limits.sound_seconds
        ))  # fmt: skip

    async def keep(self, request: Request) -> Response:
        job = self._studio.jobs.get(request.path_params["job"])
        session = self._studio.sessions.get(job.owner)
        if session is None:
            raise Refusal("this page is not open any more; load it again", 404)
        return JSONResponse(learning.keep(job, session.voices, is_for_good=self._limits.keeps_voices))

    def _song_of(self, key: Any, owner: str) -> Song:
        song = self._studio.songs.get(key)
        if song.owner != owner:
            raise Refusal("there is no such song any more; open it again", 404)
        return song

    # work

    async def job(self, request: Request) -> Response:
        job = self._studio.jobs.get(request.path_params["job"])
        if request.method == "DELETE":
            self._studio.jobs.cancel(job)
            return Response(status_code=204)
        return JSONResponse(job.about())

    async def file(self, request: Request) -> Response:
        job, name = self._studio.jobs.get(request.path_params["job"]), request.path_params["name"]
        if job.state != "done" or name not in job.files:
            raise Refusal("there is no such file", 404)
        media = exports.MEDIA.get(name.rpartition(".")[2], "application/octet-stream")
        return FileResponse(job.files[name], filename=name, media_type=media)

    def _started(self, owner: str, kind: str, work: Callable[[Job], None]) -> Response:
        self._studio.counts["requests"] += 1
        return JSONResponse(self._studio.jobs.add(owner, kind, work).about(), 202)

    def _song(self, request: Request) -> Song:
        return self._studio.songs.get(request.path_params["song"])


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal("the content must be application/json", 415)
    data = await body_of(request, _ARRANGEMENT_BYTES, "the request")
    return parsed(data.decode("utf-8", "replace"))


def _number(request: Request, key: str, usual: float) -> float:
    try:
        value = float(request.query_params.get(key, usual))
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise Refusal(f'"{key}" must be a number of seconds')
    return value
