"""Whether notes lie an octave off what sounds: four in five partials of a note are also those of the note an octave
below, so that neither aligning nor fitting notices.

Of a note that sounds as written the partials 1, 3, 5 stand out of what lies beside them; 0.5, 1.5 and 2.5 times its
frequency do if it sounds an octave lower; and if an octave higher, only 2, 4 and 6 do. In the median over the notes of
violins, pianos and quartets as recorded, dB: 18 to 49 at odd partials, -10 to 7 at halves; written an octave too high
20 to 56 at halves; an octave too low -5 to 9 at odd partials, where even ones have 17 to 46. Bells, bars and organs
have partials of their own kinds: of those nothing is said.
"""

from itertools import pairwise

import numpy as np

from miao.arrays import Doubles, Floats, Records
from miao.bank.voices import pitch_hz
from miao.measuring.align import one_channel
from miao.sound.audio import Audio, resample

_RATE, _SIZE, _HOP = 16_000, 4096, 1024
_PARTIALS = ((0.5, 1.5, 2.5), (1.0, 3.0, 5.0), (2.0, 4.0, 6.0))  # halves, odd, even
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7000.0
_SHORTEST_SECONDS, _INTO_SECONDS = 0.12, 0.15
_AROUND_SECONDS = 0.25, 0.05  # in which other notes begin or have not yet ended
_MASKED_CENTS = 60.0
_FEWEST_NOTES, _MOST_NOTES = 6, 300
_CLEAR_DB, _HALVES, _ODD = 12.0, 0.55, 0.3  # shares of the strongest other partials, in dB
# tuned percussion, organs, timpani, drums and effects of General MIDI
_OF_OTHER_KINDS = (*range(8, 21), 47, *range(112, 128))


def octaves_off(samples: Floats, sample_rate: int, notes: Records, among: Records, tuning_cents: float = 0.0) -> int:
    """1 if notes lie an octave (or more) above what sounds, -1 if below; 0 if not, or if it cannot be told.

    ``among`` are all notes that sound, where they sound. Shape: samples [channels, S].
    """
    long = notes["end"] - notes["start"] >= _SHORTEST_SECONDS
    some = notes[long & ~notes["is_drum"] & ~np.isin(notes["program"], _OF_OTHER_KINDS)]
    some = some[:: -(-len(some) // _MOST_NOTES) or 1]
    levels = _spectrogram(resample(Audio(one_channel(samples), sample_rate), _RATE).samples[0])
    among = among[~among["is_drum"]]
    found = np.array([_stand_out(levels, note, among, tuning_cents) for note in some]).reshape(-1, len(_PARTIALS))
    if np.isfinite(found).sum(axis=0).min() < _FEWEST_NOTES:
        return 0
    halves, odd, even = np.nanmedian(found, axis=0).tolist()
    if halves > max(_CLEAR_DB, _HALVES * odd, _HALVES * even):
        return 1
    return -1 if even > _CLEAR_DB and odd < _ODD * even else 0


def _spectrogram(sound: Floats) -> Floats:
    """Levels of frames, dB, [frames, bins]."""
    padded = np.pad(sound, (0, _SIZE))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _SIZE)[::_HOP]
    window = np.hanning(_SIZE).astype(np.float32)
    levels: Floats = np.concatenate([20 * np.log10(np.abs(np.fft.rfft(frames[i : i + 256] * window)) + 1e-6)
                                     for i in range(0, len(frames), 256)]).astype(np.float32)  # fmt: skip
    return levels


def _stand_out(levels: Floats, note: np.void, among: Records, tuning_cents: float) -> Doubles:
    """By how much a note's partials stand out of what lies beside them, dB, means of the halves, odd and even ones that
    no other note has; NaN where all are hidden, or the note lies outside the sound."""
    means = np.full(len(_PARTIALS), np.nan)
    into = min(_INTO_SECONDS, (note["end"] - note["start"]) / 2)
    frame = round(float((note["start"] + into) * _RATE - _SIZE / 2) / _HOP)
    if not 0 <= frame < len(levels):
        return means
    after, before = _AROUND_SECONDS
    beside = (among["start"] < note["start"] + after) & (among["damp"] > note["start"] - before)
    others = np.unique(among["pitch"][beside & (among["pitch"] != note["pitch"])])
    others_hz = np.asarray(pitch_hz(others)) * 2 ** (tuning_cents / 1200)
    hz = float(pitch_hz(int(note["pitch"]))) * 2 ** (tuning_cents / 1200)
    for n, partials in enumerate(_PARTIALS):
        free = [p * hz for p in partials if _LOWEST_HZ < p * hz < _HIGHEST_HZ and not _is_masked(p * hz, others_hz)]
        if free:
            means[n] = np.mean([_peak(levels[frame], partial, hz) for partial in free])
    return means


def _is_masked(hz: float, others_hz: Doubles) -> bool:
    """Whether a partial of other notes lies near a frequency."""
    near = np.maximum(np.rint(hz / others_hz), 1) * others_hz
    return bool((np.abs(1200 * np.log2(hz / near)) < _MASKED_CENTS).any())


def _peak(frame: Floats, hz: float, note_hz: float) -> float:
    """The peak around a frequency against the medians below and above it, up to a fifth of a note's frequency away."""
    place, reach = hz * _SIZE / _RATE, max(0.22 * note_hz * _SIZE / _RATE, 4.0)
    edges = [int(place + share * reach) for share in (-1, -0.5, 0.5, 1)]
    below, _, above = (frame[max(a, 0) : max(b, 1) + 1] for a, b in pairwise(edges))
    low, high = int(place * 2**-0.05), int(np.ceil(place * 2**0.05))
    return float(frame[low : high + 1].max() - max(np.median(below), np.median(above)))
