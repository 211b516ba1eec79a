"""One sound against another: level, time, pitch, brightness and width of what they have in common.

| error | definition | unit | range |
|---|---|---|---|
| log_mel_db | mean difference of audible cells, spectrum.log_mel_error | dB | 0 up, to 60 if nothing is added |
| loudness_lu | difference of integrated loudness, ITU-R BS.1770-4 | LU | 0 to about 70 |
| attack_seconds | how far rises lie apart, median over onsets | s | 0 to 0.05 |
| pitch_cents | distance of the strongest partials, median over onsets | cent | 0 to 60 |
| centroid_octaves | distance of the spectral centroids, mean over frames | octave | 0 to 4 |
| width | difference of the side channel's share of the power | none | 0 to 1 |

0 is best in all of them; none has a sign. What the reference holds and the rendering does not (silence) costs the end
of the range. nan stands where the reference itself has nothing to compare: no onset, no clear pitch, no sound.

Only the first claims to measure quality. A sine for each note has every pitch and nearly every attack right, and one
loud noise can have the right loudness: the others say what is wrong, not how good it is. Levels are taken as they are;
whoever wants them not to count aligns them before. The shorter sound is continued by silence.
"""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Reals
from miao.evaluation.notes import peak_difference, pitch_peaks
from miao.evaluation.transcription import merged_onsets
from miao.measuring.attack import attack_time
from miao.sound import spectrum
from miao.sound.loudness import ABSOLUTE_GATE_LUFS, Loudness
from miao.sound.spectrum import SAMPLE_RATE

LONGEST_LAG_SECONDS = 0.05
FARTHEST_CENTS = 60.0  # beyond which pitch_difference takes two partials for different ones
FARTHEST_OCTAVES = 4.0
PITCH_SECONDS = 0.8  # of sound after an onset that pitches are measured in
MOST_PITCHES = 24  # onsets at which they are measured, evenly taken from all
RISE_FFT, RISE_HOP = 512, 128  # of the envelope of rises
RISE_EDGES_HZ = np.geomspace(86, 16_000, 22)
RISE_SMOOTHING = np.hanning(7)[1:-1] / 3
AUDIBLE_RISE = 0.03  # part of the loudest level that an onset of the reference must rise by to count
MISSING_RISE = 0.25  # an onset that rises by less than this part of the reference's is missing
SILENT = 1e-5  # peak


@dataclass(frozen=True)
class SoundErrors:
    """Distances of two sounds; see above for units and ranges."""

    log_mel_db: float
    loudness_lu: float
    attack_seconds: float
    pitch_cents: float
    centroid_octaves: float
    width: float


def sound_errors(reference: Reals, rendered: Reals, onsets: Reals | None = None) -> SoundErrors:
    """All errors of one rendering.

    onsets  when notes start, seconds, in any order; None: both sounds are one note

    Shapes: [channels, S] at 44.1 kHz, one or two channels each.
    """
    n = max(reference.shape[1], rendered.shape[1])
    reference, rendered = (np.pad(x, ((0, 0), (0, n - x.shape[1]))) for x in (reference, rendered))
    starts = None if onsets is None else merged_onsets(onsets)
    return SoundErrors(
        spectrum.log_mel_error(spectrum.log_mel(reference), spectrum.log_mel(rendered)),
        loudness_error(reference, rendered),
        attack_error(reference, rendered, starts),
        pitch_error(reference, rendered, np.zeros(1) if starts is None else starts),
        centroid_error(reference, rendered),
        width_error(reference, rendered),
    )


def loudness_error(reference: Reals, rendered: Reals) -> float:
    """Distance of the integrated loudnesses, LU. What is under the gate of -70 LUFS counts as -70."""
    levels = []
    for sound in (reference, rendered):
        meter = Loudness(SAMPLE_RATE, len(sound))
        meter.add(sound)
        levels.append(max(meter.integrated(), ABSOLUTE_GATE_LUFS))
    return abs(levels[1] - levels[0])


def attack_error(reference: Reals, rendered: Reals, onsets: Reals | None = None) -> float:
    """How far the rendering's attacks lie from the reference's, seconds, 0 to 0.05.

    With onsets the median of `rise_lags`; without, both are one note, whose attack_time are compared.
    """
    if onsets is not None:
        lags = np.abs(rise_lags(reference, rendered, onsets))
        return float(np.median(lags)) if len(lags) else float("nan")
    if np.abs(reference).max(initial=0.0) < SILENT:
        return float("nan")
    if np.abs(rendered).max(initial=0.0) < SILENT:
        return LONGEST_LAG_SECONDS
    return min(abs(attack_time(rendered) - attack_time(reference)), LONGEST_LAG_SECONDS)


def rise_lags(reference: Reals, rendered: Reals, onsets: Reals) -> Doubles:
    """By how much the rendering's rise comes after the reference's (before: negative) at each onset, seconds.

    The rise is the growth of level from frame to frame (every 2.9 ms), falls left out, smoothed over five frames; the
    level is a root of the amplitude, mean over 21 bands. The lag is where the rises of the reference within 50 ms of
    the onset correlate best with the rendering's, at most 50 ms away. Notes that are only softer in their attack lag by
    about a third of what it is longer, as they do by attack_time, if other notes sound already; out of silence by
    less. Onsets that hardly rise in the reference are left out; a rise that is missing in the rendering counts as 50
    ms.
    """
    reach = round(LONGEST_LAG_SECONDS * SAMPLE_RATE / RISE_HOP)
    theirs, ours = (np.pad(_rise(x), 2 * reach) for x in (reference, rendered))
    found = []
    for onset in np.asarray(onsets):
        frame = round(float(onset) * SAMPLE_RATE / RISE_HOP) + 2 * reach
        wanted = theirs[frame - reach : frame + reach + 1]
        around = ours[frame - 2 * reach : frame + 2 * reach + 1]
        if len(around) <= 4 * reach or wanted.sum() < AUDIBLE_RISE:
            continue
        if around.sum() < MISSING_RISE * wanted.sum():
            found.append(LONGEST_LAG_SECONDS)
            continue
        candidates = np.lib.stride_tricks.sliding_window_view(around, len(wanted))  # [lags, frames]
        likeness = candidates @ wanted / np.sqrt(np.square(candidates).sum(axis=1) + 1e-12)
        found.append((_peak(likeness) - reach) * RISE_HOP / SAMPLE_RATE)
    return np.array(found)


def pitch_error(reference: Reals, rendered: Reals, onsets: Reals) -> float:
    """Median over up to 24 onsets of notes.pitch_difference in the 0.8 s from there, cents.

    Onsets at which the reference has no clear partial are left out; where the rendering has none of its partials within
    60 cents, 60 count. It tells how well what is there is tuned, not whether a note is missing: that is F1's business.
    """
    n = round(PITCH_SECONDS * SAMPLE_RATE)
    found = []
    for onset in np.asarray(onsets)[:: max(-(-len(onsets) // MOST_PITCHES), 1)]:
        first = round(float(onset) * SAMPLE_RATE)
        theirs, ours = reference[:, first : first + n], rendered[:, first : first + n]
        if np.abs(theirs).max(initial=0.0) < SILENT:
            continue
        peaks = pitch_peaks(theirs)
        if np.isnan(peak_difference(peaks, peaks)):
            continue
        cents = peak_difference(peaks, pitch_peaks(ours)) if np.abs(ours).max() >= SILENT else float("nan")
        found.append(FARTHEST_CENTS if np.isnan(cents) else cents)
    return float(np.median(found)) if found else float("nan")


def centroid_error(reference: Reals, rendered: Reals) -> float:
    """Mean distance of the spectral centroids, octaves, each frame weighted by its magnitude in the reference.

    A frame without sound in the rendering counts as 4 octaves, which is also the most a frame can count.
    """
    theirs, weight = centroids(reference)
    ours, loudness = centroids(rendered)
    if weight.max(initial=0.0) < SILENT:
        return float("nan")
    apart = np.abs(np.log2(np.maximum(ours, 1.0) / np.maximum(theirs, 1.0)))
    apart = np.where(loudness < SILENT * weight.max(), FARTHEST_OCTAVES, np.minimum(apart, FARTHEST_OCTAVES))
    return float(np.average(apart, weights=weight))


def centroids(samples: Reals) -> tuple[Doubles, Doubles]:
    """Spectral centroid (Hz) of each frame and the sum of its magnitudes, two of [frames].

    The mean frequency, weighted by magnitude, over the frames of spectrum.log_mel, as librosa has it, but of the
    channels' mean power rather than of their sum. 0 Hz in silence.
    """
    power = _power(samples, spectrum.FRAME_SAMPLES, spectrum.HOP_SAMPLES)
    magnitude = np.sqrt(power)
    hz = np.arange(magnitude.shape[1]) * SAMPLE_RATE / spectrum.FRAME_SAMPLES
    total = magnitude.sum(axis=1)
    return magnitude @ hz / np.maximum(total, 1e-12), total


def width_error(reference: Reals, rendered: Reals) -> float:
    """Difference of the stereo widths; silence against sound is 1."""
    theirs, ours = stereo_width(reference), stereo_width(rendered)
    return 1.0 if np.isnan(ours) and not np.isnan(theirs) else abs(ours - theirs)


def stereo_width(samples: Reals) -> float:
    """The share of the side channel, (L - R) / 2, in the power of mid and side: 0 to 1; nan in silence.

    0 is mono, 0.5 two unrelated channels or one alone, 1 opposite phases. It does not tell left from right.
    """
    if np.abs(samples).max(initial=0.0) < SILENT:
        return float("nan")
    if len(samples) == 1:
        return 0.0
    left, right = np.asarray(samples, np.float64)
    middle, side = np.square(left + right).sum(), np.square(left - right).sum()
    return float(side / (middle + side))


def _rise(samples: Reals) -> Doubles:
    """Growth of level from frame to frame, mean over bands, as a part of the loudest level: [frames]."""
    bins = np.unique(np.rint(RISE_EDGES_HZ * RISE_FFT / SAMPLE_RATE).astype(int))
    power = np.add.reduceat(_power(samples, RISE_FFT, RISE_HOP)[:, : bins[-1]], bins[:-1], axis=1)
    level = power**0.25
    level /= max(level.mean(axis=1).max(), 1e-9)
    rise = np.maximum(np.diff(level, axis=0, prepend=level[:1]), 0).mean(axis=1)
    return np.convolve(rise, RISE_SMOOTHING, "same")


def _power(samples: Reals, size: int, hop: int) -> Doubles:
    """Power in Hann frames, centred every `hop`, mean over channels: [channels, S] -> [frames, size / 2 + 1]."""
    window = (np.hanning(size + 1)[:-1] * 2 / size).astype(np.float32)
    padded = np.pad(np.asarray(samples, np.float32), ((0, 0), (size // 2, size)))
    n_frames = samples.shape[1] // hop + 1
    power = np.zeros((n_frames, size // 2 + 1))
    for channel in padded:
        frames = np.lib.stride_tricks.sliding_window_view(channel, size)[::hop][:n_frames]
        power += np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / len(samples)
    return power


def _peak(values: Reals) -> float:
    """The place of the highest value, between the samples by a parabola."""
    at = int(np.argmax(values))
    if not 0 < at < len(values) - 1:
        return float(at)
    a, b, c = values[at - 1 : at + 2]
    return at + 0.5 * float((a - c) / min(a - 2 * b + c, -1e-12))
