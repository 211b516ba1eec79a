"""Moods as amounts of cues: what a player changes to sound happy, angry, sad or tender.

Cues add up: listeners' ratings follow the sum of tempo, level, articulation, register, timbre and mode, interactions
explain next to nothing (Eerola, Friberg and Bresin 2013, Frontiers in Psychology 4:487). So a mood is a vector, moods
can be mixed, and a share of a mood is a share of each of its cues. Tempo and level are those with which Bresin and
Friberg (2000, Computer Music Journal 24:4) had performances recognised; the others have the directions in which
Juslin and Laukka's review (2003) and Eerola et al. agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from miao.config import check_number
from miao.errors import ConfigError

_MOST = 2.0  # times a mood


@dataclass(frozen=True)
class Cues:
    """What a mood asks for, in units that add up; 0 is as written."""

    tempo: float = 0.0  # octaves: 1 is twice as fast
    level: float = 0.0  # dB
    articulation: float = 0.0  # -1 the shortest notes, 0 as written, 1 up to the next note and over it
    brightness: float = 0.0  # -1 dark to 1 bright
    attack: float = 0.0  # -1 soft to 1 sharp
    register: float = 0.0  # -1 doubled an octave below, 1 an octave above
    vibrato: float = 0.0  # of the deepest
    room: float = 0.0  # of the whole reverb send
    looseness: float = 0.0  # times the timing noise of expression 1
    contrast: float = 0.0  # times the rules of contrast: duration contrast, accents
    phrasing: float = 0.0  # times the rules of phrase: arches, final slowing, breath
    mode: float = 0.0  # -1 minor to 1 major; only where rewriting is allowed

    def plus(self, other: "Cues", amount: float = 1.0) -> "Cues":
        """The sum of these and a share of others."""
        return Cues(*(getattr(self, f.name) + amount * getattr(other, f.name) for f in fields(Cues)))

    @property
    def is_none(self) -> bool:
        """Nothing is asked for."""
        return self == Cues()


MOODS: Mapping[str, Cues] = {
    "happy": Cues(tempo=0.3, level=2, articulation=-0.6, brightness=0.7, attack=0.2, register=0.6, vibrato=0.1,
                  room=-0.3, contrast=0.5, phrasing=-0.3, mode=1),
    "angry": Cues(tempo=0.26, level=8, articulation=-0.2, brightness=0.3, attack=1, register=-0.8, vibrato=0.5,
                  room=-0.2, looseness=0.3, contrast=1.5, phrasing=-0.6, mode=-1),
    "sad": Cues(tempo=-0.3, level=-5, articulation=1, brightness=-1, attack=-0.3, vibrato=0.2, room=1, looseness=0.3,
                contrast=-0.5, phrasing=1, mode=-1),
    "tender": Cues(tempo=-0.28, level=-8, articulation=0.2, brightness=-0.1, attack=-1, register=0.5, vibrato=0.3,
                   room=0.2, looseness=0.2, contrast=-0.7, phrasing=0.8, mode=1),
    "calm": Cues(tempo=-0.25, level=-4, articulation=0.6, brightness=-0.4, attack=-0.8, room=0.3, contrast=-0.6,
                 phrasing=0.5),
    "fearful": Cues(tempo=0.1, level=-6, articulation=-0.6, brightness=-0.2, attack=-0.2, register=0.2, vibrato=0.6,
                    room=0.3, looseness=1.5, contrast=0.8, mode=-1),
    "solemn": Cues(tempo=-0.38, level=3, articulation=0.4, brightness=-0.2, register=-0.5, room=0.4, phrasing=0.4),
    "playful": Cues(tempo=0.25, level=1, articulation=-0.8, brightness=0.3, attack=0.3, register=0.4, looseness=0.3,
                    contrast=1, mode=1),
}  # fmt: skip
_CORNERS = {"happy": (1, 1), "angry": (-1, 1), "sad": (-1, -1), "tender": (1, -1)}  # valence, arousal


def cues_of(mood: str | Mapping[str, float] | None = None, valence: float = 0.0, arousal: float = 0.0) -> Cues:
    """The cues of moods by name and share ("tender", "tender:0.6", "sad:0.5,fearful:0.2") and of a point of the plane.

    The plane's corners (1, 1), (-1, 1), (-1, -1), (1, -1) are happy, angry, sad, tender; between them cues are bilinear
    without the product term, so the middle is nothing and each axis is half the difference of its sides.
    Raises: ConfigError for an unknown mood or a number out of range.
    """
    for name, value in (("valence", valence), ("arousal", arousal)):
        check_number(name, value, -1, 1)
    total = Cues()
    if not isinstance(mood, str | Mapping | None):
        raise ConfigError(f"the mood is {mood!r:.60}; it must be a name, or shares by name")
    shares = parse_mood(mood) if isinstance(mood, str) else mood or {}
    for name, share in shares.items():
        if name not in MOODS:
            raise ConfigError(f"there is no mood {name!r}; there are {', '.join(MOODS)}")
        if not 0 <= share <= _MOST:
            raise ConfigError(f"the share of the mood {name} is {share:g}; it goes from 0 to {_MOST:g}")
        total = total.plus(MOODS[name], share)
    for name, (v, a) in _CORNERS.items():
        total = total.plus(MOODS[name], (v * valence + a * arousal) / 4)
    return total


def parse_mood(text: str) -> dict[str, float]:
    """{"tender": 0.6} of "tender:0.6"; a mood without a number is whole. Raises: ConfigError if it cannot be read."""
    shares = {}
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        try:
            share = float(number) if number else 1.0
        except ValueError:
            share = np.nan
        if not name or not np.isfinite(share):
            raise ConfigError(f"{text!r} is no mood; say tender, tender:0.6 or sad:0.5,fearful:0.2")
        shares[name.lower()] = share
    return shares
