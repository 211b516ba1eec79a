"""Human performances to learn from and to be measured against: a score flattened to what a printed page would say, and
what the player made of it.

For files whose tempo map follows the player, so that quarters are the printed ones (piano-midi.de). Flattening gives
every note one velocity, every beat one length, and no pedal.
"""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.expression.beats import Pulse
from miao.expression.reading import Reading, read
from miao.midi.score import Curve, Score, read_score

FLAT_VELOCITY = 64


@dataclass(frozen=True, eq=False)
class Performed:
    """A flattened piece, as read, and what its player did."""

    name: str
    reading: Reading  # of the flattened score
    score: Score  # flattened
    level: NDArray[np.float64]  # [n] dB of the notes of the reading, by the player's velocities; mean 0
    beats: NDArray[np.float64]  # [b + 1] quarters
    tempo: NDArray[np.float64]  # [b] natural logarithm of the player's tempo in each beat; mean 0


def is_held_out(name: str) -> bool:
    """A third of the pieces by the checksum of the file's name: never trained on, nor looked at when rules were
    weighed."""
    return zlib.crc32(name.encode()) % 3 == 0


def flattened(score: Score) -> Score:
    """The score with one velocity, one tempo (the mean), and controllers at their first values."""
    pulse = Pulse.of(score.tempi)
    quarters = float(pulse.quarters(np.array([score.duration]))[0])
    per_second = max(quarters, 1e-3) / max(score.duration, 1e-3)
    tracks = []
    for track in score.tracks:
        notes = track.notes.copy()
        for name in ("start", "end", "damp"):
            notes[name] = np.maximum(pulse.quarters(notes[name]), 0) / per_second
        notes["damp"] = np.minimum(notes["damp"], notes["end"])  # no pedal
        notes["velocity"] = FLAT_VELOCITY
        controls = {name: Curve(np.zeros(0), np.zeros(0), c.initial) for name, c in track.controls.items()}
        tracks.append(replace(track, notes=notes, controls=controls))
    tempi = Curve(np.zeros(0), np.zeros(0), 60 * per_second)
    duration = max(float(track.notes["damp"].max()) for track in tracks)
    meters = tuple(replace(m, time=float(pulse.quarters(np.array([m.time]))[0]) / per_second) for m in score.meters)
    return replace(score, tracks=tuple(tracks), duration=duration, tempi=tempi, meters=meters)


def performed(path: Path) -> Performed:
    """A performance in a file."""
    score = read_score(path)
    flat = flattened(score)
    reading = read(flat)
    velocity = np.empty(reading.n)
    for number, track in enumerate(score.tracks):
        mine = reading.track == number
        velocity[mine] = track.notes["velocity"][reading.place[mine]]
    level = 40 * np.log10(velocity / 127)
    last = max(float(track.notes["start"].max()) for track in score.tracks)
    pulse = Pulse.of(score.tempi)
    beats = np.arange(0, int(pulse.quarters(np.array([last]))[0]) + 1.0)
    beats = beats if len(beats) > 1 else np.array([0.0, 1.0])
    tempo = -np.log(np.maximum(np.diff(pulse.seconds(beats)), 1e-3))
    return Performed(path.name, reading, flat, level - level.mean(), beats, tempo - tempo.mean())
