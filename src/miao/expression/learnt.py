"""What a net says of a score: level of each note and tempo of each beat, learnt from pianists.

The net is the paper's MidiEncoder (Eq. 1 to 4) over an image of the score in beats instead of seconds, once forwards
and once backwards in time, as a player reads ahead; a small head adds what the rules and the reading say of a note or
beat. Trained by `miao.training.pianists`; runs in ONNX Runtime.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers, Numbers, Reals, Records
from miao.bank.frames import FRAME_SECONDS, FRAMES_PER_TOKEN, WINDOW_FRAMES, encode_frames
from miao.errors import BankError
from miao.expression.beats import bar_positions
from miao.expression.reading import Reading
from miao.expression.rules import RULES, Deviation, Timeline
from miao.midi.score import notes_array

ROWS_A_QUARTER = 8
WINDOW_QUARTERS = WINDOW_FRAMES // ROWS_A_QUARTER  # 128
HOP_QUARTERS = WINDOW_QUARTERS // 2
TOKENS_A_QUARTER = ROWS_A_QUARTER // FRAMES_PER_TOKEN
LEVEL_RULES = ("high_loud", "phrase_arch", "duration_contrast", "melodic_charge", "accents", "balance")
TEMPO_RULES = ("phrase_arch", "duration_contrast", "double_duration", "faster_uphill", "melodic_charge", "punctuation",
               "final_ritard")  # fmt: skip
N_NOTE_FEATURES = len(LEVEL_RULES) + 13
N_BEAT_FEATURES = len(TEMPO_RULES) + 9
# Rules that the net stands in for. The last slowing stays a rule: it is what the net is shyest of.
LEARNT = frozenset({*LEVEL_RULES, *TEMPO_RULES} - {"punctuation", "final_ritard"})
# From what the net expects to what one plays: it spreads by 2.4 dB and 1.8 %, pianists by 5 dB and 11 %.
LEVEL_GAIN, TEMPO_GAIN = 1.3, 2.5
FOLDER = Path(__file__).parent / "pianists"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the net would do; both with mean 0."""

    level: NDArray[np.float64]  # [n] dB, of the reading's notes
    beats: NDArray[np.float64]  # [b + 1] quarters
    tempo: NDArray[np.float64]  # [b] natural logarithm


@dataclass(frozen=True, eq=False)
class Page:
    """A score as the net reads it."""

    notes: Records  # NOTE, in rows of the image as seconds; pitched only
    which: NDArray[np.int64]  # of the reading's notes
    quarter: NDArray[np.float64]  # of their starts
    note_features: NDArray[np.float32]  # [k, N_NOTE_FEATURES]
    beats: NDArray[np.float64]  # [b + 1]
    beat_features: NDArray[np.float32]  # [b, N_BEAT_FEATURES]

    def image(self, first_quarter: float) -> NDArray[np.float32]:
        """x_m of the window from a quarter on, [channels, T, N]."""
        start = first_quarter * ROWS_A_QUARTER * FRAME_SECONDS
        stop = start + WINDOW_FRAMES * FRAME_SECONDS
        inside = (self.notes["start"] < stop) & (self.notes["damp"] > start)
        return encode_frames(self.notes[inside], start)


def page_of(reading: Reading, timeline: Timeline, beats: NDArray[np.float64]) -> Page:
    """The net's input for a score and its beats."""
    which = np.flatnonzero(~reading.is_drum)
    notes = notes_array(len(which))
    scale = ROWS_A_QUARTER * FRAME_SECONDS
    starts, ends = reading.quarter[which], reading.pulse.quarters(reading.end[which])
    notes["start"], notes["end"], notes["damp"] = starts * scale, ends * scale, ends * scale
    notes["pitch"], notes["velocity"] = reading.pitch[which], 64
    deviations = {name: RULES[name](reading, timeline) for name in {*LEVEL_RULES, *TEMPO_RULES}}
    levels = np.stack([deviations[name].level[which] for name in LEVEL_RULES], axis=1) / 2
    stretches = [_in_beats(timeline, deviations[name].stretch, beats) for name in TEMPO_RULES]
    return Page(
        notes, which, starts, np.column_stack([levels, _note_features(reading, which)]).astype(np.float32), beats,
        np.column_stack([np.stack(stretches, axis=1) * 10, _beat_features(reading, which, beats)]).astype(np.float32),
    )  # fmt: skip


def _note_features(reading: Reading, which: Integers) -> Floats:
    """Thirteen numbers of each note, about -2 to 2."""
    pitch, start = reading.pitch[which], reading.start[which]
    interval = np.clip(reading.next_start[which] - start, 0.02, 8)
    length = np.clip(reading.end[which] - start, 0.02, 8)
    size = np.bincount(reading.chord)[reading.chord[which]]
    around = _moving_mean(pitch, 24)
    density = np.searchsorted(start, start + 1.0) - np.searchsorted(start, start - 1.0)
    since, bar, _ = bar_positions(reading.quarter[which], reading.bars)
    return np.stack([
        reading.is_tune[which] * 1.0, reading.is_top[which] * 1.0, reading.is_bottom[which] * 1.0,
        reading.weight[which], np.log2(interval), np.log2(length), np.log2(size), (pitch - 60) / 12,
        (pitch - around) / 12, np.clip(pitch - reading.previous_pitch[which], -12, 12) / 6, np.log2(density + 1) - 3,
        since / bar, reading.quarter[which] / max(reading.end_quarter, 1),
    ], axis=1)  # fmt: skip


def _beat_features(reading: Reading, which: Integers, beats: Doubles) -> Reals:
    """Nine numbers of each beat, about -2 to 2."""
    quarter, pitch = reading.quarter[which], reading.pitch[which]
    n = len(beats) - 1
    cell = np.clip(np.searchsorted(beats, quarter + 1e-6, side="right") - 1, 0, n - 1)
    count = np.bincount(cell, minlength=n)
    moments = np.bincount(cell[np.diff(quarter, prepend=-1) > 1e-3], minlength=n)
    height = np.bincount(cell, pitch, minlength=n) / np.maximum(count, 1)
    height = np.where(count > 0, height, pitch.mean() if len(pitch) else 60)
    since, bar, _ = bar_positions(beats[:-1], reading.bars)
    borders = np.array([p.start for p in reading.phrases] or [0.0])
    to_next = np.append(borders, reading.end_quarter)[np.searchsorted(borders, beats[:-1], side="right")] - beats[:-1]
    return np.stack([
        np.log2(count + 1) - 2, np.log2(moments + 1) - 1, np.log2(_moving_mean(count, 4) + 1) - 2, (height - 60) / 12,
        (height - _moving_mean(height, 8)) / 12, since / bar, np.minimum(to_next, 8) / 4,
        np.minimum(reading.end_quarter - beats[:-1], 12) / 6, np.minimum(beats[:-1], 12) / 6,
    ], axis=1)  # fmt: skip


def windows_of(page: Page) -> NDArray[np.float64]:
    """The first quarters of the windows that cover a page; of each its middle half is used."""
    first = -HOP_QUARTERS / 2
    n = max(int(np.ceil((page.beats[-1] + 1 - first) / HOP_QUARTERS)), 1)
    return first + HOP_QUARTERS * np.arange(n, dtype=np.float64)


def as_pianists(reading: Reading, timeline: Timeline) -> Deviation:
    """What the net would do, as a deviation from the score. Raises: BankError if the net is not there."""
    said = predict(reading, timeline)
    tempo = np.interp(timeline.middles, (said.beats[1:] + said.beats[:-1]) / 2, TEMPO_GAIN * said.tempo)
    none = Deviation.none(reading, timeline)
    return Deviation(LEVEL_GAIN * said.level, np.expm1(-tempo), none.delay, none.gap)


def predict(reading: Reading, timeline: Timeline) -> Prediction:
    """What the shipped net makes of a score. Raises: BankError if it is not there or cannot be loaded."""
    first = np.floor(min(reading.quarter.min(), 0.0))
    beats = np.arange(first, max(np.floor(reading.quarter.max()) + 1, first + 1) + 1.0)  # one beat at least
    return predict_page(page_of(reading, timeline, beats), reading.n, _net())


Net = Callable[..., list[AnyArray]]
"""The arrays that `predict_page` tells of, to what it reads out of them."""


def predict_page(page: Page, n: int, net: Net) -> Prediction:
    """What a net makes of a page of a score with n notes; `net` is called with images [B, channels, T, N], for each
    note and each beat its window and token, and their features, and gives levels and tempi."""
    firsts = windows_of(page)
    level, tempo = np.zeros(n), np.zeros(len(page.beats) - 1)
    for at in range(0, len(firsts), 4):
        some = firsts[at : at + 4]
        low, high = some[0] + HOP_QUARTERS / 2, some[-1] + 3 * HOP_QUARTERS / 2
        low = -np.inf if at == 0 else low
        k = np.flatnonzero((page.quarter >= low) & (page.quarter < high))
        b = np.flatnonzero((page.beats[:-1] >= low) & (page.beats[:-1] < high))
        images = np.stack([page.image(first) for first in some])
        note_place = _places(page.quarter[k], some)
        beat_place = _places(page.beats[:-1][b], some)
        levels, tempi = net(images, note_place, page.note_features[k], beat_place, page.beat_features[b])
        level[page.which[k]], tempo[b] = levels, tempi
    level[page.which] -= level[page.which].mean() if len(page.which) else 0.0
    return Prediction(level, page.beats, tempo - tempo.mean())


def _places(quarters: Doubles, firsts: Doubles) -> NDArray[np.int64]:
    """Of moments the window in whose middle they lie, and the token that holds them: window x L + token."""
    window = np.clip(np.floor((quarters - firsts[0] - HOP_QUARTERS / 2) / HOP_QUARTERS), 0, len(firsts) - 1)
    tokens = WINDOW_QUARTERS * TOKENS_A_QUARTER
    token = np.floor((quarters - firsts[window.astype(int)]) * TOKENS_A_QUARTER + 1e-6)
    places: Integers = (window * tokens + np.clip(token, 0, tokens - 1)).astype(np.int64)
    return places


@cache
def _net() -> Net:
    import onnxruntime

    path = FOLDER / "net.onnx"
    if not path.exists():
        raise BankError(f"{path}: the learnt part of expression is not installed; use the rules")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    n_channels = session.get_inputs()[0].shape[1]  # those that it was trained on; new ones come after them

    def run(images: AnyArray, *arrays: AnyArray) -> list[AnyArray]:
        told = zip(names, (images[:, :n_channels], *arrays), strict=True)
        found: list[AnyArray] = session.run(None, dict(told))
        return found

    return run


def _in_beats(timeline: Timeline, stretch: Doubles, beats: Doubles) -> Reals:
    """The mean stretch in each beat."""
    total = np.concatenate([[0.0], np.cumsum(timeline.lengths * stretch)])
    plain = np.interp(beats, timeline.quarters, timeline.seconds)
    longer = np.interp(beats, timeline.quarters, total)
    stretches: Reals = np.diff(longer) / np.maximum(np.diff(plain), 1e-3)
    return stretches


def _moving_mean(x: Numbers, n: int) -> Reals:
    total = np.concatenate([[0.0], np.cumsum(x)])
    i = np.arange(len(x))
    low, high = np.maximum(i - n, 0), np.minimum(i + n + 1, len(x))
    means: Reals = (total[high] - total[low]) / np.maximum(high - low, 1)
    return means
