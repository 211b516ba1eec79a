"""A voice's surface from its recorded notes: what notes around a key and strength have in common (`bank.surface`).

Recorded notes of one instrument differ from their neighbours by 4 to 7 dB a partial, so that the nearest one is a poor
guess at a key that was not recorded, and what many have in common a better one. Each key's spectrum is therefore a mean
over notes around it, weighted by a Gaussian of the distances in pitch and strength: half the mean of their levels, half
the median, as single notes stick out. How far it reaches, and whether partials keep their numbers or formants their
frequencies when a note is moved, is chosen by leaving out one recorded pitch after another; and as the errors of ways
that are about as good are partly their own, as many of the best are averaged as come nearer so. How a partial goes on
is measured with what it does beside its neighbours, which few notes have in common: courses are spread over as many
neighbouring cells as come nearer so.

What is left is no chance alone: bodies and rooms are louder at some frequencies than at others, a tenth of a tone
apart, and partials of different notes that lie at one frequency have that in common (correlations of 0.4 to 0.8 an
octave apart). So what is left is collected over the frequency, and added where a partial of any key lies, if that helps
at pitches left out.
"""

from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import Doubles, Flags, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.key_gains import VELOCITIES
from miao.bank.lasting import CHUNK_SECONDS, FIRST_CHUNK, KNOT_SECONDS, STEADY_CHUNK, OwnCourse, as_offsets
from miao.bank.surface import Surface, nodes_of
from miao.bank.voices import MODES, PITCH_NODES, SEMITONES_A_NODE, VoiceTable
from miao.datasets.voice_notes import VoiceNotes
from miao.training.courses import held_chunks, played_db
from miao.training.key_gains import AS_LOUD
from miao.training.note_features import STEADY, NoteFeatures, features_of

REACHES = (2.5, 4.0, 7.0)  # semitones
FORMANTS = (0.0, 0.5, 1.0)  # how far formants keep their frequencies
MOST_WAYS = 4  # that are averaged
SPREADS = (0.0, 0.7, 1.0, 2.0)  # cells, standard deviation, that courses are spread over
_ASKED = 48  # notes, how far courses are spread, at most
FIELD_SEMITONES, FIELD_LEAST = 0.2, 2.0  # reach of what is collected over the frequency, and notes that say no
_FIELD_STEP = 0.05
_FIELD_CELLS = tk.N_SINGLE  # above them several harmonics share a cell
_MOST_LEFT = 6.0  # levels
_HEARD = 34.0  # levels below a note's loudest cell
_ANCHORS = (1, 32, 64, 96, 127)  # strengths beyond those recorded, at which the program says what changes
_APART = 8
_DENSE = 8  # of velocity: no two strengths are further apart
_MOST_CHANGE = 10.0  # levels, from a recorded strength to one of these
_PASSES = 8
_EVERY = 4  # step of an attack: as far apart as those of a sustain chunk
LEAST_FALL_DB = 1.5  # a second, of notes that die away
_MIDDLE_SECONDS = tk.ATTACK_SECONDS + (FIRST_CHUNK - 0.5) * CHUNK_SECONDS  # of the chunk that is repeated
_LOG_HARMONICS = np.log2(tk.CELL_HARMONICS) * 12  # semitones


@dataclass(frozen=True)
class _Way:
    """How a surface is made."""

    semitones: float
    formants: float


def fit_surface(
    bank: Bank, data: VoiceNotes, program: int, *, lasts: bool, averages: bool = False
) -> tuple[Surface, OwnCourse | None]:
    """The surface of measured notes; beyond the recorded strengths it changes as the program does. And, if notes die
    away, how they go on when it ends. If it ``averages``, it does so over several ways, and over cells in courses."""
    notes = features_of(data, lasts)
    is_harmonic = data.kind != MODES
    ways, field = _chosen(notes, is_harmonic, MOST_WAYS if averages else 1)
    spread = _spread(_chosen_spread(notes, ways[0]) if averages and is_harmonic else 0.0)
    even = replace(notes, spectrum=notes.spectrum - _field_at(field, notes.pitch))
    layers = np.unique(notes.velocity)
    lowest, highest = int(notes.pitch.min()), int(notes.pitch.max())
    keys = np.arange(lowest, highest + 1)
    all_notes = np.ones(len(notes.pitch), bool)
    places = [(key, v) for key in keys.tolist() for v in layers.tolist()]
    spectrum = np.array([_averaged([_spectrum(even, *place, way, all_notes) for way in ways]) for place in places])
    spectrum = spectrum.reshape(len(keys), len(layers), -1) + _field_at(field, keys)[:, None]
    strengths, spectrum = _with_all_strengths(bank, program, keys, layers, spectrum)
    spectrum[:, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
    nodes = lowest + SEMITONES_A_NODE * np.arange(nodes_of(len(keys)))
    course, falls = [], []
    for node in nodes.tolist():
        course.append([_averaged([_goes_on(notes, node, v, way, all_notes) for way in ways]) for v in layers.tolist()])
        if notes.is_released.any():
            let_go = [notes.near(node, v, ways[0].semitones, notes.is_released) for v in layers.tolist()]
            falls.append([_median(notes.falls[which], weight) for which, weight in let_go])
    surface = Surface(
        np.array([lowest], np.uint8), (strengths / 127).astype(np.float32),
        np.clip(spectrum, 0, tk.N_LEVELS - 1).astype(np.float16), (layers / 127).astype(np.float32),
        _kept(np.array(course) @ spread), _kept(np.array(falls)) if falls else None,
    )  # fmt: skip
    return surface, None if lasts else _course(bank, program, notes, ways[0], surface)


def _course(bank: Bank, program: int, notes: NoteFeatures, way: _Way, surface: Surface) -> OwnCourse:
    """How notes die away after the surface, by what recordings say; where these have ended each cell falls on as it
    did, by 1.5 dB a second at least. Beyond the recorded keys it becomes the program's."""
    apart = np.diff(KNOT_SECONDS)[:, None]
    levels = np.zeros((PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), np.float32)
    for node, own in enumerate(levels):
        pitch = SEMITONES_A_NODE * node
        inside = float(np.clip(pitch, notes.pitch.min(), notes.pitch.max()))
        for n in range(1, len(own)):
            is_known = ~np.isnan(notes.late[:, n, 0])
            far = (np.abs(notes.pitch - inside) > 3 * way.semitones) | ~is_known
            rate = (own[n - 1] - own[n - 2]) / apart[n - 2] if n > 1 else np.zeros(tk.N_CELLS, np.float32)
            own[n] = own[n - 1] + apart[n - 1] * np.minimum(rate, -LEAST_FALL_DB / tk.LEVEL_STEP_DB)
            if not far.all():
                weight = np.exp(-0.5 * ((notes.pitch - inside) / way.semitones) ** 2) * ~far
                which = np.flatnonzero(weight)
                own[n] = np.minimum(_median(notes.late[which, n], weight[which] / weight.sum()), own[n - 1])
        own[0] = own[1] * (KNOT_SECONDS[0] - _MIDDLE_SECONDS) / (KNOT_SECONDS[1] - _MIDDLE_SECONDS)
        theirs = None if bank.courses is None else bank.courses.at(program, float(pitch))
        if theirs is not None:
            share = float(surface.share(np.array([pitch]))[0])
            own[:] = share * own + (1 - share) * theirs
    levels[:, :, tk.PITCH_CELL] = 0
    return OwnCourse(as_offsets(levels))


def _kept(levels: Doubles) -> np.ndarray:
    return np.clip(levels, 1 - tk.N_LEVELS, tk.N_LEVELS - 1).astype(np.float16)


# --- what they have in common -----------------------------------------------------------------------------------


def _median(values: Floats, weight: Doubles) -> Floats:
    """The weighted median over the first axis."""
    order = np.argsort(values, axis=0)
    ranked = np.take_along_axis(values, order, axis=0)
    reached = np.cumsum(weight[order], axis=0)
    middle = (reached >= 0.5 - 1e-9).argmax(axis=0)
    found: Floats = np.take_along_axis(ranked, middle[None], axis=0)[0]
    return found


def _common(values: Floats, weight: Doubles) -> Floats:
    """Half the weighted mean over the first axis, half the median."""
    return (0.5 * np.tensordot(weight, values, 1) + 0.5 * _median(values, weight)).astype(np.float32)


def _moved(spectrum: Floats, semitones: Integers, formants: float) -> Floats:
    """Spectra [n, C] of notes that are played higher by semitones, their formants where they were as far as said."""
    if not formants:
        return spectrum
    out = spectrum.copy()
    for step in np.unique(semitones):
        rows = semitones == step
        place = np.interp(_LOG_HARMONICS + formants * step, _LOG_HARMONICS, np.arange(tk.N_PARTIALS))
        low = np.minimum(place.astype(np.int64), tk.N_PARTIALS - 2)
        share = (place - low).astype(np.float32)
        own = spectrum[rows]
        out[rows, : tk.N_PARTIALS] = (1 - share) * own[:, low] + share * own[:, low + 1]
    return out


def _spectrum(notes: NoteFeatures, pitch: float, velocity: float, way: _Way, among: Flags) -> Floats:
    """The spectrum of a key at a strength, [C], by some of the notes."""
    which, weight = notes.near(pitch, velocity, way.semitones, among)
    moved = _moved(notes.spectrum[which], np.rint(pitch - notes.pitch[which]).astype(np.int64), way.formants)
    return _common(moved, weight)


def _goes_on(notes: NoteFeatures, pitch: float, velocity: float, way: _Way, among: Flags) -> Floats:
    """The course of a key at a strength, [knots, C], by some of the notes."""
    which, weight = notes.near(pitch, velocity, way.semitones, among)
    return _common(notes.course[which], weight)


def _averaged(found: list[Floats]) -> Floats:
    """The mean of what several ways say."""
    mean: Floats = np.mean(found, axis=0, dtype=np.float32)
    return mean


def _spread(cells: float) -> Floats:
    """What spreads levels over neighbouring cells, of partials and of noise apart, [C, C]; the pitch cell stays."""
    place = np.arange(tk.N_CELLS)
    part = np.digitize(place, (tk.N_PARTIALS, tk.PITCH_CELL))
    near = np.exp(-0.5 * np.square((place[:, None] - place) / max(cells, 0.01))) * (part[:, None] == part)
    spread: Floats = (near / near.sum(axis=0)).astype(np.float32)
    return spread


def _chosen_spread(notes: NoteFeatures, way: _Way) -> float:
    """Over how many cells courses are spread that predict those of pitches left out best."""
    some = np.linspace(0, len(notes.pitch) - 1, min(len(notes.pitch), _ASKED)).round().astype(int)
    levels = notes.spectrum[some, None, : tk.PITCH_CELL]
    own = levels + notes.course[some][..., : tk.PITCH_CELL]
    pitches, velocities = notes.pitch[some].tolist(), notes.velocity[some].tolist()
    said = np.array([_goes_on(notes, p, v, way, notes.pitch != p) for p, v in zip(pitches, velocities, strict=True)])
    least = np.maximum(own.max(axis=(1, 2), keepdims=True) - _HEARD, 1)
    errors = []
    for spread in SPREADS:
        spoken = levels + (said @ _spread(spread))[..., : tk.PITCH_CELL]
        left = np.maximum(own, least) - np.maximum(spoken, least)
        errors.append(_error(left, (own > least) | (spoken > least)))
    return SPREADS[int(np.argmin(errors))]


def _said(notes: NoteFeatures, way: _Way) -> Floats:
    """What notes at other pitches say of the spectrum of each, [n, C - 1]."""
    said = np.zeros_like(notes.spectrum[:, : tk.PITCH_CELL])
    for pitch, velocity in {(int(p), int(v)) for p, v in zip(notes.pitch, notes.velocity, strict=True)}:
        at = (notes.pitch == pitch) & (notes.velocity == velocity)
        said[at] = _spectrum(notes, pitch, velocity, way, notes.pitch != pitch)[: tk.PITCH_CELL]
    return said


def _left(notes: NoteFeatures, said: Floats) -> tuple[Floats, Flags]:
    """What notes have more than is said of them [n, C - 1], their own loudness aside, [n, C], and which cells are heard
    in either; what is not heard counts as the least that would be, as sound is judged."""
    cells = notes.spectrum[:, : tk.PITCH_CELL]
    least = np.maximum(cells.max(axis=1, keepdims=True) - _HEARD, 1)
    heard = cells > least
    own = [
        np.median(row[is_heard]) if is_heard.any() else 0.0 for row, is_heard in zip(cells - said, heard, strict=True)
    ]
    said = said + np.array(own, np.float32)[:, None]
    left = np.maximum(cells, least) - np.maximum(said, least)
    pitch_cell = ((0, 0), (0, 1))
    return np.pad(left.astype(np.float32), pitch_cell), np.pad(heard | (said > least), pitch_cell)


def _error(left: Floats, heard: Flags) -> float:
    """Mean over notes of the mean difference over heard cells, levels."""
    return float(
        np.mean([np.abs(row[is_heard]).mean() for row, is_heard in zip(left, heard, strict=True) if is_heard.any()])
    )


def _chosen(notes: NoteFeatures, is_harmonic: bool, most: int) -> tuple[list[_Way], Doubles | None]:
    """The ways whose mean predicts pitches left out best, the best one first, and what is collected over the frequency
    if it helps there."""
    ways = [_Way(reach, formants) for reach in REACHES for formants in (FORMANTS if is_harmonic else (0.0,))]
    said = [_said(notes, way) for way in ways]
    order = np.argsort([_error(*_left(notes, each)) for each in said], kind="stable")[:most].tolist()
    found = [_left(notes, _averaged([said[i] for i in order[: n + 1]])) for n in range(len(order))]
    best = int(np.argmin([_error(*pair) for pair in found]))
    left, heard = found[best]
    chosen = [ways[i] for i in order[: best + 1]]
    if not is_harmonic:
        return chosen, None
    without = left.copy()
    for pitch in np.unique(notes.pitch):
        at = notes.pitch == pitch
        without[at] -= _field_at(_field(notes.pitch[~at], left[~at], heard[~at]), notes.pitch[at])
    helps = _error(without, heard) < _error(left, heard)
    return chosen, _field(notes.pitch, left, heard) if helps else None


def _field(pitch: Integers, left: Floats, heard: Flags) -> Doubles:
    """What partials have more than expected, by their frequency: levels every `_FIELD_STEP` semitones from pitch 0."""
    n = round(200 / _FIELD_STEP)
    place = np.rint((pitch[:, None] + _LOG_HARMONICS[None, :_FIELD_CELLS]) / _FIELD_STEP).astype(np.int64).ravel()
    counts = heard[:, :_FIELD_CELLS].astype(np.float64).ravel()
    more = np.clip(left[:, :_FIELD_CELLS], -_MOST_LEFT, _MOST_LEFT).ravel() * counts
    reach = np.arange(-4 * FIELD_SEMITONES, 4 * FIELD_SEMITONES + _FIELD_STEP / 2, _FIELD_STEP)
    near = np.exp(-0.5 * np.square(reach / FIELD_SEMITONES))
    total, weight = (np.convolve(np.bincount(place, x, n), near, "same") for x in (more, counts))
    return total / (weight + FIELD_LEAST)


def _field_at(field: Doubles | None, pitch: Integers) -> Floats:
    """What a field adds to spectra of notes, [n, C]."""
    out = np.zeros((len(pitch), tk.N_CELLS), np.float32)
    if field is not None:
        places = (pitch[:, None] + _LOG_HARMONICS[None, :_FIELD_CELLS]) / _FIELD_STEP
        out[:, :_FIELD_CELLS] = np.interp(places, np.arange(len(field)), field)
    return out


def _with_all_strengths(
    bank: Bank, program: int, keys: Integers, layers: Integers, spectrum: Floats
) -> tuple[Integers, Floats]:
    """Strengths from the softest to the hardest, and spectra [keys, strengths, C]: beyond those recorded as much more
    or less of each cell as the program has; those of gains are among them."""
    more = [v for v in _ANCHORS if v < layers[0] - _APART or v > layers[-1] + _APART]
    strengths = np.array(sorted([*more, *layers.tolist()]))
    taught = {v: _program_spectrum(bank, program, keys, float(v)) for v in {*more, int(layers[0]), int(layers[-1])}}
    columns: list[Floats] = []
    for v in strengths.tolist():
        nearest = int(np.abs(layers - v).argmin())
        column = spectrum[:, nearest].copy()
        if v in more:
            change = taught[v] - taught[int(layers[nearest])]
            column += np.where(column < 0.5, 0, np.clip(change, -_MOST_CHANGE, _MOST_CHANGE))
        columns.append(column)
    at = np.union1d(
        strengths, [*VELOCITIES, *range(_DENSE, 128, _DENSE)]
    )  # between spectra far apart levels in dB sum up to less than either
    low = np.clip(np.searchsorted(strengths, at, side="right") - 1, 0, len(strengths) - 2)
    share = ((at - strengths[low]) / (strengths[low + 1] - strengths[low]))[:, None]
    found = np.stack(columns, axis=1)  # [keys, strengths, C]
    return at, ((1 - share) * found[:, low] + share * found[:, low + 1]).astype(np.float32)


def as_loud(table: VoiceTable, surface: Surface) -> Surface:
    """The surface as loud at each strength, in its first second, as at the one nearest to `AS_LOUD`: how loud strokes
    are is said by gains (`bank.key_gains`), in straight lines that would miss a strength between two of theirs."""
    usual = int(np.abs(surface.strengths - AS_LOUD / 127).argmin())
    for _ in range(_PASSES):  # what lies near silence moves by less than it is told
        loud = _first_second(table, surface)  # [keys, strengths]
        spectrum = surface.spectrum.astype(np.float32)
        change = np.where(spectrum < 0.5, 0, ((loud[:, usual, None] - loud) / tk.LEVEL_STEP_DB)[:, :, None])
        change[:, :, tk.PITCH_CELL] = 0
        spectrum = np.clip(spectrum + change, 0, tk.N_LEVELS - 1)
        surface = replace(surface, spectrum=spectrum.astype(np.float16))
    return surface


def _first_second(table: VoiceTable, surface: Surface) -> Doubles:
    """How loud the first second of each key is at each strength, dB, [keys, strengths]."""
    n_keys, n = surface.spectrum.shape[:2]
    nothing, loud = np.zeros((n, tk.CHUNK_STEPS, tk.N_CELLS), np.float32), np.zeros((n_keys, n))
    for row in range(n_keys):
        key = int(surface.lowest[0]) + row
        note = np.full(n, float(key)), surface.strengths
        parts = [surface.led(tk.ATTACK, nothing, *note, np.zeros(n, np.int64), None)[:, ::_EVERY]]
        parts += [surface.led(tk.SUSTAIN, nothing, *note, np.full(n, i), None) for i in range(STEADY_CHUNK)]
        second = np.concatenate(parts, axis=1)[:, : round(1 / tk.STEP_SECONDS[tk.SUSTAIN])]
        loud[row] = [played_db(table, 0, key, tokens) for tokens in second]
    return loud


def _program_spectrum(bank: Bank, program: int, keys: Integers, velocity: float) -> Floats:
    """The steady spectrum of a program's keys, [keys, C]."""
    chunks = np.concatenate(held_chunks(bank, program, keys, velocity, 2), axis=1)
    spectrum: Floats = chunks[:, STEADY].mean(axis=1)
    return spectrum
