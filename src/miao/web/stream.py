"""A song that plays for one page: it says where from and how, and hears it; another word from it, and it sounds on as
asked from where its listener is.

Frames go out as bytes: the generation (u32), the number of samples (u32), where in the arranged song they lie (f64,
seconds), then the left and the right channel (f32). No more than a few seconds are sent ahead of what the page says it
has heard, so that one that stops listening costs nothing.

A message "play" with "echo", a generation, and "heard", how many of its samples will have been heard when this one is
to take its place, is a change: it begins there, what is played as before is not made again, and the room sounds on.
Without, it is a jump: it begins "at" a moment of the song as if that had been played from the beginning; at once if
it is to "hurry".
"""

import asyncio
import logging
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from miao.errors import MiaoError
from miao.synth.arrangement import Arrangement
from miao.synth.chunks import Known
from miao.synth.running import Running
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import STREAM_GAIN_DB, Synthesizer
from miao.web.courtesy import Courtesy
from miao.web.guard import Refusal, number_of
from miao.web.songs import Song, Songs, clock_of, wished

_log = logging.getLogger(__name__)

AHEAD_SECONDS = 3.0
HURRY_SECONDS = 1.5  # of sound that others give way to
FIRST_SAMPLES, HURRIED_SAMPLES, MOST_SAMPLES = 2048, 8192, 16384  # of a block: no change waits long for one to be done
SAMPLE_RATE = 44_100
SHORTEST_LOOP = 0.1  # seconds
_HEADER = struct.Struct("<IId")

Tell = Callable[[dict[str, Any] | bytes], Coroutine[Any, Any, None]]


class Stream:
    """What one page hears. All of its methods are for the event loop; sound is made by the threads of ``workers``."""

    def __init__(
        self, synthesizer: Synthesizer, songs: Songs, tell: Tell, workers: ThreadPoolExecutor, pool: ThreadPoolExecutor,
        polyphony: int, find: Callable[[str], Any], courtesy: Courtesy | None = None,
    ) -> None:  # fmt: skip
        self._courtesy = courtesy or Courtesy()
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
        heard = int(number_of(message, "heard", 0, 1e12, self._n_heard))
        before, is_change = self._run, message.get("echo") is not None and message.get("echo") == self.generation
        self.stop()
        self.generation, self._n_sent, self._n_heard = generation, 0, 0
        settings = PlaySettings(SAMPLE_RATE, gain_db=gain, polyphony=self._polyphony)
        self._run = _Run(self._synthesizer, song, arrangement, settings, at, loop, self._pool, self._find)
        if before is not None and before.song is song:
            self._run.follow(before, heard if is_change else None)
        self._run.is_urgent = is_change or message.get("hurry") is True
        self._task = asyncio.create_task(self._send(generation, self._run))

    def heard(self, message: dict[str, Any]) -> None:
        """The page has heard so many samples of what it plays."""
        if message.get("generation") == self.generation:
            self._n_heard = max(int(number_of(message, "samples", 0, 1e12, 0)), self._n_heard)
            self._heard.set()
            if self._run is not None:
                self._run.heard(self._n_heard)

    def stop(self) -> None:
        """No more of it."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        if self._run is not None:
            self._run.cancel()

    async def _send(self, generation: int, run: "_Run") -> None:
        loop, hurry = asyncio.get_running_loop(), ExitStack()
        hurry.enter_context(self._courtesy.hurried())
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
                is_soon = self._n_sent < HURRY_SECONDS * SAMPLE_RATE
                n = min(2 * n, HURRIED_SAMPLES if is_soon else MOST_SAMPLES)
                if not is_soon:
                    hurry.close()
                while self._n_sent - self._n_heard > AHEAD_SECONDS * SAMPLE_RATE:
                    self._heard.clear()
                    await self._heard.wait()
        except MiaoError as error:
            await self._tell({"tell": "error", "generation": generation, "message": str(error)})
        except Exception as error:  # told in one line, and the log has the rest
            _log.exception("stream", exc_info=error)
            told = "the server made a mistake; its log says which"
            await self._tell({"tell": "error", "generation": generation, "message": told})
        finally:
            hurry.close()


class _Run:
    """One generation: from a moment to the end, or round and round a loop; called by one thread at a time."""

    def __init__(
        self, synthesizer: Synthesizer, song: Song, arrangement: Arrangement, settings: PlaySettings, at: float,
        loop: tuple[float, float] | None, pool: ThreadPoolExecutor, find: Callable[[str], Any],
    ) -> None:  # fmt: skip
        self.song, self.is_urgent = song, False
        self._synthesizer, self._arrangement, self._settings = synthesizer, arrangement, settings
        self._at, self._loop, self._pool, self._find = at, loop, pool, find
        self._known: Known = {}
        self._changes: tuple[Running, int] | None = None  # what plays until now, and up to which of its samples
        self._is_same_clock = False
        self._is_cancelled = False
        self._rounds: tuple[tuple[Running, int], ...] = ()  # and the samples of the rounds before each
        self._lock = threading.Lock()  # of the rounds
        self._learnt: list[str] = []

    def follow(self, before: "_Run", n_heard: int | None) -> None:
        """Chunks that were written before are known; after a change so many samples of it have been heard, and it
        sounds on from there."""
        self._known = dict(before._known)
        self._learnt = before._learnt
        if n_heard is None:
            return
        rounds = [one for one in before._rounds if one[1] <= n_heard]
        if rounds:
            running, passed = rounds[-1]
            self._changes = running, running.first + n_heard - passed
            self._is_same_clock = clock_of(before._arrangement) == clock_of(self._arrangement)

    def begin(self) -> dict[str, Any]:
        """Make all ready; gives what the page is to know of the arrangement's time."""
        arrangement, song = self._arrangement, self.song
        before, after = song.clock(arrangement)
        self._score = arrangement.score(song.score, song.played(arrangement))
        self._settings = settings = arrangement.settings(song.score, self._settings, self._find)
        self._numbers = [n for n in range(1, len(song.score.tracks) + 1) if arrangement.is_heard(n)]
        self._bank, self._voices = self._synthesizer.cast(self._score, settings)
        learnt = [str(voice.name) for voice in (settings.voices or {}).values()]  # type: ignore[union-attr]
        if learnt != self._learnt:  # other voices have their numbers
            n_own = len(self._synthesizer.bank.table.kind)
            self._known = {key: chunk for key, chunk in self._known.items() if key[1] < n_own}
        self._learnt = learnt
        start = float(np.interp(self._at, before, after))
        if self._changes is not None and self._is_same_clock:
            start = self._changes[1] / settings.sample_rate
        self._span: tuple[float, float] | None = None
        if self._loop is not None:
            a, b = np.interp(self._loop, before, after).tolist()
            self._span = (a, b)
        if self._changes is None or self._changes[0].is_waiting:  # what is waited for would never come
            self._open(start, None)
        else:
            running, sample = self._changes
            self._open(start, running.sent_until(sample), 0, running if self._is_same_clock else None)
        self._changes = None
        return {"song": song.key, "from": start, "seconds": float(after[-1]),
                "clock": [before.round(4).tolist(), after.round(4).tolist()]}  # fmt: skip

    def block(self, n: int) -> tuple[float, np.ndarray, bool]:
        """The next samples: where they lie (seconds as arranged), f4[2, up to n], whether that was all."""
        if not self._rounds or self._is_cancelled:
            return 0.0, np.zeros((2, 0), np.float32), True
        running, passed = self._rounds[-1]
        position = running.position / self._settings.sample_rate
        samples = running.block(n)
        if running.is_over and self._span is not None:
            self.is_urgent = False  # nobody waits for it
            n_made = running.position - running.first
            self._open(self._span[0], running.sent_until(running.position), passed + n_made)
        return position, samples, running.is_over and self._span is None

    def heard(self, n_samples: int) -> None:
        """The listener has heard so many samples; what is behind may be forgotten. For any thread."""
        with self._lock:
            while len(self._rounds) > 1 and self._rounds[1][1] <= n_samples:
                self._rounds = self._rounds[1:]
        for running, passed in self._rounds[:1]:
            running.heard(running.first + n_samples - passed)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._is_cancelled = True

    def _open(
        self, start: float, past: np.ndarray | None, passed: int = 0, before: Running | None = None
    ) -> None:  # fmt: skip
        end = None
        if self._span is not None and start < self._span[1]:
            end = self._span[1]
        running = Running(
            self._bank, self._score, self._settings, self._voices, start=start, end=end, known=self._known, past=past,
            pool=self._pool, numbers=self._numbers, before=before, is_urgent=self.is_urgent,
        )  # fmt: skip
        with self._lock:
            self._rounds = (*self._rounds, (running, passed))


def _loop(wanted: Any, seconds: float) -> tuple[float, float] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, list) or len(wanted) != 2 or not all(isinstance(x, int | float) for x in wanted):
        raise Refusal('"loop" is two moments of the song, in seconds')
    a, b = (float(x) for x in wanted)
    if not 0 <= a < b or b - a < SHORTEST_LOOP or a >= seconds:
        raise Refusal(f"a loop lies within the song and lasts {SHORTEST_LOOP:g} s or longer")
    return a, b
