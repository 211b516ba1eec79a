"""How a score is to be played: one frozen thing instead of many arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from miao.bank.learnt_voice import LearntVoice
from miao.config import check_number, check_seed, check_whole
from miao.errors import ConfigError
from miao.sound.rooms import T60_SECONDS, WET, AnyRoom

Cast = Mapping[int, str | Path | LearntVoice]

SAMPLE_RATES = (8_000, 192_000)
GAINS_DB = (-100.0, 100.0)
LATEST_SECONDS = 1e9
LOUDNESSES = (-60.0, -5.0)  # LUFS


@dataclass(frozen=True)
class PlaySettings:
    """How to play.

    Raises: ConfigError, naming the setting and its range.
    """

    sample_rate: int = 44_100  # Hz, 8000 to 192000
    seed: int = 0  # same score, bank and seed: same samples; 0 to 2^64 - 1
    variation: float = 0.0  # how far repeated notes differ, 0 (not at all) to 1
    loudness: float = -16.0  # LUFS, -60 to -5
    gain_db: float | None = None  # a fixed gain in place of the loudness, -100 to 100
    start: float = 0.0  # seconds: an excerpt of the whole rendering, with what began earlier still sounding,
    end: float | None = None  # which may end beyond the piece; faded over 10 ms where it cuts into the sound
    loop: bool = False  # end exactly where the piece does, with what sounds on laid over the beginning
    voices: Cast | None = None  # learnt voices by the number of the track (from 1) that each plays
    room: str | Path | AnyRoom | None = None  # a name, a file, "none"; None: as the song asks for, or the hall
    t60: float | None = None  # seconds: another reverberation time at 1 kHz, 0.05 to 20
    wet: float = 1.0  # how much of the room, a factor, 0 to 10
    polyphony: int = 1024  # most notes at one time

    def __post_init__(self) -> None:
        check_whole("sample rate", self.sample_rate, *SAMPLE_RATES)
        check_whole("polyphony", self.polyphony, 1, 1 << 20)
        check_seed(self.seed)
        for what, value, (low, high) in (
            ("variation", self.variation, (0, 1)),
            ("loudness", self.loudness, LOUDNESSES),
            ("gain", 0.0 if self.gain_db is None else self.gain_db, GAINS_DB),
            ("t60", T60_SECONDS[0] if self.t60 is None else self.t60, T60_SECONDS),
            ("wet", self.wet, WET),
        ):
            check_number(what, value, low, high)
        if not isinstance(self.voices, Mapping | None):
            raise ConfigError(
                f"the voices are {self.voices!r:.60}; say which track each plays, such as {{1: 'alto-sax'}}"
            )
        if not isinstance(self.room, str | Path | AnyRoom | None):
            raise ConfigError(f"the room is {self.room!r:.60}; it must be a name, a file or a room")
        for what, moment in (("start", self.start), ("end", LATEST_SECONDS if self.end is None else self.end)):
            if not isinstance(moment, Real):
                raise ConfigError(f"the {what} is {moment!r:.60}; it must be a number of seconds")
        if not 0 <= self.start < (LATEST_SECONDS if self.end is None else self.end) <= LATEST_SECONDS:
            raise ConfigError(
                f"an excerpt {span(self.start, self.end)} is empty; it starts at 0 or later and ends after its start"
            )


def span(start: float, end: float | None) -> str:
    """A stretch of time in words."""
    if end is None:
        return f"from {start:g} s on" if start else "from beginning to end"
    return f"from {start:g} to {end:g} s"
