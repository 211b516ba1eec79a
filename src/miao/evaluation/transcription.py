"""Can the notes be heard? A rendered stem is transcribed, and what comes out is compared with what was played.

Definitions. A heard note matches a played one when the pitch is the same MIDI number and the starts are no further
apart than `onset_tolerance` (50 ms); each note matches at most once, and the matching is the largest there is
(`mir_eval.transcription`). For ``f1_with_offset`` the ends must agree too, within 20 % of the played note's length or
50 ms, whichever is more. Precision is the part of the heard notes that match, recall the part of the played ones, F1
their harmonic mean: 0 to 1, 1 is best. mir_eval compares frequencies within 50 cents; as pitches here are whole
semitones, that is equality. For drums only starts are compared (`mir_eval.onset`, 50 ms), those of all keys together.

Where instruments matter, `program_f1` gives MT3's scores (Gardner et al., ICLR 2022): notes match only within their
group, a group being all pitched notes (flat), a class of eight programs (class) or a program (full), and drum strokes
are a group of their own, compared by key and start. Precision and recall are over the notes of all groups. The paper's
MT3 T. is full, with offsets. A transcriber that cannot tell instruments hears stem by stem; `with_program` says whose
each stem is.

A transcriber makes mistakes of its own, so these numbers mean little alone: give the same notes played by another
synthesizer to the same transcriber, and compare. The transcriber, basic-pitch, is a small net for any pitched
instrument (Bittner et al., ICASSP 2022; Apache-2.0), used from the graph in its package, without the rest of it. Two
things differ from the original: its windows overlap by whole frames, so that times need no later correction, and the
notes are decoded by code of our own.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Flags, Floats, Integers, Reals, Records
from miao.errors import DataError
from miao.midi.score import Score
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import HOP_SAMPLES, log_mel
from miao.sound.spectrum import SAMPLE_RATE as SPECTRUM_RATE

HEARD = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "i2")])
"""A note as it is heard: from when to when it sounds, seconds, and its MIDI pitch."""

ATTRIBUTED = np.dtype([*HEARD.descr, ("program", "i2"), ("is_drum", "?")])
"""A note that is heard as an instrument's: HEARD, and which program, or that it is a drum stroke."""

GRANULARITIES = ("flat", "class", "full")

SAMPLE_RATE = 22_050  # of the transcriber
FRAME_SAMPLES = 256
WINDOW_SAMPLES = 43_844
WINDOW_FRAMES = 172
EDGE_FRAMES = 15  # of a window's start that are left to the window before
KEPT_FRAMES = 141  # the most that a window can give, once as many are left out at its end
LOWEST_PITCH, N_PITCHES = 21, 88
SHORTEST_SECONDS = 0.1277  # of a transcribed note; this and the next four as in the original
ONSET_THRESHOLD, FRAME_THRESHOLD = 0.5, 0.3
GAP_FRAMES = 11  # a note goes on over a shorter gap than this
RISE_FRAMES = 2  # over which a rise in activation counts as an onset
_BATCH = 16
_DRUMS = -1  # the group of all drum strokes
_NAMES = ("StatefulPartitionedCall:1", "StatefulPartitionedCall:2")  # of the graph's outputs: note, onset

FLUX_RISE_DB = 1.0  # mean rise over all bands that a drum onset needs, dB a frame
FLUX_FLOOR_DB = 60.0  # what lies further below the loudest cell does not count


@dataclass(frozen=True)
class NoteScore:
    """How a transcription agrees with what was played; all ratios 0 to 1, 1 is best."""

    precision: float
    recall: float
    f1: float  # by starts
    f1_with_offset: float  # by starts and ends
    n_played: int
    n_heard: int


@dataclass(frozen=True)
class ProgramScore:
    """How notes of many instruments agree with what was played; all ratios 0 to 1, 1 is best."""

    granularity: str  # one of GRANULARITIES
    f1: float  # by starts, drums and all
    f1_with_offset: float  # by starts and ends, drums by starts: MT3's "onset + offset + program F1"
    pitched_f1: float  # the same two without drums; 1 if there are none to be played or heard
    pitched_f1_with_offset: float
    drum_f1: float  # drums alone
    n_played: int
    n_heard: int


def as_heard(notes: Records) -> Records:
    """Notes of a score (score.NOTE) as they sound, from `start` to `damp`: HEARD."""
    heard = np.zeros(len(notes), HEARD)
    heard["start"], heard["pitch"] = notes["start"], notes["pitch"]
    heard["end"] = np.maximum(notes["damp"], notes["start"] + 0.001)  # mir_eval takes no note without length
    return heard


def note_f1(reference_notes: Records, estimated_notes: Records, onset_tolerance: float = 0.05) -> NoteScore:
    """Agreement of two note lists (HEARD, any order); two empty ones agree fully, one empty one not at all."""
    n_played, n_heard = len(reference_notes), len(estimated_notes)
    if not n_played or not n_heard:
        value = float(n_played == n_heard)
        return NoteScore(value, value, value, value, n_played, n_heard)
    from mir_eval.transcription import precision_recall_f1_overlap

    sides = [part for notes in (reference_notes, estimated_notes) for part in (_intervals(notes), _hz(notes["pitch"]))]
    precision, recall, f1, _ = precision_recall_f1_overlap(*sides, onset_tolerance=onset_tolerance, offset_ratio=None)
    _, _, with_offset, _ = precision_recall_f1_overlap(*sides, onset_tolerance=onset_tolerance, offset_ratio=0.2)
    return NoteScore(float(precision), float(recall), float(f1), float(with_offset), n_played, n_heard)


def with_program(notes: Records, program: int | NDArray[np.integer], is_drum: bool | Flags = False) -> Records:
    """Notes that were heard in the stem of one instrument (or of several, one for each note), as ATTRIBUTED."""
    attributed = np.zeros(len(notes), ATTRIBUTED)
    for name in HEARD.fields or ():
        attributed[name] = notes[name]
    attributed["program"], attributed["is_drum"] = program, is_drum
    return attributed


def score_notes(score: Score) -> Records:
    """All notes of a score as they sound, each with its program: ATTRIBUTED, sorted by start and pitch."""
    parts = [with_program(as_heard(t.notes), t.notes["program"], t.notes["is_drum"]) for t in score.tracks]
    return np.sort(np.concatenate([np.zeros(0, ATTRIBUTED), *parts]), order=("start", "pitch"))


def program_f1(reference_notes: Records, estimated_notes: Records, granularity: str = "full") -> ProgramScore:
    """MT3's scores of two lists of ATTRIBUTED notes, any order.

    Differs from MT3's program in three points: all drum strokes are one group, whatever the kit; where there is nothing
    to find and nothing is found, a score is 1 rather than 0; and the scores by starts alone are also given by group.
    Raises: ValueError for another granularity.
    """
    if granularity not in GRANULARITIES:
        raise ValueError(f"no granularity {granularity}; there are {', '.join(GRANULARITIES)}")
    sides = (reference_notes, estimated_notes)
    groups = [_groups(notes["program"], notes["is_drum"], granularity) for notes in sides]
    counts = []  # of each group: is drums, notes played, heard, that match by starts, by starts and ends
    for group in np.unique(np.concatenate(groups)):
        played, heard = (notes[g == group] for notes, g in zip(sides, groups, strict=True))
        by_start = n_matching(played, heard, offset_ratio=None)
        by_end = by_start if group == _DRUMS else n_matching(played, heard, offset_ratio=0.2)
        counts.append((group == _DRUMS, len(played), len(heard), by_start, by_end))
    table = np.array(counts, np.int64).reshape(-1, 5)
    pitched, drums = table[table[:, 0] == 0], table[table[:, 0] == 1]
    return ProgramScore(
        granularity, _f1_of(table, 3), _f1_of(table, 4), _f1_of(pitched, 3), _f1_of(pitched, 4), _f1_of(drums, 3),
        len(reference_notes), len(estimated_notes),
    )  # fmt: skip


def n_matching(played: Records, heard: Records, offset_ratio: float | None, onset_tolerance: float = 0.05) -> int:
    """How many notes of two lists can be paired off; with an offset ratio their ends must agree too."""
    if not len(played) or not len(heard):
        return 0
    from mir_eval.transcription import match_notes

    sides = [part for notes in (played, heard) for part in (_intervals(notes), _hz(notes["pitch"]))]
    return len(match_notes(*sides, onset_tolerance=onset_tolerance, offset_ratio=offset_ratio))


def onset_f1(reference: Reals, estimated: Reals, tolerance: float = 0.05) -> float:
    """F1 of two lists of onset times (seconds, rising); 1 if both are empty."""
    if not len(reference) or not len(estimated):
        return float(len(reference) == len(estimated))
    from mir_eval.onset import f_measure

    return float(f_measure(np.asarray(reference), np.asarray(estimated), window=tolerance)[0])


def merged_onsets(starts: Reals, within_seconds: float = 0.03) -> Doubles:
    """Starts in rising order without those that follow one that was kept by less than `within_seconds`."""
    kept: list[float] = []
    for start in np.sort(starts):
        if not kept or start - kept[-1] >= within_seconds:
            kept.append(float(start))
    return np.array(kept)


def flux_onsets(samples: Reals, within_seconds: float = 0.03) -> Doubles:
    """Where drums are struck: peaks of the mean rise of the log-mel spectrogram, seconds.

    A peak is the largest rise within `within_seconds` on both sides, and 1 dB above the median rise around it.
    Shape: [channels, S] at 44.1 kHz.
    """
    level = log_mel(samples)
    level = np.maximum(level, level.max() - FLUX_FLOOR_DB)
    rise = np.zeros(len(level))
    rise[1:] = np.maximum(level[1:] - level[:-1], 0).mean(axis=1)
    frame_seconds = HOP_SAMPLES / SPECTRUM_RATE
    reach = max(round(within_seconds / frame_seconds), 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(rise, reach), 2 * reach + 1)  # [frames, 2 reach + 1]
    wide = np.lib.stride_tricks.sliding_window_view(np.pad(rise, 20, mode="reflect"), 41) if len(rise) > 20 else around
    is_peak = (rise >= around.max(axis=1)) & (rise > np.median(wide, axis=1) + FLUX_RISE_DB)
    # a frame hears a stroke as soon as its window reaches it, and the level rises most in the middle of the window
    return merged_onsets(np.flatnonzero(is_peak) * frame_seconds, within_seconds)


class BasicPitch:
    """The transcriber: called with samples [channels, S] and their rate, it gives the notes heard, HEARD.

    >>> BasicPitch()(audio.samples, audio.sample_rate)  # doctest: +SKIP
    """

    name = "basic-pitch 0.4.0"

    def __init__(self, path: str | Path | None = None, n_threads: int | None = None) -> None:
        """With the graph of the installed basic_pitch package, or another. Raises: DataError if there is none."""
        path = model_path() if path is None else Path(path)
        if path is None or not path.is_file():
            raise DataError(f"{path or 'basic_pitch'} is not there; pip install --no-deps basic-pitch==0.4.0")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads or 0
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, samples: Reals, sample_rate: int) -> Records:
        return decode_notes(*self.activations(samples, sample_rate))

    def activations(self, samples: Reals, sample_rate: int) -> tuple[Floats, Floats]:
        """How surely each pitch sounds and starts at each frame (256 samples at 22,050 Hz): two of [T, 88], 0 to 1."""
        audio = Audio(np.atleast_2d(np.asarray(samples, np.float32)).mean(axis=0, keepdims=True), sample_rate)
        mono = resample(audio, SAMPLE_RATE).samples[0]
        n_frames = len(mono) // FRAME_SAMPLES + 1
        hop = KEPT_FRAMES * FRAME_SAMPLES
        n_windows = -(-n_frames // KEPT_FRAMES)
        padded = np.pad(mono, (EDGE_FRAMES * FRAME_SAMPLES, n_windows * hop + WINDOW_SAMPLES - len(mono)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[: n_windows * hop : hop]
        parts: list[list[Reals]] = [[], []]
        for first in range(0, n_windows, _BATCH):
            outputs = self._session.run(_NAMES, {self._input: windows[first : first + _BATCH, :, None]})
            for part, output in zip(parts, outputs, strict=True):
                part.append(output[:, EDGE_FRAMES : EDGE_FRAMES + KEPT_FRAMES].reshape(-1, N_PITCHES))
        activation, onsets = (np.concatenate(part)[:n_frames] for part in parts)
        return activation, onsets


def model_path() -> Path | None:
    """The graph in the installed basic_pitch package (which is not imported); None if it is not there."""
    package = importlib.util.find_spec("basic_pitch")
    if package is None or not package.submodule_search_locations:
        return None
    return next(Path(package.submodule_search_locations[0]).rglob("nmp.onnx"), None)


def decode_notes(
    activation: Reals,
    onsets: Reals,
    *,
    onset_threshold: float = ONSET_THRESHOLD,
    frame_threshold: float = FRAME_THRESHOLD,
    shortest_seconds: float = SHORTEST_SECONDS,
) -> Records:
    """Notes from activations, two of [T, 88]: HEARD, sorted by start and pitch.

    First from the onsets, the last one first: a note lasts until its pitch has been inactive for 11 frames, and what
    it covers, with the two neighbouring pitches, is used up. Then from what is left, the most active cell first, in
    both directions: notes whose onset was missed. Notes that are too short are dropped.
    """
    shortest = round(shortest_seconds * SAMPLE_RATE / FRAME_SAMPLES)
    onsets = _strengthened(onsets, activation)
    free = np.pad(activation, ((0, 0), (1, 1)))  # [T, 1 + 88 + 1], so that each pitch has two neighbours
    found: list[tuple[int, int, int]] = []
    inner = onsets[1:-1]
    is_peak = (inner > onsets[:-2]) & (inner > onsets[2:]) & (inner >= onset_threshold)
    for before, pitch in np.argwhere(is_peak)[::-1]:
        begin = int(before) + 1
        end = begin + 1 + _active_length(free[begin + 1 :, pitch + 1], frame_threshold)
        if end - begin > shortest:
            free[begin:end, pitch : pitch + 3] = 0
            found.append((begin, end, int(pitch)))
    cells = np.argwhere(free[:, 1:-1] > frame_threshold)
    for middle, pitch in cells[np.argsort(-free[cells[:, 0], cells[:, 1] + 1], kind="stable")]:
        if free[middle, pitch + 1] <= frame_threshold:  # used up in the meantime
            continue
        end = int(middle) + 1 + _active_length(free[middle + 1 :, pitch + 1], frame_threshold)
        begin = int(middle) - _active_length(free[:middle, pitch + 1][::-1], frame_threshold)
        free[begin:end, pitch : pitch + 3] = 0
        if end - begin > shortest:
            found.append((begin, end, int(pitch)))
    frame_seconds = FRAME_SAMPLES / SAMPLE_RATE
    notes = [(begin * frame_seconds, end * frame_seconds, LOWEST_PITCH + pitch) for begin, end, pitch in found]
    return np.sort(np.array(notes, HEARD), order=("start", "pitch"))


def _strengthened(onsets: Reals, activation: Reals) -> Reals:
    """Onsets, and also where the activation rises, on a scale that makes the steepest rise the strongest onset."""
    rise = activation.copy()
    for frames in range(1, RISE_FRAMES + 1):
        rise[frames:] = np.minimum(rise[frames:], activation[frames:] - activation[:-frames])
    rise[:RISE_FRAMES] = 0
    steepest = rise.max(initial=0.0)
    return np.maximum(onsets, rise * (onsets.max() / steepest)) if steepest > 0 else onsets


def _active_length(column: Reals, threshold: float) -> int:
    """How many frames from the first one belong to a note, that is until a gap of GAP_FRAMES."""
    active = np.flatnonzero(column >= threshold)
    gaps = np.diff(active, prepend=-1) > GAP_FRAMES
    last = int(np.argmax(gaps)) if gaps.any() else len(active)
    return int(active[last - 1]) + 1 if last else 0


def _groups(program: NDArray[np.integer], is_drum: Flags, granularity: str) -> Integers:
    width = {"flat": 128, "class": 8, "full": 1}[granularity]
    return np.where(is_drum, _DRUMS, program.astype(np.int64) // width)


def _f1_of(table: Integers, column: int) -> float:
    """F1 over groups: twice the matching notes by all notes played and heard, the harmonic mean of both ratios."""
    n = int(table[:, 1:3].sum())
    return 2 * int(table[:, column].sum()) / n if n else 1.0


def _intervals(notes: Records) -> Doubles:
    return np.stack([notes["start"], notes["end"]], axis=1)


def _hz(pitch: Reals) -> Doubles:
    return 440.0 * 2.0 ** ((pitch.astype(np.float64) - 69) / 12)
