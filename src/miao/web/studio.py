"""Everything that a server has: the synthesizer, songs, work, open pages, and the threads that make sound."""

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from miao.bank.learnt_voice import LearntVoice, find_voice, voice_paths
from miao.errors import MiaoError, needs
from miao.live.stage import needs_engine
from miao.memory import give_back_memory
from miao.midi.general_midi import GM_PROGRAMS
from miao.midi.score import read_score
from miao.sound.room import response_of
from miao.sound.rooms import NO_ROOM, find_room, room_paths
from miao.synth.running import Running
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import Synthesizer
from miao.web.courtesy import Courtesy
from miao.web.guard import Refusal
from miao.web.jobs import Jobs
from miao.web.keyboard import Keyboard
from miao.web.limits import Limits
from miao.web.songs import EXAMPLES, Songs, examples, kits
from miao.web.sounds import Sounds
from miao.web.stream import SAMPLE_RATE, Stream, Tell

SWEEP_SECONDS = 5.0
_THREADS = 4  # that make the sound of streams, each waiting for `_PART_THREADS`
_PART_THREADS = 2


@dataclass(eq=False)
class Session:
    """An open page: what it hears, and the voices that it has learnt and not kept."""

    key: str
    stream: Stream
    voices: dict[str, LearntVoice] = field(default_factory=dict)

    def find(self, name: str) -> LearntVoice:
        """A voice by name, its own first. Raises: BankError."""
        return self.voices.get(name) or _shared_voice(name)


class Studio:
    """What `create_app` serves; `open` and `close` it, or let the app do so."""

    def __init__(self, synthesizer: Synthesizer, limits: Limits) -> None:
        self.synthesizer, self.limits = synthesizer, limits
        self.songs, self.sounds, self.jobs = Songs(limits), Sounds(limits), Jobs(limits)
        self.sessions: dict[str, Session] = {}
        self.n_keyboards = 0
        self.counts = {"requests": 0, "refused": 0, "uploads": 0, "uploaded_bytes": 0, "sessions_opened": 0}
        self.courtesy = Courtesy()
        self.began = time.monotonic()
        self._samples_of_closed = 0
        self._is_memory_due = False  # somebody has gone whose memory the system has not got back

    async def open(self) -> None:
        """Start the threads."""
        self.jobs.__enter__()
        self.sounds.__enter__()
        self.workers = ThreadPoolExecutor(_THREADS, "miao stream")
        self.readers = ThreadPoolExecutor(2, "miao reader")
        self.pool = ThreadPoolExecutor(_PART_THREADS, "miao part")
        self._sweeper = asyncio.create_task(self._sweep())

    def prepare(self) -> None:
        """Have at hand what the first listener would wait for: rooms that are drawn, voices that have played."""
        for name in room_paths():
            self.readers.submit(_drawn, name)
        self.readers.submit(self._rehearse)

    def _rehearse(self) -> None:
        score = read_score(EXAMPLES / f"{next(iter(examples()))}.mid")
        settings = PlaySettings(SAMPLE_RATE)
        bank, voices = self.synthesizer.cast(score, settings)
        Running(bank, score, settings, voices).block(SAMPLE_RATE)

    async def close(self) -> None:
        """End all work."""
        self._sweeper.cancel()
        for session in list(self.sessions.values()):
            self.close_session(session)
        for pool in (self.workers, self.readers, self.pool):
            pool.shutdown(wait=True, cancel_futures=True)
        await asyncio.to_thread(self.jobs.__exit__)
        self.sounds.__exit__()

    def open_session(self, tell: Tell) -> Session:
        """A page has come. Raises: Refusal if there are too many."""
        if len(self.sessions) >= self.limits.sessions:
            raise Refusal(f"{self.limits.sessions} pages are open here, the most that are served; close one", 503)
        found: list[Session] = []
        stream = Stream(
            self.synthesizer, self.songs, tell, self.workers, self.pool, self.limits.polyphony,
            lambda name: found[0].find(name), self.courtesy,
        )  # fmt: skip
        session = Session(secrets.token_urlsafe(16), stream)
        found.append(session)
        self.sessions[session.key] = session
        self.counts["sessions_opened"] += 1
        return session

    def close_session(self, session: Session) -> None:
        """A page is gone, and with it all that was its."""
        session.stream.stop()
        self._samples_of_closed += session.stream.n_samples
        self._is_memory_due = True
        self.sessions.pop(session.key, None)
        self.songs.forget(session.key)
        self.sounds.forget(session.key)
        self.jobs.forget(session.key)

    def open_keyboard(self, key: str) -> Keyboard:
        """Somebody wants to play. Raises: Refusal if too many do; MiaoError where there is no engine."""
        needs_engine()
        owner = self.owner(key)
        if self.n_keyboards >= self.limits.keyboards:
            raise Refusal(f"{self.limits.keyboards} play here already, the most that can", 503)
        self.n_keyboards += 1
        return Keyboard(self.synthesizer.bank, self.limits.keyboard_polyphony, self.find(owner))

    def close_keyboard(self, keyboard: Keyboard) -> None:
        """Somebody has gone who played."""
        self.n_keyboards -= 1
        keyboard.close()

    def owner(self, key: str) -> str:
        """Whose a request is: an open page's, or "" for who has none. Raises: Refusal."""
        if key and key not in self.sessions:
            raise Refusal("this page is not open any more; load it again", 404)
        return key

    def find(self, owner: str) -> Any:
        """How a client finds voices by their names."""
        session = self.sessions.get(owner)
        return _shared_voice if session is None else session.find

    def about(self) -> dict[str, Any]:
        """What there is to choose from."""
        from miao import __version__

        return {
            "version": __version__, "programs": list(GM_PROGRAMS),
            "variations": [{"program": program + 1, "number": number, "name": name} for (number, program), name
                           in sorted(self.synthesizer.bank.kits.names.items())],
            "kits": [{"number": number, "name": name} for number, name in kits().items()],
            "voices": sorted(voice_paths()), "rooms": [*room_paths(), NO_ROOM],
            "examples": [{"name": name, "title": title} for name, title in examples().items()],
            "limits": {"midi_bytes": self.limits.midi_bytes, "sound_bytes": self.limits.sound_bytes,
                       "keeps_voices": self.limits.keeps_voices},
            "learn": _why_not("train"), "play": _why_no_keyboard(),
        }  # fmt: skip

    def metrics(self) -> str:
        """How the server does, as Prometheus reads it."""
        n_samples = self._samples_of_closed + sum(s.stream.n_samples for s in self.sessions.values())
        rows = {
            "miao_up_seconds": ("gauge", round(time.monotonic() - self.began, 1)),
            "miao_sessions": ("gauge", len(self.sessions)), "miao_keyboards": ("gauge", self.n_keyboards),
            "miao_songs": ("gauge", len(self.songs)), "miao_jobs_active": ("gauge", self.jobs.n_active),
            "miao_streamed_samples_total": ("counter", n_samples),
        } | {f"miao_{name}_total": ("counter", value) for name, value in self.counts.items()}  # fmt: skip
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in rows.items())

    async def _sweep(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                self.songs.sweep()
                self.jobs.sweep()
                if self._is_memory_due:
                    self._is_memory_due = False
                    await asyncio.to_thread(give_back_memory)


def _drawn(name: str) -> None:
    room = find_room(name)
    if room is not None:
        response_of(SAMPLE_RATE, room)


def _shared_voice(name: str) -> LearntVoice:
    """A voice of the package's or the user's, by its name alone: never a path that a client says."""
    if name not in voice_paths():
        raise Refusal(f'no voice "{name[:60]}"', 404)
    return find_voice(name)


def _why_not(extra: str) -> str:
    """What is missing for a part of the page; "" if nothing is."""
    try:
        needs(extra)
    except MiaoError as error:
        return str(error)
    return ""


def _why_no_keyboard() -> str:
    try:
        needs_engine()
    except MiaoError as error:
        return str(error)
    return ""
