"""A song that plays for one page: it says where from and how, and hears it; another word from it, and it sounds on as
asked from where its listener is.

Frames go out as bytes: the generation (u32), the number of samples (u32), where in the arranged song they lie (f64,
seconds), then the left and the right channel (f32). No more than a few seconds are sent ahead of what the page says it
has heard, so that one that stops listening costs nothing.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from miao.errors import MiaoError
from miao.synth.arrangement import Arrangement
from miao.synth.chunks import Known
from miao.synth.running import Running
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import STREAM_GAIN_DB, Synthesizer
from miao.web.guard import Refusal, number_of
from miao.web.songs import Song, Songs, wished

_log = logging.getLogger(__name__)

AHEAD_SECONDS = 3.0
FIRST_SAMPLES, MOST_SAMPLES = 4096, 32768
SAMPLE_RATE = 44_100
SHORTEST_LOOP = 0.1  # seconds
_HEADER = struct.Struct("<IId")

Tell = Callable[[dict[str, Any] | bytes], Awaitable[None]]


class Stream:
    """What one page hears. All of its methods are for the event loop; sound is made by the threads of ``workers``."""

    def __init__(
        self, synthesizer: Synthesizer, songs: Songs, tell: Tell, workers: ThreadPoolExecutor, pool: ThreadPoolExecutor,
        polyphony: int, find: Callable[[str], Any],
    ) -> None:  # fmt: skip
        self._synthesizer, self._songs, self._tell = synthesizer, songs, tell
        self._workers, self._pool, self._polyphony, self._find = workers, pool, polyphony, find
        self._task: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self.generation, self._n_sent, self._n_heard = -1, 0, 0
        self._run: _Run | None = None
        self.n_samples = 0  # made in all

    def play(self, message: dict[str, Any]) -> None:
        """Play as a message of the page's says. Raises: MiaoError."""
        song = self._songs.get(message.get("song"))
        arrangement = wished(message.get("arrangement", {}))
        generation = int(number_of(message, "generation", 0, 2**32 - 1, 0))
        at = number_of(message, "at", 0, 1e9, 0.0)
        gain = number_of(message, "gain_db", -60, 40, STREAM_GAIN_DB)
        loop = _loop(message.get("loop"), song.seconds)
        past = np.zeros((2, 0), np.float32)
        if self._run is not None and message.get("echo") == self.generation:
            past = self._run.sent_until(self._n_heard)
        known = {} if self._run is None else self._run.known
        self.stop()
        self.generation, self._n_sent, self._n_heard = generation, 0, 0
        settings = PlaySettings(SAMPLE_RATE, gain_db=gain, polyphony=self._polyphony)
        self._run = _Run(self._synthesizer, song, arrangement, settings, at, loop, known, past, self._pool, self._find)
        self._task = asyncio.create_task(self._send(generation, self._run))

    def heard(self, message: dict[str, Any]) -> None:
        """The page has heard so many samples of what it plays."""
        if message.get("generation") == self.generation:
            self._n_heard = max(int(number_of(message, "samples", 0, 1e12, 0)), self._n_heard)
            self._heard.set()

    def stop(self) -> None:
        """No more of it."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        if self._run is not None:
            self._run.cancel()

    async def _send(self, generation: int, run: "_Run") -> None:
        loop = asyncio.get_running_loop()
        try:
            began = await loop.run_in_executor(self._workers, run.begin)
            await self._tell({"tell": "began", "generation": generation} | began)
            n = FIRST_SAMPLES
            while True:
                position, samples, is_over = await loop.run_in_executor(self._workers, run.block, n)
                if samples.shape[1]:
                    count = samples.shape[1]
                    await self._tell(_HEADER.pack(generation, count, position) + samples.astype("<f4").tobytes())
                    self._n_sent += count
                    self.n_samples += count
                if is_over:
                    await self._tell({"tell": "over", "generation": generation, "samples": self._n_sent})
                    return
                n = min(2 * n, MOST_SAMPLES)
                while self._n_sent - self._n_heard > AHEAD_SECONDS * SAMPLE_RATE:
                    self._heard.clear()
                    await self._heard.wait()
        except MiaoError as error:
            await self._tell({"tell": "error", "generation": generation, "message": str(error)})
        except Exception as error:  # told in one line, and the log has the rest
            _log.exception("stream", exc_info=error)
            told = "the server made a mistake; its log says which"
            await self._tell({"tell": "error", "generation": generation, "message": told})


class _Run:
    """One generation: from a moment to the end, or round and round a loop; called by one thread at a time."""

    def __init__(
        self, synthesizer: Synthesizer, song: Song, arrangement: Arrangement, settings: PlaySettings, at: float,
        loop: tuple[float, float] | None, known: Known, past: np.ndarray, pool: ThreadPoolExecutor,
        find: Callable[[str], Any],
    ) -> None:  # fmt: skip
        self._synthesizer, self._song, self._arrangement = synthesizer, song, arrangement
        self._settings, self._at, self._loop, self._past = settings, at, loop, past
        self.known, self._pool, self._find = dict(known), pool, find
        self._is_cancelled = False
        self._now: tuple[Running, int] | None = None  # and the samples of the rounds before it

    def begin(self) -> dict[str, Any]:
        """Make all ready; gives what the page is to know of the arrangement's time."""
        arrangement, song = self._arrangement, self._song
        before, after = song.clock(arrangement)
        self._score = arrangement.score(song.score, song.played(arrangement))
        settings = arrangement.settings(song.score, self._settings, self._find)
        self._settings = settings
        self._bank, self._voices = self._synthesizer.cast(self._score, settings)
        if self._voices:  # other voices have their numbers
            self.known = {}
        self._start = float(np.interp(self._at, before, after))
        self._span: tuple[float, float] | None = None
        if self._loop is not None:
            a, b = np.interp(self._loop, before, after).tolist()
            self._span = (a, b)
        self._open(self._start, self._past)
        return {"song": song.key, "from": self._start, "seconds": float(after[-1]),
                "clock": [before.round(4).tolist(), after.round(4).tolist()]}  # fmt: skip

    def block(self, n: int) -> tuple[float, np.ndarray, bool]:
        """The next samples: where they lie (seconds as arranged), f4[2, up to n], whether that was all."""
        if self._now is None or self._is_cancelled:
            return 0.0, np.zeros((2, 0), np.float32), True
        running, passed = self._now
        position = running.position / self._settings.sample_rate
        samples = running.block(n)
        if running.is_over and self._span is not None:
            n_made = running.position - running.first
            self._open(self._span[0], running.sent_until(n_made), passed + n_made)
        return position, samples, running.is_over and self._span is None

    def sent_until(self, n_heard: int) -> np.ndarray:
        """What the room had been sent by the time that so many samples had been heard; for any thread."""
        if self._now is None:
            return np.zeros((2, 0), np.float32)
        running, passed = self._now
        return running.sent_until(n_heard - passed)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._is_cancelled = True

    def _open(self, start: float, past: np.ndarray, passed: int = 0) -> None:
        end = None
        if self._span is not None and start < self._span[1]:
            end = self._span[1]
        running = Running(
            self._bank, self._score, self._settings, self._voices, start=start, end=end, known=self.known, past=past,
            pool=self._pool,
        )  # fmt: skip
        self._now = running, passed


def _loop(wanted: Any, seconds: float) -> tuple[float, float] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, list) or len(wanted) != 2 or not all(isinstance(x, int | float) for x in wanted):
        raise Refusal('"loop" is two moments of the song, in seconds')
    a, b = (float(x) for x in wanted)
    if not 0 <= a < b or b - a < SHORTEST_LOOP or a >= seconds:
        raise Refusal(f"a loop lies within the song and lasts {SHORTEST_LOOP:g} s or longer")
    return a, b
