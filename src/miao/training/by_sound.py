"""A voice's surface set by its sound: what recorded notes have more or less of, once it is played, is added to it.

Tokens lose what a frame cannot tell, of a drum skin or a pick most of all, and what several cells of a band sum up to
is no sum of their medians. So the notes that a surface was learnt from are played by it, and the median difference of
the log-mel spectra, band by band, is what is missing: while notes begin, while they are held, after they are let go. A
key gets the weighted median of the notes around it; a cell what the bands of its partials, or those within its noise
band, are missing. Whether all of it is added, half or nothing is chosen by pitches that are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import shifted
from miao.bank.surface import ATTACK_KNOTS, N_RELEASE, RELEASE_KNOTS, SUSTAIN_KNOTS, Surface
from miao.bank.voices import MODES, SEMITONES_A_NODE, VoiceTable
from miao.datasets.samples import Recording
from miao.datasets.voice_notes import VoiceNotes
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.key_levels import band_medians, cell_shifts
from miao.training.surface import fit_surface

MOMENTS = (0.05, tk.ATTACK_SECONDS, 0.8)  # seconds between which differences are taken, then the hold's end
PASSES = 2  # of playing: what is added to a cell is heard in several bands, so that some is missing still
SHARES = (0.0, 0.5, 1.0)
_N, _LATER = len(MOMENTS) + 2, len(MOMENTS)  # moments: two of the attack, two while held, one let go
_NOTES, _LEFT_OUT = 60, 40  # that are played, at most
_LEAST_PITCHES, _EVERY, _FROM = 6, 4, 1  # pitches that there must be to leave some out, and which
_FEW = 40  # notes
_SEMITONES = 8.0  # reach
_CLEARLY = 0.01  # of an error, by which averages must be nearer
_SAY_NO = 2.0  # notes that say nothing is missing
_MOST_DB = 15.0
_EARLY, _LATE = 5, 14  # steps of the attack: up to the first, and from the second on
_GAINS_DB = np.arange(-6, 7.0)


@dataclass(frozen=True, eq=False)
class _Missing:
    """What notes lack as a voice plays them."""

    pitch: Integers  # [n]
    bands: Floats  # [n, moments, N_MELS] dB; NaN where a band is not heard

    def at(self, key: float) -> Floats:
        """What a key lacks, [moments, N_MELS]."""
        weight = np.exp(-0.5 * np.square((self.pitch - key) / _SEMITONES))[:, None, None] * ~np.isnan(self.bands)
        order = np.argsort(self.bands, axis=0)
        reached = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
        middle = (reached >= 0.5 * reached[-1]).argmax(axis=0)[None]
        ranked = np.nan_to_num(np.take_along_axis(self.bands, order, axis=0))
        found = np.take_along_axis(ranked, middle, axis=0)[0] * reached[-1] / (reached[-1] + _SAY_NO)
        if not reached[-1][_LATER].any():  # no note was held so long
            found[_LATER] = found[_LATER - 1]
        return np.asarray(found, np.float32)


def surface_voice(
    bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording], program: int, *, lasts: bool,
    tries_averages: bool = False,
) -> LearntVoice:  # fmt: skip
    """The voice led by what measured notes have in common, set by the sound of the same notes as they were recorded.

    ``voice`` has the voice table of the notes and what nets are told. Beyond the recorded strengths it changes as the
    program does. Surfaces that average (`training.surface`) are tried if that is asked for, which takes twice as long.
    """
    pitch = np.array([r.pitch for r in recordings])
    known, all_notes = np.unique(pitch), np.arange(len(pitch))
    if len(known) < _LEAST_PITCHES:
        return _led(bank, voice, data, all_notes, program, lasts)
    errors = np.zeros((1 + tries_averages, len(SHARES)))
    for learnt, out in _left_out(pitch):
        for averages in range(len(errors)):
            trial = _led(bank, voice, data, learnt, program, lasts, bool(averages))
            found = _set(bank, trial, data, recordings, _some(learnt, _NOTES), 1.0)
            between = [_between(trial, found, share) for share in SHARES]
            errors[averages] += [_error(bank, one, data, recordings, out) for one in between]
    averages = errors[-1].min() < (1 - _CLEARLY) * errors[0].min()
    share = SHARES[int(errors[int(averages)].argmin())]
    whole = _led(bank, voice, data, all_notes, program, lasts, bool(averages))
    return _set(bank, whole, data, recordings, _some(all_notes, _NOTES), share) if share else whole


def left_out_error(
    bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording], program: int, *, lasts: bool
) -> float:
    """Mean log-mel error (dB) of notes at pitches left out, led by what the others have in common; nan if there are too
    few pitches."""
    pitch = np.array([r.pitch for r in recordings])
    if len(np.unique(pitch)) < _LEAST_PITCHES:
        return float("nan")
    parts = _left_out(pitch)
    errors = [
        _error(bank, _led(bank, voice, data, learnt, program, lasts), data, recordings, out) for learnt, out in parts
    ]
    return float(np.average(errors, weights=[len(out) for _, out in parts]))


def _left_out(pitch: Integers) -> list[tuple[Integers, Integers]]:
    """Notes that are learnt from, and those to choose by; where there are few, each pitch is left out once."""
    known, parts = np.unique(pitch), []
    for first in range(_EVERY) if len(pitch) <= _FEW else (_FROM,):
        is_out = np.isin(pitch, known[first::_EVERY])
        parts.append((np.flatnonzero(~is_out), _some(np.flatnonzero(is_out), _LEFT_OUT)))
    return parts


def _led(
    bank: Bank, voice: LearntVoice, data: VoiceNotes, which: Integers, program: int, lasts: bool, averages: bool = False
) -> LearntVoice:
    """The voice led by some of the notes."""
    surface, course = fit_surface(bank, data.chosen(which.tolist()), program, lasts=lasts, averages=averages)
    about = voice.about | {"lasts": "yes" if lasts else "no"}
    return replace(voice, surface=surface, course=course, about=about)


def played(bank: Bank, recording: Recording, voice: int) -> Floats:
    """A note as a voice of the bank plays it, [2, S]; up to where the recording ends if that was cut off."""
    score = one_note_score(0, recording.pitch, recording.velocity, recording.hold_seconds)
    sound = play(bank, score, voice=voice)
    return sound if recording.is_released else sound[:, : recording.sound.shape[1]]


def _some(which: Integers, most: int) -> Integers:
    return which[np.linspace(0, len(which) - 1, min(len(which), most)).round().astype(np.int64)]


def _between(before: LearntVoice, after: LearntVoice, share: float) -> LearntVoice:
    """A voice between two whose surfaces differ."""
    a, b = before.surface, after.surface
    assert a is not None and b is not None

    def mixed(name: str) -> NDArray[np.float16]:
        x, y = getattr(a, name), getattr(b, name)
        return np.asarray((1 - share) * x.astype(np.float32) + share * y.astype(np.float32), np.float16)

    falls = None if a.falls is None else mixed("falls")
    return replace(before, surface=replace(a, spectrum=mixed("spectrum"), course=mixed("course"), falls=falls))


def _error(bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording], which: Integers) -> float:
    """Mean log-mel error of some notes at the gain that suits all of them best, dB."""
    ours = played_mels(bank, voice, data, recordings, which)
    errors = [
        [spectrum.log_mel_error(recordings[i].mel, mel + gain) for gain in _GAINS_DB]
        for i, mel in zip(which, ours, strict=True)
    ]
    return float(np.mean(errors, axis=0).min())


def played_mels(
    bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording], which: Integers
) -> list[Floats]:
    """Log-mel spectrograms of notes as a voice plays them, each as far out of tune as it was recorded: a partial that
    lies beside its band would be taken for one that is too loud, and one that is missing."""
    player = bank.with_voices([_out_of_tune(voice, data.fits[i].tune_cents) for i in which])
    numbers = len(bank.table.kind) + np.arange(len(which))
    return [spectrum.log_mel(played(player, recordings[i], int(n))) for i, n in zip(which, numbers, strict=True)]


def _out_of_tune(voice: LearntVoice, cents: float) -> LearntVoice:
    if int(voice.table.kind[0]) == MODES:
        return voice
    return replace(voice, table=replace(voice.table, tune_cents=np.full_like(voice.table.tune_cents, cents)))


def _set(
    bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording], which: Integers, share: float
) -> LearntVoice:
    """The voice with a share of what some notes lack as it plays them."""
    surface, pitch = voice.surface, np.array([recordings[i].pitch for i in which])
    assert surface is not None
    total = np.zeros((len(which), _N, spectrum.N_MELS), np.float32)
    for _ in range(PASSES):
        ours = played_mels(bank, voice, data, recordings, which)
        both = zip(which, ours, strict=True)
        total += np.array([_lacks(recordings[i].mel, mel, recordings[i].hold_seconds) for i, mel in both])
        found = _Missing(pitch, np.clip(share * total, -_MOST_DB, _MOST_DB))
        voice = replace(voice, surface=_with(voice.table, surface, found))
    return voice


def _lacks(theirs: Floats, ours: Floats, hold_seconds: float) -> Floats:
    """What a log-mel spectrogram lacks against another one, [moments, N_MELS]: medians over the frames of a moment in
    which a band is audible in either; NaN where there are few."""
    difference = spectrum.audible_difference(theirs, ours)
    time = np.arange(len(difference)) * spectrum.HOP_SAMPLES / SAMPLE_RATE
    moment = np.where(time > hold_seconds, _N - 1, np.digitize(time, MOMENTS))
    return np.stack([band_medians(difference[moment == k], np.nan) for k in range(_N)])


def _with(table: VoiceTable, surface: Surface, missing: _Missing) -> Surface:
    """The surface with what its keys lack."""
    lowest = int(surface.lowest[0])
    keys = lowest + np.arange(len(surface.spectrum))
    nodes = np.minimum(lowest + SEMITONES_A_NODE * np.arange(len(surface.course)), keys[-1])
    shifts = np.zeros((len(keys), _N, tk.N_CELLS), np.float32)
    for n, key in enumerate(keys.tolist()):
        shifts[n, :, : tk.PITCH_CELL] = cell_shifts(table, 0, key, missing.at(key))
    spectra = shifted(surface.spectrum.astype(np.float32), shifts[:, None, 2, : tk.PITCH_CELL])
    at = shifts[nodes - lowest]  # [nodes, moments, C]
    course, falls = surface.course.astype(np.float32), surface.falls
    course += np.einsum("km,nmc->nkc", _course_shares(course.shape[2]), at)[:, None]
    if falls is not None:
        since = np.minimum(np.tile(RELEASE_KNOTS, N_RELEASE) / RELEASE_KNOTS[2], 1.0)
        since[len(RELEASE_KNOTS) :] = 1.0
        moved = since[:, None] * (at[:, 4] - at[:, 3])[:, None]  # [nodes, knots, C]
        falls = _kept(falls.astype(np.float32) + moved[:, None])
    return replace(surface, spectrum=spectra.astype(np.float16), course=_kept(course), falls=falls)


def _kept(levels: Floats) -> NDArray[np.float16]:
    """Differences of levels as a voice's file holds them."""
    return np.clip(levels, -tk.N_LEVELS, tk.N_LEVELS).astype(np.float16)


def _course_shares(n_knots: int) -> Doubles:
    """How much of what each moment lacks is added at each knot of a course, [knots, moments], against its spectrum."""
    attack = np.interp(ATTACK_KNOTS, (_EARLY, _LATE), (0.0, 1.0))
    later = np.interp(SUSTAIN_KNOTS, (SUSTAIN_KNOTS[0], SUSTAIN_KNOTS[-1]), (0.0, 1.0))
    n_chunks = (n_knots - len(ATTACK_KNOTS)) // len(SUSTAIN_KNOTS)
    late = np.concatenate([later, np.ones(len(SUSTAIN_KNOTS) * (n_chunks - 1))]) if n_chunks else np.zeros(0)
    shares = np.zeros((n_knots, _N))
    shares[: len(attack), 0], shares[: len(attack), 1] = 1 - attack, attack
    shares[: len(attack), 2] = -1.0
    shares[len(attack) :, 3], shares[len(attack) :, 2] = late, -late
    return shares
