"""Recorded single notes: what their names say, where they start, how long they were held, and whether they are in tune
with their names.

Three kinds of source: a folder of files named by pitch ("cello_A2_1_forte.mp3", "a2_f_rr1.flac", "60.wav"), an .sfz
file, and a preset of a sound bank (.sf2, .sf3). All end as `Recording`s, which `measure` turns into audio tokens and
one row of a voice table.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats
from miao.bank.voices import pitch_hz
from miao.datasets.single_note import (
    find_again,
    find_fade,
    find_onset,
    find_release,
    heard_pitch,
    without_rumble,
)
from miao.errors import AudioError, DataError
from miao.sound import spectrum
from miao.sound.audio import read_audio, resample
from miao.sound.spectrum import SAMPLE_RATE

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff")
DYNAMICS = {  # words and letters for how strongly a note is played, as the velocities that notation programs give them
    "ppp": 16, "pp": 33, "pianissimo": 33, "p": 49, "piano": 49, "soft": 49, "mp": 64, "mezzo-piano": 64,
    "mf": 80, "mezzo-forte": 80, "medium": 80, "f": 96, "forte": 96, "hard": 96, "ff": 112, "fortissimo": 112,
    "fff": 126,
}  # fmt: skip
PLAIN_VELOCITY = 96  # of a note whose name says nothing
LAYERS = (40, 112)  # velocities of the softest and the loudest of layers that are numbered v1, v2, ...
_LEAST_OF_LAYER = 5  # notes that say that a layer is named by another octave
LONGEST_SECONDS = 8.0  # of a note that is looked at
_SWELLS = re.compile(r"cresc|trill|tremolo|gliss|swell")  # these are not one note at one strength
_PITCH = re.compile(r"([a-g])(#|s|b|♯|♭|sharp|flat)?(-?\d)$", re.IGNORECASE)
_LAYER = re.compile(r"(?:^|[ _.-])v(?:l|el)?(\d)(?=[ _.-]|$)|(?<=\d)v(\d{1,2})$")  # v1, vl1, vel1; A4v16
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


@dataclass(frozen=True)
class Sample:
    """A sound file with one note and what its name, or the .sfz around it, says."""

    path: Path
    pitch: int
    velocity: int
    gain_db: float = 0.0  # that the instrument gives it


@dataclass(frozen=True)
class Recording:
    """One note alone, from its start."""

    name: str
    pitch: int
    velocity: int
    sound: Floats  # [channels, S] at 44.1 kHz
    hold_seconds: float
    is_released: bool  # whether it is heard being let go

    @cached_property
    def mel(self) -> Floats:
        """Its log-mel spectrogram, [frames, N_MELS], which voices are judged by again and again."""
        return spectrum.log_mel(self.sound)


# --- names ------------------------------------------------------------------------------------------------------


def named_pitch(stem: str) -> int | None:
    """The MIDI pitch that a file name says, C4 = 60, or a bare number of 21 to 108; None if it says none."""
    words = _words(re.sub(r"(?<=\d)v\d{1,2}$", "", stem))
    for match in filter(None, map(_PITCH.fullmatch, words)):
        letter, sign, octave = match[1].lower(), (match[2] or "").lower(), int(match[3])
        shift = {"": 0, "#": 1, "s": 1, "♯": 1, "sharp": 1}.get(sign, -1)
        return 12 * (octave + 1) + _STEPS[letter] + shift
    numbers = [int(word) for word in words if re.fullmatch(r"\d{2,3}", word) and 21 <= int(word) <= 108]
    return numbers[0] if numbers else None


def named_velocity(stem: str) -> int | None:
    """The velocity that a file name says: v64 or vel64, or a dynamic from ppp to fff, in letters (fa, fb are takes of
    f) or words, the last one (an instrument may be called piano, too). None if it says none."""
    words = re.split(r"[ _.]+", stem.lower())
    for match in filter(None, (re.fullmatch(r"v(?:el)?(\d{2,3})", word) for word in words)):
        return min(max(int(match[1]), 1), 127)
    takes = [re.sub(r"^(p{1,3}|mp|mf|f{1,3})[a-d]$", r"\1", word) for word in words]
    for word in takes[:0:-1] or takes:  # not the first, unless there is no other
        if word in DYNAMICS:
            return DYNAMICS[word]
    return None


def _words(stem: str) -> list[str]:
    """A name at its blanks, underscores, dots, and dashes that are no minus."""
    return re.split(r"[ _.\-]+(?=\D)|[ _.]+", stem)


def named_samples(folder: Path, only: str | None = None) -> tuple[list[Sample], list[str]]:
    """The samples in a folder and below by their names, and a line for each file that is left out and why.

    ``only`` is a pattern for file names, such as "pizz*". Numbered layers (v1 or vl1, v2, ...; A4v16) are spread
    evenly over velocities 40 to 112. Raises: DataError if there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES)
    paths = [p for p in paths if only is None or fnmatch.fnmatch(p.name.lower(), only.lower())]
    numbers = [_LAYER.search(p.stem.lower()) for p in paths]
    layers = [int(match[1] or match[2]) if match else 0 for match in numbers]
    n_layers = max(layers, default=1)
    samples, left_out = [], []
    for path, layer in zip(paths, layers, strict=True):
        pitch, velocity = named_pitch(path.stem), named_velocity(path.stem)
        if _SWELLS.search(path.stem.lower()):
            left_out.append(f"{path.name}: by its name not one note at one strength")
        elif pitch is None:
            left_out.append(f"{path.name}: its name says no pitch")
        else:
            if velocity is None and layer:
                velocity = round(np.interp(layer, (1, max(n_layers, 2)), LAYERS))
            samples.append(Sample(path, pitch, velocity or PLAIN_VELOCITY))
    if not samples:
        looked_for = f" that are called {only}" if only else ""
        raise DataError(
            f"{folder}: no sound files{looked_for} whose names say their pitch, as cello_A2_forte.wav or 60.wav"
        )
    return samples, left_out


# --- sounds -----------------------------------------------------------------------------------------------------


def as_note(name: str, pitch: int, velocity: int, sound: Floats) -> Recording:
    """A sound [channels, S] as a note that was recorded: from its start, its hold estimated, to where something else
    follows, where it has rung out or where the file is faded out. What lies below it does not count in that: many a
    rumble is louder than a soft note's start, and goes on behind it.

    Raises: AudioError if less than 0.1 s is left.
    """
    hz = float(pitch_hz(pitch))
    sound = sound[:, find_onset(without_rumble(sound, hz)) :][:, : int(LONGEST_SECONDS * SAMPLE_RATE)]
    if sound.shape[1] < 0.1 * SAMPLE_RATE:
        raise AudioError(f"{name}: shorter than 0.1 s")
    clear = without_rumble(sound, hz)
    hold, is_released = find_release(clear)
    if not is_released:  # for what follows, perhaps
        hold_until, is_released = find_release(clear[:, : find_again(clear)])
        hold = hold_until if is_released else hold
    end = find_again(clear, hold) if is_released else min(find_fade(clear), round(hold * SAMPLE_RATE))
    sound = sound[:, :end]
    return Recording(name, pitch, velocity, sound, min(hold, sound.shape[1] / SAMPLE_RATE), is_released)


def recorded(sample: Sample) -> Recording:
    """A sample read, as `as_note` says. Raises: AudioError."""
    audio = resample(read_audio(sample.path), SAMPLE_RATE)
    sound = audio.samples[:2] * np.float32(10 ** (sample.gain_db / 20))
    if not np.abs(sound).max(initial=0.0) > 1e-4:
        raise AudioError(f"{sample.path.name}: silent")
    return as_note(sample.path.name, sample.pitch, sample.velocity, sound)


def read_samples(samples: Iterable[Sample]) -> tuple[list[Recording], list[str]]:
    """All samples as recordings whose pitch is the one heard, and a line for each file left out or odd convention.

    The semitones that most files lie off their names (octaves are counted differently, parts are written transposed)
    are added to all, octaves that whole layers lie off to these; files that then disagree with their names by more than
    0.6 are left out and named.
    Raises: DataError if nothing is left.
    """
    recordings, left_out = [], []
    for sample in samples:
        try:
            recordings.append(recorded(sample))
        except AudioError as error:
            left_out.append(str(error))
    heard = np.array([heard_pitch(r.sound) for r in recordings])
    off = heard - np.array([r.pitch for r in recordings])
    counts = Counter(np.rint(off[~np.isnan(off)]).astype(int).tolist())
    shift, n = counts.most_common(1)[0] if counts else (0, 0)
    if shift and n < 0.6 * len(recordings):
        shift = 0
    if shift:
        left_out.insert(0, f"all names: the notes sound {shift:+d} semitones from what they are called; taken as heard")
    off = off - shift
    for velocity, octaves in _octaves_of_layers(recordings, off).items():
        left_out.append(
            f"all names of strength {velocity}: the notes sound {12 * octaves:+d} semitones; taken as heard"
        )
        as_named = np.abs(off) < 6  # a few are called what they sound
        at = np.array([r.velocity == velocity for r in recordings]) & ~as_named
        recordings = [replace(r, pitch=r.pitch + 12 * octaves * int(m)) for r, m in zip(recordings, at, strict=True)]
        off = off - 12 * octaves * at
    kept = []
    for recording, difference in zip(recordings, off, strict=True):
        n_octaves = 0 if np.isnan(difference) else round(difference / 12)
        if abs(difference - 12 * n_octaves) > 0.6:
            left_out.append(f"{recording.name}: sounds {difference:+.1f} semitones from its name")
            continue
        if n_octaves:  # more often a mistake of ours than of the name
            left_out.append(f"{recording.name}: seems to sound {12 * n_octaves:+d} semitones from its name; kept")
        kept.append(replace(recording, pitch=recording.pitch + shift))
    if not kept:
        raise DataError("no sample is left to learn from: " + "; ".join(left_out[:3]))
    return kept, left_out


def _octaves_of_layers(recordings: Sequence[Recording], off: Doubles) -> dict[int, int]:
    """By how many octaves the names of whole layers are off, by velocity: who named them heard an overtone."""
    found = {}
    for velocity in sorted({r.velocity for r in recordings}):
        layer = off[[r.velocity == velocity for r in recordings]]
        octaves = np.rint(layer[~np.isnan(layer)] / 12).astype(int)
        counts = Counter(octaves[np.abs(layer[~np.isnan(layer)] - 12 * octaves) < 0.6].tolist())
        n, count = counts.most_common(1)[0] if counts else (0, 0)
        if n and count >= max(_LEAST_OF_LAYER, 0.8 * len(layer)):
            found[velocity] = n
    return found


def note_hz(recording: Recording) -> float:
    """Nominal frequency."""
    return float(pitch_hz(recording.pitch))
