"""How far partials of a teacher's notes, or of recorded ones, are ahead on the right (`bank.sides`), as sides differ.

The cross spectrum of both sides at each partial, over a held note, says how far. Where it wanders (a chorus, strings
that beat) sides agree in part only; a steady turn whose cosine is as much leaves the same share between the sides.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.bank.partials import Partials
from miao.bank.sides import Sides, Turned
from miao.bank.voices import LEARNT_PITCHES, VoiceTable, pitch_hz
from miao.datasets.notes import HELD_OUT_PITCHES, Source
from miao.datasets.samples import Recording, note_hz
from miao.datasets.soundfont import SoundFont
from miao.measuring.note import fit_frames, frames_around
from miao.measuring.voice_fit import VoiceFit
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import measured_once

VELOCITY = 100
SECONDS = 1.0  # of a held note
KEYS = LEARNT_PITCHES
_SILENT = 1e-5
_LEAST = 0.003  # share of the power between the sides, at some key, that is worth a row
_HOP_SECONDS = 0.02


def turns_of(sound: Floats, hz: float, partials: Partials) -> tuple[Doubles, float]:
    """How far the cells of a note [2, S] are ahead on the right, cycles [N_PARTIALS], and what share of the power of
    its partials that takes to the side."""
    if np.abs(sound[0] - sound[1]).max(initial=0.0) < _SILENT:
        return np.zeros(tk.N_PARTIALS), 0.0
    return _turned(*_sides(sound, hz, partials))


def _sides(sound: Floats, hz: float, partials: Partials) -> tuple[NDArray[np.complex128], Doubles]:
    """Of the cells of a note [2, S] what both sides have in common, and what they would if they did not differ."""
    partials = partials.below(min(0.47 * SAMPLE_RATE, 20_000) / hz)
    spacing = hz * partials.ratios[0] if len(partials.ratios) else hz
    width = 2 * int(SAMPLE_RATE * np.clip(3 / spacing, 0.025, 0.110) / 2)
    centres = np.arange(width // 2, max(sound.shape[1] - width // 2, width // 2 + 1), int(_HOP_SECONDS * SAMPLE_RATE))
    left, right = fit_frames(frames_around(sound, centres, width), SAMPLE_RATE, partials.ratios * hz)[0]
    both, power = (right * left.conj()).sum(axis=0), (np.square(np.abs([left, right]))).sum(axis=1)
    cross = partials.spread @ both
    return cross, np.sqrt(np.prod(power @ partials.spread.T, axis=0))


def _turned(cross: NDArray[np.complex128], alike: Doubles) -> tuple[Doubles, float]:
    cosine = np.clip(cross.real / np.maximum(alike, 1e-30), -1, 1)
    cosine[alike <= 1e-12 * alike.max(initial=0.0)] = 1.0
    turns = np.copysign(np.arccos(cosine) / (2 * np.pi), cross.imag)
    return turns, float((alike * (1 - cosine)).sum() / max(2 * alike.sum(), 1e-30))


def measure_sides(font: SoundFont, table: VoiceTable, voice: int, source: Source) -> Turned | None:
    """How far partials of a program are turned, key by key; None if it sounds from one place. Keys that are held out,
    or not there, have the nearest one's."""
    found: dict[int, Doubles] = {}
    share = 0.0
    for key in (key for key in KEYS if key not in HELD_OUT_PITCHES):
        sound = font.note(source.program, key, VELOCITY, SECONDS, bank=source.bank, tail_seconds=0.0)
        sound = sound[:, : round(SECONDS * SAMPLE_RATE)]
        if np.abs(sound).max(initial=0.0) < _SILENT:
            continue
        found[key], aside = turns_of(sound, float(pitch_hz(key)), table.partials(voice, key))
        share = max(share, aside)
    if share < _LEAST:
        return None
    return _filled(found, KEYS)


def recorded_sides(recordings: Sequence[Recording], fits: Sequence[VoiceFit]) -> Sides | None:
    """How far partials of recorded notes are turned, key by key, by all strengths of the nearest one; None if they
    sound from one place. ``fits`` are those of each note."""
    sums: dict[int, list[tuple[NDArray[np.complex128], Doubles]]] = defaultdict(list)
    for note, fit in zip(recordings, fits, strict=True):
        held = note.sound[:, : round(min(SECONDS, note.hold_seconds) * SAMPLE_RATE)]
        if len(held) == 2 and np.abs(held[0] - held[1]).max(initial=0.0) >= _SILENT:
            cross, alike = _sides(held, note_hz(note), fit.partials())
            loudness = max(float(alike.sum()), 1e-30)  # so that all strengths count
            sums[note.pitch].append((cross / loudness, alike / loudness))
    found = {key: _turned(*(np.sum(part, axis=0) for part in zip(*some, strict=True))) for key, some in sums.items()}
    if max((aside for _, aside in found.values()), default=0.0) < _LEAST:
        return None
    return Sides.of([_filled({key: turns for key, (turns, _) in found.items()}, range(min(found), max(found) + 1))])


def _filled(found: Mapping[int, Doubles], keys: Sequence[int]) -> Turned:
    """Turns of neighbouring keys from those of some, each by the nearest."""
    return Turned(keys[0], np.array([found[min(found, key=lambda known: abs(known - key))] for key in keys]))


def prepare_sides(path: Path, folder: Path, table: VoiceTable, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_sides` of programs, see `courses.measured_once`."""

    def measure(font: SoundFont, voice: int, source: Source) -> dict[str, np.ndarray]:
        found = measure_sides(font, table, voice, source)
        return {} if found is None else {"lowest": np.array(found.lowest), "turns": found.turns}

    return measured_once("sides", path, folder, voices, measure)


def gathered_sides(folder: Path, n_voices: int) -> Sides:
    """The turns of a bank's voices from a folder of ``sides_NNN.npz``."""
    found: list[Turned | None] = [None] * n_voices
    for path in sorted(folder.glob("sides_???.npz")):
        voice = int(path.stem[6:])
        with np.load(path) as file:
            if voice < n_voices and "turns" in file:
                found[voice] = Turned(int(file["lowest"]), file["turns"])
    return Sides.of(found)
