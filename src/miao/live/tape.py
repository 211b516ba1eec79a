"""A score on a stage, played at once: pause, seek, tempo, transposition, tracks by themselves.

The score is told a quarter of a second ahead, so that no chunk is urgent. Any change begins again at the moment that
is heard now: what sounds fades out, and what should sound there is under way at once.
"""

from collections.abc import Mapping
from typing import Any

from miao.live.stage import AHEAD_SECONDS, Stage
from miao.midi.score import Score
from miao.synth.note import Strike
from miao.synth.stems import ScoreFeed, lots_of

SLOWEST, FASTEST = 0.25, 2.0
_SOON_SECONDS = 0.03  # in which the first chunks are written
_NOT_PLAYED = -1


class Tape:
    """Plays a score; times of the score are seconds in it, whatever the tempo."""

    def __init__(self, stage: Stage, score: Score, voices: Mapping[int, int] | None = None) -> None:
        self.stage, self.score = stage, score
        self.tempo, self.transpose = 1.0, 0
        self.muted: set[int] = set()
        self.alone: set[int] = set()  # where any are chosen, all others are silent
        self.is_paused = False
        self._voices = voices or {}
        self._from, self._origin = 0.0, 0.0  # a moment of the score, and when it is heard
        self.seek(0.0)

    @property
    def length(self) -> float:
        """Seconds of the score."""
        return max(self.score.end, self.score.duration)

    @property
    def position(self) -> float:
        """What is heard now, seconds of the score."""
        if self.is_paused:
            return self._from
        return max(self._from + (self.stage.now() - self._origin) * self.tempo, self._from)

    @property
    def is_over(self) -> bool:
        """Whether all of it has been played and has died away, but for the room."""
        return not self.is_paused and self._feed.is_over and self.stage.player.is_silent

    def seek(self, to: float) -> None:
        """Go on from another moment, or begin again here with other settings."""
        now = self.stage.now()
        self._from, self._origin = min(max(to, 0.0), self.length), now + _SOON_SECONDS
        self.stage.begin_again(now, lots_of(self.score.tracks))
        self._feed = ScoreFeed(self.score, self._from, self._voices, self.stage.bank.own_kits)
        self.round()

    def pause(self) -> None:
        """Stop here, or go on from here."""
        here = self.position
        self.is_paused = not self.is_paused
        self.seek(here)

    def change(self, tempo: float | None = None, transpose: int | None = None) -> None:
        """Another tempo (1 is that of the score, 0.25 to 2) or transposition (semitones) from here on."""
        here = self.position
        if tempo is not None:
            self.tempo = min(max(tempo, SLOWEST), FASTEST)
        if transpose is not None:
            self.transpose = min(max(transpose, -24), 24)
        self.seek(here)

    def toggle(self, chosen: set[int], track: int) -> None:
        """Mute a track or play it alone (``chosen`` is `muted` or `alone`), or no longer."""
        here = self.position
        chosen ^= {track}
        self.seek(here)

    def round(self) -> None:
        """Tells the stage what is to come; to be called every few hundredths of a second."""
        now = self.stage.now()
        if not self.is_paused:
            until = now + AHEAD_SECONDS
            told: Any = _Transposed(self)
            self._feed.tell(told, self._from + (until - self._origin) * self.tempo)
            self.stage.advance(until, now)
        self.stage.look_ahead(now)

    def time_of(self, moment: float) -> float:
        """When a moment of the score is heard."""
        return self._origin + (moment - self._from) / self.tempo

    def is_heard(self, track: int) -> bool:
        """Whether a track is neither muted nor silent because others play alone."""
        return track in self.alone if self.alone else track not in self.muted


class _Transposed:
    """Stands before the player: what a score tells, at the tape's tempo and pitch."""

    def __init__(self, tape: Tape) -> None:
        self._tape, self._player = tape, tape.stage.player

    def voice(self, program: int, pitch: int, *, is_drum: bool, bank: int = 0) -> int:
        return self._player.voice(program, pitch, is_drum=is_drum, bank=bank)

    def start(self, strike: Strike) -> int:
        tape = self._tape
        pitch = strike.pitch if strike.rings else strike.pitch + tape.transpose
        if not tape.is_heard(strike.part) or not 0 <= pitch <= 127:
            return _NOT_PLAYED
        seconds = strike.glide_seconds / tape.tempo
        return self._player.start(strike._replace(time=tape.time_of(strike.time), pitch=pitch, glide_seconds=seconds))

    def lift(self, handle: int, time: float) -> None:
        self._player.lift(handle, self._tape.time_of(time))

    def release(self, handle: int, time: float) -> None:
        self._player.release(handle, self._tape.time_of(time))

    def cut(self, handle: int, time: float) -> None:
        if time < float("inf"):
            self._player.cut(handle, self._tape.time_of(time))

    def control(self, part: int, name: str, value: float, time: float) -> None:
        self._player.control(part, name, value, self._tape.time_of(time))

    def press(self, part: int, pitch: int, value: float, time: float) -> None:
        self._player.press(part, self._key(pitch), value, self._tape.time_of(time))

    def tune(self, part: int, pitch: int, cents: float, time: float) -> None:
        self._player.tune(part, self._key(pitch), cents, self._tape.time_of(time))

    def _key(self, pitch: int) -> int:
        """Which key is played in a key's place; drums are not pressed."""
        return min(max(pitch + self._tape.transpose, 0), 127)
