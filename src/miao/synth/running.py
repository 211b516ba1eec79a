"""A score that sounds while it may be changed: blocks that begin small, and the room goes on when all else begins anew.

A change (an instrument, a fader, the tempo, another place) begins again where the listener is: another player is told
what was before, as for every excerpt, and the room is told what it was sent until then, so that it sounds on. Without a
change the sound is `Synthesizer.stream`'s.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from miao.bank.bank import Bank
from miao.midi.score import Score
from miao.sound.chorus import USUAL, Chorus
from miao.sound.desk import Desk
from miao.sound.limiter import Limiter
from miao.sound.room import Room
from miao.synth.chunks import Known
from miao.synth.player import Player
from miao.synth.rendering import CEILING_DB, FADE_SECONDS, ROOM_LEVEL, acoustics_of
from miao.synth.settings import PlaySettings
from miao.synth.stems import ScoreFeed

SENDS = ("reverb", "chorus")
KEPT_SECONDS = 10.0  # of what the room was sent, behind what has been made


class Running:
    """The finished sound of a score from a moment on, block by block, at a fixed gain.

    ``end`` cuts it off there, faded as an excerpt is. ``known`` are chunks that were written before, and will be added
    to. ``past`` is what the room was sent up to now, f4[2, n].
    """

    def __init__(
        self, bank: Bank, score: Score, settings: PlaySettings, voices: Mapping[int, int], *, start: float = 0.0,
        end: float | None = None, known: Known | None = None, past: NDArray[np.float32] | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:  # fmt: skip
        rate = settings.sample_rate
        self.first = self.position = round(start * rate)  # samples of the score: where it began, what comes next
        self._end = None if end is None else round(end * rate)
        self._settings, self._pool = settings, pool
        self._feed = ScoreFeed(score, start, voices)
        self._player = Player(bank, [track.channel for track in score.tracks], settings, self.first, known)
        self._desk = Desk(rate, len(score.tracks), SENDS)
        self._chorus = Chorus(rate, score.chorus or USUAL)
        acoustics = acoustics_of(score, settings)
        self._room = None if acoustics is None else Room(rate, acoustics=acoustics)
        if self._room is not None and past is not None and past.shape[1]:
            self._room.process(past[:, -self._room.n_tail :])
        self._gain = np.float32(10 ** ((settings.gain_db or 0.0) / 20))
        self._limiter = Limiter(rate, CEILING_DB)
        self._sent = (self.first, np.zeros((2, 0), np.float32) if past is None else past)  # up to which sample, what
        self._is_tail_due, self.is_over = True, False
        self._least = round(max(score.end, score.duration) * rate)  # a rest before the end is part of the piece

    def block(self, n_samples: int) -> NDArray[np.float32]:
        """The next samples, f4[2, up to n]; a little fewer at first, as the limiter looks ahead. Empty once over."""
        if self.is_over:
            return np.zeros((2, 0), np.float32)
        begin = self._player.position
        n = n_samples if self._end is None else min(n_samples, self._end - begin)
        if n <= 0:
            return self._finish()
        if self._feed.is_over and self._player.is_silent:
            return self._tail(n)
        self._feed.tell(self._player, (begin + n) / self._settings.sample_rate)
        block = self._player.begin(n, self._pool).wait()
        for step in block.steps:
            self._desk.set(*step)
        lines, sent = self._desk.mix(begin, block.stems, block.busy, block.extra)
        return self._finished(begin, lines.sum(axis=0), sent)

    def sent_until(self, n_samples: int) -> NDArray[np.float32]:
        """What the room had been sent by the time that so many samples had been heard, f4[2, up to ten seconds].

        For any thread, also while a block is being made.
        """
        until, sent = self._sent
        behind = until - self.first - n_samples
        return sent[:, : max(sent.shape[1] - max(behind, 0), 0)]

    def _tail(self, n: int) -> NDArray[np.float32]:
        """What room and chorus give when nothing more is played."""
        begin = self._player.position
        n_left = max(self._least - begin, 0)
        if self._is_tail_due:
            self._is_tail_due = False
            self._until = begin + max(
                n_left,
                0 if self._room is None else self._room.n_tail,
                0 if self._chorus.is_silent else self._chorus.n_tail,
            )
        n = min(n, self._until - begin)
        if n <= 0:
            return self._finish()
        self._player.position += n
        silence = np.zeros((2, n), np.float32)
        return self._finished(begin, silence, {name: silence for name in SENDS})

    def _finished(
        self, begin: int, mix: NDArray[np.float32], sent: dict[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        rate, n = self._settings.sample_rate, mix.shape[1]
        back = np.zeros((2, n), np.float32)
        to_room = np.float32(ROOM_LEVEL) * sent["reverb"]
        if self._room is not None:
            back += self._room.process(to_room)
        self._chorus.position = begin
        if not self._chorus.is_silent or sent["chorus"].any():
            back += self._chorus.process(sent["chorus"])
        kept = np.concatenate([self._sent[1], to_room], axis=1)[:, -round(KEPT_SECONDS * rate) :]
        self._sent = begin + n, kept
        mix = mix + back
        fade = FADE_SECONDS * rate
        if self._end is not None and begin + n > self._end - fade:
            mix *= np.clip((self._end - np.arange(begin, begin + n)) / fade, 0, 1).astype(np.float32)
        return self._told(self._limiter.process(mix * self._gain))

    def _finish(self) -> NDArray[np.float32]:
        self.is_over = True
        return self._told(self._limiter.finish())

    def _told(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.position += samples.shape[1]
        return samples
