"""Everything that is measured of one piece as one system plays it.

Before anything is compared, the system's mix is brought to the power of the reference's by one gain, which all its
stems get too, so that the level of a system does not count and the balance of its parts does. If the reference is a
recording of a lower bandwidth, the system's sound is limited to it. A transcriber hears stems and mixes at the same
peak.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from miao.arrays import Floats, Reals, Records
from miao.evaluation.distances import (
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    relative_embedding_distance,
)
from miao.evaluation.harmony import pitch_class_entropy, scale_consistency
from miao.evaluation.sound import attack_error, centroid_error, loudness_error, pitch_error, width_error
from miao.evaluation.systems import Piece, Sound
from miao.evaluation.transcription import (
    GRANULARITIES,
    HEARD,
    as_heard,
    flux_onsets,
    merged_onsets,
    note_f1,
    onset_f1,
    program_f1,
    with_program,
)
from miao.files import Json
from miao.midi.notes import notes_array
from miao.midi.score import Track
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error

METRICS_VERSION = 4  # to be raised when a number here changes its meaning
ALIGNMENT = "each system's mix has the power of the reference's; one gain for its mix and stems"
PEAK = 0.5  # at which the transcriber hears
FEWEST_NOTES = 5  # a stem with fewer is not transcribed
SILENT = 1e-5  # a stem of the reference that stays below is not compared
FRECHET_DRAWS = 2  # subsets of each size, of which the extrapolation is made
FEWEST_EMBEDDINGS = 32  # below, sets are not compared
LOWER, HIGHER, NEITHER = "lower", "higher", ""


@dataclass(frozen=True)
class Metric:
    """A number a piece, or a set of pieces."""

    key: str
    title: str
    unit: str  # "" for ratios
    better: str  # LOWER, HIGHER, or NEITHER for what only describes


METRICS = (
    Metric("log_mel_db", "log-mel error, mix", "dB", LOWER),
    Metric("stem_log_mel_db", "log-mel error, stems", "dB", LOWER),
    Metric("loudness_lu", "loudness error, mix", "LU", LOWER),
    Metric("attack_ms", "attack-time error, mix", "ms", LOWER),
    Metric("stem_attack_ms", "attack-time error, stems", "ms", LOWER),
    Metric("pitch_cents", "pitch error, mix", "cents", LOWER),
    Metric("centroid_octaves", "spectral-centroid error, mix", "octaves", LOWER),
    Metric("width", "stereo-width error, mix", "", LOWER),
    Metric("f1_same_heard", "F1 of notes heard against notes heard in the reference, mix", "", HIGHER),
    Metric("stem_f1_same_heard", "F1 of notes heard against notes heard in the reference, stems", "", HIGHER),
    Metric("f1_flat", "F1 of notes heard against the score, onsets, mix", "", HIGHER),
    Metric("f1_onset", "F1 of notes heard against the score, onsets, stems", "", HIGHER),
    Metric("f1_offset", "F1 of notes heard against the score, onsets and offsets, stems", "", HIGHER),
    Metric("mt3_full", "MT3 full F1 (onsets, offsets, programs), all pitched stems", "", HIGHER),
    Metric("mt3_class", "MT3 class F1 (onsets, offsets, classes of programs), all pitched stems", "", HIGHER),
    Metric("mt3_flat", "MT3 flat F1 (onsets, offsets), all pitched stems", "", HIGHER),
    Metric("f1_drums", "F1 of drum onsets, stems", "", HIGHER),
    Metric("sc_error", "scale consistency of notes heard, difference from the reference, mix", "", LOWER),
    Metric("pce_error", "pitch-class entropy of notes heard, difference from the reference, mix", "bit", LOWER),
    Metric("sc", "scale consistency of notes heard, mix", "", NEITHER),
    Metric("pce", "pitch-class entropy of notes heard, mix", "bit", NEITHER),
)
STEM_KEYS = ("stem_log_mel_db", "stem_attack_ms", "stem_f1_same_heard", "f1_onset", "f1_offset", "f1_drums")
"""What is measured stem by stem; of a piece, the mean over its stems."""


@dataclass(frozen=True)
class Tools:
    """What listens: a transcriber (samples, rate -> HEARD) and embedders (samples, rate -> [n, D]) by their names."""

    transcribe: Callable[[Floats, int], Records] | None = None
    embedders: dict[str, Callable[[Floats, int], Floats]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Heard:
    """What is made of a mix."""

    levels: Floats  # log-mel, [frames, N_MELS]
    notes: Records | None  # HEARD; None without a transcriber
    embeddings: dict[str, Floats]  # [n, D], by embedder


@dataclass(frozen=True, eq=False)
class HeardStem:
    """What is made of a stem."""

    levels: Floats
    notes: Records | None  # HEARD; None for drums, few notes, or without a transcriber


@dataclass(frozen=True, eq=False)
class HeardReference:
    """What is made of a piece's own sound; needed once for all systems."""

    mix: Heard
    stems: tuple[HeardStem, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """What one piece gave."""

    values: dict[str, float]  # by metric
    stems: list[Json]  # by stem of the score: track, program, is_drum, n_notes and what was measured
    gain_db: float  # that brought the system to the reference's level
    embeddings: dict[str, Floats]  # of the mix


def listen(mix: Reals, tools: Tools) -> Heard:
    """A mix [2, S], transcribed and embedded."""
    embeddings = {name: embed(mix, SAMPLE_RATE) for name, embed in tools.embedders.items()}
    return Heard(log_mel(mix), transcribed(mix, tools), embeddings)


def listen_to_stem(track: Track, sound: Reals, mix: Reals, heard: Heard, tools: Tools) -> HeardStem:
    """A stem [2, S] of a mix that has been heard; transcribed if it has notes enough, and no drums."""
    is_all = np.array_equal(sound, mix)  # the only stem: nothing is heard twice
    levels = heard.levels if is_all else log_mel(sound)
    if len(track.notes) < FEWEST_NOTES or track.notes["is_drum"].any():
        return HeardStem(levels, None)
    return HeardStem(levels, heard.notes if is_all else transcribed(sound, tools))


def listen_to_reference(piece: Piece, tools: Tools) -> HeardReference:
    """The piece's own mix and stems."""
    mix, stems = piece.reference.mix, piece.reference.stems
    heard = listen(mix, tools)
    tracks = () if stems is None else zip(piece.score.tracks, stems, strict=True)
    return HeardReference(heard, tuple(listen_to_stem(track, stem, mix, heard, tools) for track, stem in tracks))


def transcribed(sound: Reals, tools: Tools) -> Records | None:
    """The notes in a sound, HEARD; none in silence, None without a transcriber."""
    if tools.transcribe is None:
        return None
    loud = at_peak(sound)
    return tools.transcribe(loud, SAMPLE_RATE) if loud.any() else np.zeros(0, HEARD)


def measure(piece: Piece, sound: Sound, tools: Tools, reference: HeardReference) -> Measured:
    """All metrics that can be had of one system's sound of a piece; those that cannot are left out of `values`.

    ``reference`` is what `listen_to_reference` makes of the piece.
    """
    gain = level_gain(piece.reference.mix, sound.mix)
    mix = np.asarray(gain * sound.mix, np.float32)
    is_reference = sound is piece.reference  # what has been heard already
    heard = reference.mix if is_reference else listen(mix, tools)
    values = measure_mix(piece, mix, heard, reference.mix)
    stems, played, found_notes = [], [], []
    if piece.reference.stems is not None and sound.stems is not None:
        rows = zip(piece.score.tracks, piece.reference.stems, sound.stems, reference.stems, strict=True)
        for track, theirs, ours, heard_stem in rows:
            if np.abs(theirs).max(initial=0.0) >= SILENT:
                ours = np.asarray(gain * ours, np.float32)
                heard_ours = heard_stem if is_reference else listen_to_stem(track, ours, mix, heard, tools)
                stems.append(measure_stem(track, theirs, ours, heard_stem, heard_ours))
                if heard_ours.notes is not None:
                    program = int(track.notes["program"][0])
                    played.append(with_program(as_heard(track.notes), track.notes["program"]))
                    found_notes.append(with_program(heard_ours.notes, program))
    if played:
        for granularity in GRANULARITIES:
            score = program_f1(np.concatenate(played), np.concatenate(found_notes), granularity)
            values[f"mt3_{granularity}"] = score.pitched_f1_with_offset
    for key in STEM_KEYS:
        found = [stem[key] for stem in stems if key in stem]
        if found:
            values[key] = float(np.mean(found))
    values = {key: value for key, value in values.items() if np.isfinite(value)}
    return Measured(values, stems, 20 * float(np.log10(gain)), heard.embeddings)


def measure_mix(piece: Piece, mix: Reals, heard: Heard, reference: Heard) -> dict[str, float]:
    """What is measured of a mix at the reference's level."""
    theirs = piece.reference.mix
    values = {
        "log_mel_db": log_mel_error(reference.levels, heard.levels),
        "loudness_lu": loudness_error(theirs, mix),
        "centroid_octaves": centroid_error(theirs, mix),
        "width": width_error(theirs, mix),
    }
    if piece.score.tracks:
        onsets = merged_onsets(np.concatenate([track.notes["start"] for track in piece.score.tracks]))
        values["attack_ms"] = 1000 * attack_error(theirs, mix, onsets)
        values["pitch_cents"] = pitch_error(theirs, mix, onsets)
    if heard.notes is not None and reference.notes is not None:
        values["f1_same_heard"] = note_f1(reference.notes, heard.notes).f1
        played = [track.notes[~track.notes["is_drum"]] for track in piece.score.tracks]
        notes = np.concatenate(played) if played else notes_array(0)
        if len(notes) >= FEWEST_NOTES:
            values["f1_flat"] = note_f1(as_heard(notes), heard.notes).f1
        for key, function in (("sc", scale_consistency), ("pce", pitch_class_entropy)):
            values[key] = function(heard.notes)
            values[f"{key}_error"] = abs(values[key] - function(reference.notes))
    for name, embeddings in heard.embeddings.items():
        if len(embeddings):
            values[f"red/{name}"] = relative_embedding_distance(reference.embeddings[name], embeddings)
    return values


def measure_stem(track: Track, reference: Reals, rendered: Reals, heard: HeardStem, ours: HeardStem) -> Json:
    """What is measured of one stem; ``heard`` and ``ours`` are what is made of the two sounds."""
    notes = track.notes
    is_drum = bool(notes["is_drum"].any())
    stem: Json = {"track": track.name, "program": int(notes["program"][0]), "is_drum": is_drum, "n_notes": len(notes)}
    onsets = merged_onsets(notes["start"])
    stem["stem_log_mel_db"] = log_mel_error(heard.levels, ours.levels)
    stem["stem_attack_ms"] = 1000 * attack_error(reference, rendered, onsets)
    if is_drum and len(notes) >= FEWEST_NOTES:
        stem["f1_drums"] = onset_f1(onsets, flux_onsets(at_peak(rendered)))
    if ours.notes is not None and heard.notes is not None:
        score = note_f1(as_heard(notes), ours.notes)
        stem |= {"f1_onset": score.f1, "f1_offset": score.f1_with_offset, "n_heard": score.n_heard}
        stem["stem_f1_same_heard"] = note_f1(heard.notes, ours.notes).f1
    return {key: value for key, value in stem.items() if not isinstance(value, float) or np.isfinite(value)}


def piece_metrics(embedders: Iterable[str]) -> tuple[Metric, ...]:
    """All metrics of a piece, those of the embedders included."""
    return METRICS + tuple(Metric(f"red/{name}", f"RED ({name}), mix", "", LOWER) for name in embedders)


def set_metrics(embedder: str) -> list[tuple[Metric, Callable[[Reals, Reals], float]]]:
    """The distances between two sets of embeddings, [n, D] each, under their names."""
    return [
        (Metric(f"fad/{embedder}", f"Fréchet distance ({embedder}), mix", "", LOWER), frechet_distance),
        (Metric(f"fad_infinity/{embedder}", f"Fréchet distance at n = ∞ ({embedder}), mix", "", LOWER), _infinity),
        (Metric(f"kad/{embedder}", f"kernel distance ({embedder}), mix", "", LOWER), kernel_distance),
    ]


def _infinity(reference: Reals, rendered: Reals) -> float:
    return frechet_infinity(reference, rendered, draws=FRECHET_DRAWS).value


def limited(sound: Sound, bandwidth_hz: float) -> Sound:
    """The sound without what lies above a frequency."""
    if bandwidth_hz >= SAMPLE_RATE / 2:
        return sound
    stems = None if sound.stems is None else np.stack([band_limited(stem, bandwidth_hz) for stem in sound.stems])
    return Sound(band_limited(sound.mix, bandwidth_hz), stems)


def level_gain(reference: Reals, rendered: Reals) -> float:
    """What a sound is to be multiplied by to have the power of another; 1 for silence."""
    ours, theirs = (float(np.square(x, dtype=np.float64).sum()) for x in (rendered, reference))
    return float(np.sqrt(theirs / ours)) if ours > 1e-12 and theirs > 1e-12 else 1.0


def at_peak(sound: Reals) -> Floats:
    """The sound at the peak at which it is transcribed; silence stays silence."""
    peak = float(np.abs(sound).max(initial=0.0))
    return np.asarray(sound * (PEAK / peak if peak > 1e-6 else 0.0), np.float32)


def band_limited(sound: Reals, bandwidth_hz: float) -> Floats:
    """Samples [2, S] without what lies above a frequency."""
    narrow = resample(Audio(sound, SAMPLE_RATE), round(2 * bandwidth_hz))
    wide = resample(narrow, SAMPLE_RATE).samples
    return np.pad(wide, ((0, 0), (0, max(sound.shape[1] - wide.shape[1], 0))))[:, : sound.shape[1]]
