"""What a list of notes says of its harmony: scale consistency, pitch-class entropy, roughness.

| function | metric | unit | range | better |
|---|---|---|---|---|
| scale_consistency | SC | none | 7/12 (all pitch classes alike) to 1 | neither |
| pitch_class_entropy | PCE | bit | 0 to log2 12 = 3.585 | neither |
| roughness | Hutchinson & Knopoff | none | 0 (one sine) to about 1.5 (a cluster) | neither |

None of them measures quality: they belong to the music. What can be judged is how near a transcription of the rendering
comes to a transcription of the reference; print both, and their difference. (The paper counts higher PCE as better;
noise would win.) Notes are structured arrays with the fields start, end (seconds) and pitch (MIDI): those of a score
(score.NOTE) or of a transcriber (transcription.HEARD). Drum strokes, where a field is_drum tells, do not count. Without
any note SC and PCE are nan: silence has no harmony.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np

from miao.arrays import Integers, Reals, Records

MAJOR = (0, 2, 4, 5, 7, 9, 11)
NATURAL_MINOR = (0, 2, 3, 5, 7, 8, 10)
N_HARMONICS = 11  # of a note, the k-th with amplitude 1/k
_A4_HZ, _A4 = 440.0, 69
_CRITICAL_BANDS_APART = 1.2  # beyond which two partials do not rub


def scale_consistency(notes: Records) -> float:
    """SC: the largest share of notes, weighted by how long they last, that lie in one of the 24 major and minor scales.

    Range: 7/12 where all pitch classes last equally long, to 1; nan without notes. The minor scales are the natural
    ones, so that each has the pitches of a major scale, and 12 sets are compared. Source: Mogren 2016; MusPy has the
    same scales but counts notes; the paper does not say. A note lasts from `start` to `end`; should all have no length,
    they are counted.
    """
    pitched = _pitched(notes)
    if not len(pitched):
        return float("nan")
    lengths = np.maximum(pitched["end"] - pitched["start"], 0.0)
    classes = np.bincount(_classes(pitched), lengths if lengths.sum() > 0 else None, minlength=12)
    scales = [np.add(root, steps) % 12 for root in range(12) for steps in (MAJOR, NATURAL_MINOR)]
    return float(max(classes[scale].sum() for scale in scales) / classes.sum())


def pitch_class_entropy(notes: Records) -> float:
    """PCE: the Shannon entropy of the pitch classes, bits.

    Range: 0 (one pitch class only) to log2 12 = 3.585 (all equally often); nan without notes. Notes are counted,
    however long they are, as in MusPy; Wu & Yang 2020 take it bar by bar and average.
    """
    pitched = _pitched(notes)
    if not len(pitched):
        return float("nan")
    share = np.bincount(_classes(pitched), minlength=12) / len(pitched)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # no -0


def roughness(notes: Records, bend: Reals | float = 0.0) -> float:
    """Sensory dissonance of what sounds together, the mean over the time in which anything sounds.

    Each note stands for 11 harmonics with amplitudes 1/k, whatever plays it and however loud: a property of the score,
    not of a sound. Their spectrum's roughness is `spectrum_roughness`. C4 alone 0.001, C major triad 0.120, C4 with C#4
    0.484, C4 to F#4 all at once 1.37. Without notes 0.

    bend  semitones that the notes lie above their pitch, one for all or one for each: microtones
    """
    is_pitched = ~notes["is_drum"] if "is_drum" in (notes.dtype.names or ()) else np.ones(len(notes), bool)
    pitch = (notes["pitch"] + np.broadcast_to(np.asarray(bend, np.float64), len(notes)))[is_pitched]
    start, end = notes["start"][is_pitched], notes["end"][is_pitched]
    times = np.unique(np.concatenate([start, end]))
    total = sounding = 0.0
    for begin, stop in pairwise(times):
        chord = pitch[(start <= begin) & (end >= stop)]
        if len(chord):
            total += (stop - begin) * _chord_roughness(tuple(sorted(chord.tolist())))
            sounding += stop - begin
    return float(total / sounding) if sounding else 0.0


def spectrum_roughness(hz: Reals, amplitude: Reals) -> float:
    """Roughness of partials: Σ a_i a_j g(y_ij) / Σ a_i², over pairs i < j, y the distance in critical bandwidths.

    g(y) = (4 e y exp(-4 y))², 1 at its highest, y = 1/4, and 0 beyond y = 1.2; a critical band is 1.72 f^0.65 Hz wide
    around the mean f of two partials. Range: 0 up (two equal sines: 0.5 at most); it does not change with the level.
    Source: Hutchinson & Knopoff 1978, after Plomp & Levelt 1965, with the g of Bigand et al. 1996, as in the R packages
    dycon and incon, whose numbers it gives. Sethares' measure (1993) grows with the level.

    Partials at one frequency are to be merged before (powers add). Shapes: [n] each. No partial: 0.
    """
    hz, amplitude = np.asarray(hz, np.float64), np.asarray(amplitude, np.float64)
    energy = float(np.square(amplitude).sum())
    if energy == 0:
        return 0.0
    i, j = np.triu_indices(len(hz), 1)
    apart = np.abs(hz[i] - hz[j]) / (1.72 * ((hz[i] + hz[j]) / 2) ** 0.65)
    rub = np.where(apart <= _CRITICAL_BANDS_APART, np.square(4 * np.e * apart * np.exp(-4 * apart)), 0.0)
    return float((amplitude[i] * amplitude[j] * rub).sum() / energy)


@lru_cache(maxsize=4096)
def _chord_roughness(pitches: tuple[float, ...]) -> float:
    """Roughness of notes that sound together; partials nearer than 1/100 semitone merge."""
    number = np.arange(1, N_HARMONICS + 1)
    pitch = np.add.outer(np.array(pitches), 12 * np.log2(number)).ravel()
    power = np.tile(1 / number**2, len(pitches))
    _, which = np.unique(np.rint(100 * pitch).astype(int), return_inverse=True)
    merged = np.bincount(which, power)
    centre = np.bincount(which, power * pitch) / merged
    return spectrum_roughness(_A4_HZ * 2 ** ((centre - _A4) / 12), np.sqrt(merged))


def _pitched(notes: Records) -> Records:
    return notes[~notes["is_drum"]] if "is_drum" in (notes.dtype.names or ()) else notes


def _classes(notes: Records) -> Integers:
    classes: Integers = np.rint(notes["pitch"]).astype(np.int64) % 12
    return classes
