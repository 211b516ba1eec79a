"""Log-mel spectrogram and log-mel error: one definition, used for training, evaluation and pictures.

2048-point Hann frames every 512 samples at 44.1 kHz, 96 mel bands (HTK) from 30 Hz to 16 kHz, power in dB. The two
channels of a stereo sound are averaged as powers, so that opposite phases do not cancel.
"""

from functools import cache

import numpy as np

from miao.arrays import Floats, Reals

SAMPLE_RATE = 44_100
FRAME_SAMPLES = 2048
HOP_SAMPLES = 512
N_MELS = 96
LOW_HZ, HIGH_HZ = 30.0, 16_000.0
AUDIBLE_DB = 60.0  # a cell further than this below the loudest one counts as silent


@cache
def mel_filters(n_mels: int = N_MELS) -> Floats:
    """Triangular filters of equal height over FFT bins, shape [n_mels, FRAME_SAMPLES // 2 + 1].

    A band narrower than two bins takes its nearest bin too, so that no band is empty.
    """
    mel = np.linspace(2595 * np.log10(1 + LOW_HZ / 700), 2595 * np.log10(1 + HIGH_HZ / 700), n_mels + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(FRAME_SAMPLES // 2 + 1) * SAMPLE_RATE / FRAME_SAMPLES
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.clip(np.minimum(rising, falling), 0, None)
    nearest = np.rint(edges[1:-1] * FRAME_SAMPLES / SAMPLE_RATE).astype(int)
    empty = filters.sum(axis=1) == 0
    filters[empty, nearest[empty]] = 1.0
    return filters.astype(np.float32)


def log_mel(samples: Floats, floor_db: float = -140.0, hop_samples: int = HOP_SAMPLES) -> Floats:
    """Mel power in dB of sound at 44.1 kHz; frames are centred, the ends padded with silence.

    Shape: [S] or [channels, S] -> [frames, N_MELS]; a full-scale sine reads about 0 dB in its band.
    """
    samples = np.atleast_2d(np.asarray(samples, np.float32))
    padded = np.pad(samples, ((0, 0), (FRAME_SAMPLES // 2, FRAME_SAMPLES)))
    n_frames = samples.shape[1] // hop_samples + 1
    window = np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)
    window *= 2 / window.sum()
    starts = np.arange(n_frames) * hop_samples
    power = np.zeros((n_frames, FRAME_SAMPLES // 2 + 1), np.float32)
    for channel in padded:
        frames = np.lib.stride_tricks.sliding_window_view(channel, FRAME_SAMPLES)[starts]
        power += np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / len(samples)
    return 10 * np.log10(np.maximum(power @ mel_filters().T, 10 ** (floor_db / 10)))


def log_mel_error(reference: Reals, rendered: Reals, *, clamp: bool = True) -> float:
    """Mean absolute difference of two log-mel spectrograms over audible cells, dB; 0 is best.

    Audible: within 60 dB of the loudest cell of the reference. With ``clamp`` (the default) a cell counts when it is
    audible in either sound, and levels below audibility count as the threshold: missing and added sound both cost,
    what nobody hears does not. Without it only the reference decides which cells count, and levels are taken as they
    are.

    Shapes: [frames, N_MELS] each; the shorter is continued by silence.
    Raises: ValueError if the reference holds no frame.
    """
    if not len(reference):
        raise ValueError("log_mel_error: the reference holds no frame")
    if not clamp:
        reference, rendered = _of_one_length(reference, rendered)
        return float(np.abs(reference - rendered)[reference >= reference.max() - AUDIBLE_DB].mean())
    difference = audible_difference(reference, rendered)
    return float(np.abs(difference[~np.isnan(difference)]).mean())


def audible_difference(reference: Reals, rendered: Reals) -> Reals:
    """What a log-mel spectrogram lacks against the reference, dB, [frames, N_MELS].

    NaN where a cell is audible in neither; levels below audibility count as the threshold, as in `log_mel_error`. The
    shorter is continued by silence.
    """
    reference, rendered = _of_one_length(reference, rendered)
    threshold = reference.max() - AUDIBLE_DB
    is_audible = (reference >= threshold) | (rendered >= threshold)
    return np.where(is_audible, np.maximum(reference, threshold) - np.maximum(rendered, threshold), np.nan)


def _of_one_length(reference: Reals, rendered: Reals) -> tuple[Reals, Reals]:
    n_frames = max(len(reference), len(rendered))
    longer = [np.pad(x, ((0, n_frames - len(x)), (0, 0)), constant_values=-140.0) for x in (reference, rendered)]
    return longer[0], longer[1]
