"""Courses of held notes (`bank.lasting`): what the teacher's notes do up to 30 s, against what the nets' notes repeat.

For each voice and pitch node one note is held for half a minute and measured around the moments of a course. The nets
write the same note up to the chunk that it will repeat. The difference, cell by cell, is the course: after it, a note
has the teacher's level at any time, whatever the nets made of its beginning. Where the teacher goes from one sample to
the next lies between pitch nodes, so how loud held notes are is measured at every key, up to 12 s, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.lasting import CHUNK_SECONDS, KNOT_SECONDS, Courses, as_key_offsets, as_offsets, without_slope
from miao.bank.voices import N_PITCHES, PITCH_NODES, SEMITONES_A_NODE, VoiceTable, pitch_hz
from miao.datasets.notes import PITCHES, Source, render
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.sound.spectrum import SAMPLE_RATE

VELOCITY = 100
FIRSTS = (2, 3, 4)  # sustain chunks from which notes may repeat themselves
FIRST = 2  # where nothing else is said: the nets are close to the teacher at first, and drift from then on
BEGINNINGS = tk.ATTACK_SECONDS + (np.array(FIRSTS) - 0.5) * CHUNK_SECONDS  # middles of the chunks repeated then
NODES = range(7, 37)  # of which notes are measured: pitches 21 to 108
KEY_KNOTS = 5  # knots up to 12 s, at which each key is measured by itself
_WINDOW = 1 << 16  # samples that are listened to around each moment
_SILENT = 1e-5
_SETTLED_DB = 1.5  # between the halves of what is left: such a note is kept at one level, its beating is no course
_DECAYING_DB = 3.0  # between 12 and 30 s: goes on at that rate, others stay
_FLOOR_DB = -130.0
_MOST_RISE_DB = 15.0
_FAINT_DB = -95.0  # what is softer is not corrected
_KEY_ROUNDS = 3
_MOST_KEY_LEVELS = 16.0
_MOST_BIAS_DB = 12.0  # by which a note of the nets may be off when its course begins


def measure_held(
    font: SoundFont, table: VoiceTable, source: Source, voice: int, nodes: Sequence[int] = NODES
) -> Floats:
    """Power around each cell of held notes of a voice, by pitch nodes and moments, dB: [PITCH_NODES, moments, C]; the
    last column, in place of the pitch cell, is the power of all; NaN where the sound bank has no note.

    The moments are those that a course may begin at (`BEGINNINGS`), then its knots but the last. Only differences
    between moments are of use: what lies around a partial's frequency is taken for the partial.
    """
    moments = np.concatenate([BEGINNINGS, KNOT_SECONDS[:-1]])
    levels = np.full((PITCH_NODES, len(moments), tk.N_CELLS), np.nan, np.float32)
    for node in nodes:
        pitch = node * SEMITONES_A_NODE
        sound = render(font, source, pitch, VELOCITY, float(moments[-1] + _WINDOW / SAMPLE_RATE / 2))
        if np.abs(sound[:, :SAMPLE_RATE]).max(initial=0.0) < _SILENT:
            continue
        weights = _cell_weights(table, voice, pitch)
        for n, moment in enumerate(moments):
            width = round(CHUNK_SECONDS * SAMPLE_RATE) if n < len(FIRSTS) else _WINDOW
            first = round(moment * SAMPLE_RATE) - width // 2
            piece = sound[:, max(first, 0) : first + width]
            window = np.hanning(piece.shape[1])
            power = (np.abs(np.fft.rfft(piece * window, _WINDOW, axis=1)) ** 2).mean(axis=0)
            power *= 2 / (_WINDOW * np.square(window).sum())  # now sums to the mean square
            cells = np.append(weights @ power, power.sum())
            levels[node, n] = np.maximum(10 * np.log10(cells + 1e-20), _FLOOR_DB)
    return levels


def measure_held_keys(font: SoundFont, source: Source) -> Floats:
    """Power (dB, mean of the channels) of held notes of every key around the knots up to 12 s: [N_PITCHES, KEY_KNOTS];
    NaN where the sound bank has no note."""
    levels = np.full((N_PITCHES, KEY_KNOTS), np.nan, np.float32)
    window = np.hanning(_WINDOW)
    for pitch in PITCHES:
        sound = render(font, source, pitch, VELOCITY, float(KNOT_SECONDS[KEY_KNOTS - 1] + _WINDOW / SAMPLE_RATE / 2))
        if np.abs(sound[:, :SAMPLE_RATE]).max(initial=0.0) < _SILENT:
            continue
        for n, moment in enumerate(KNOT_SECONDS[:KEY_KNOTS]):
            first = round(moment * SAMPLE_RATE) - _WINDOW // 2
            power = float((np.square(sound[:, first : first + _WINDOW]).mean(axis=0) @ window) / window.sum())
            levels[pitch, n] = max(10 * np.log10(power + 1e-20), _FLOOR_DB)
    return levels


def _cell_weights(table: VoiceTable, voice: int, pitch: int) -> Floats:
    """Which bins of a window's spectrum belong to which cell, [C - 1, bins]: those nearest to its partials, and for
    noise bands those that are far from any."""
    hz = np.arange(_WINDOW // 2 + 1) * SAMPLE_RATE / _WINDOW
    note_hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(20_000 / note_hz)
    at = np.sort(partials.ratios) * note_hz
    order = np.argsort(partials.ratios)
    owner = np.clip(np.searchsorted(0.5 * (at[1:] + at[:-1]), hz), 0, len(at) - 1)
    away = np.abs(hz - at[owner])
    near = away < np.maximum(0.03 * at[owner], 12.0)
    cells = partials.spread.argmax(axis=0)[order]
    weights = np.zeros((tk.N_CELLS - 1, len(hz)), np.float32)
    weights[cells[owner[near]], np.flatnonzero(near)] = 1
    band = np.searchsorted(tk.NOISE_EDGES_HZ, hz) - 1
    for n in range(tk.N_NOISE):
        inside = band == n
        far = inside & ~near
        weights[tk.N_PARTIALS + n, far if far.any() else inside] = 1
    return weights


def prepare_held(
    path: Path, folder: Path, table: VoiceTable, voices: Mapping[int, Source], nodes: Sequence[int] = NODES
) -> Iterator[Path]:
    """`measure_held` of voices, see `measured_once`."""

    def measure(font: SoundFont, voice: int, source: Source) -> dict[str, Floats]:
        return {"levels": measure_held(font, table, source, voice, nodes)}

    return measured_once("held", path, folder, voices, measure)


def prepare_held_keys(path: Path, folder: Path, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_held_keys` of voices, see `measured_once`."""
    return measured_once(
        "heldkeys", path, folder, voices, lambda font, _, source: {"levels": measure_held_keys(font, source)}
    )


def measured_once(
    name: str, path: Path, folder: Path, voices: Mapping[int, Source],
    measure: Callable[[SoundFont, int, Source], dict[str, Floats]],
) -> Iterator[Path]:  # fmt: skip
    """What is measured of the sources of voices in a sound bank, into ``NAME_NNN.npz``, one at a time; what is there is
    kept. Raises: DataError."""
    font = SoundFont(path)
    make_folder(folder, DataError)
    for voice, source in voices.items():
        target = folder / f"{name}_{voice:03d}.npz"
        if not target.exists():
            write_arrays(target, measure(font, voice, source), DataError)
        yield target


def repeated_db(bank: Bank, voice: int, first: int) -> Floats:
    """Power (dB) of the chunk that the nets' notes repeat from sustain chunk ``first`` on, as it is played, trim and
    all, [PITCH_NODES]."""
    pitches = np.clip(np.arange(PITCH_NODES) * SEMITONES_A_NODE, 0, 127)
    chunks = held_chunks(bank, voice, pitches, VELOCITY, first)
    return np.array(
        [played_db(bank.table, voice, int(p), without_slope(c)) for p, c in zip(pitches, chunks[-1], strict=True)]
    )


def held_chunks(bank: Bank, voice: int, pitches: Integers, velocity: float, n_sustain: int) -> list[Floats]:
    """The attack and so many sustain chunks of notes of a voice as nets write them, each [pitches, a, C]."""
    n = len(pitches)
    common = {"voice": np.full(n, voice), "pitch": pitches.astype(np.float32),
              "velocity": np.full(n, velocity / 127, np.float32),
              "context": np.zeros((n, bank.context_width), np.float32)}  # fmt: skip
    chunks: list[Floats] = []
    for i in range(n_sustain + 1):
        kind, index = (tk.SUSTAIN, i - 1) if i else (tk.ATTACK, 0)
        age = tk.ATTACK_SECONDS + index * CHUNK_SECONDS if i else 0.0
        previous = chunks[-1][:, -1] if i else np.zeros((n, tk.N_CELLS), np.float32)
        chunks.append(bank.decode(kind, **common, index=np.full(n, index), age=np.full(n, age, np.float32),
                                  previous=previous)[0])  # fmt: skip
    return chunks


def played_db(table: VoiceTable, voice: int, pitch: int, tokens: Reals) -> float:
    """Mean power (dB re full scale, mean of the channels) of tokens [n, C] as they are played."""
    spread = table.partials(voice, pitch).below(20_000 / float(pitch_hz(pitch))).spread
    partials = tk.level_to_amplitude(tokens[:, : tk.N_PARTIALS] @ spread)
    noise = tk.level_to_amplitude(tokens[:, tk.N_PARTIALS : tk.PITCH_CELL])
    power = np.square(partials).sum(axis=1) / 2 + np.square(noise).sum(axis=1)
    return float(10 * np.log10(power.mean() + 1e-20)) + table.trim(voice, pitch)


def course(held: Floats, repeated_db: Reals, first: int) -> Floats:
    """The offsets of one voice, [PITCH_NODES, knots, C] levels, from `measure_held` and `repeated_db`.

    Nodes without notes lie between their neighbours, beyond the outermost as those.
    """
    known = np.flatnonzero(~np.isnan(held[:, 0, 0]))
    place = np.interp(np.arange(PITCH_NODES), known, np.arange(len(known)))
    low = place.astype(int)
    share = (place - low).astype(np.float32)[:, None, None]
    some = np.concatenate([held[known], held[known[-1:]]])
    held = (1 - share) * some[low] + share * some[low + 1]
    repeated_db = np.interp(np.arange(PITCH_NODES), known, repeated_db[known])
    begin, knots = held[:, FIRSTS.index(first)], held[:, len(FIRSTS) :].copy()  # [nodes, C], [nodes, knots - 1, C]
    total = knots[..., -1]
    for node in range(PITCH_NODES):
        start = _settled_from(total[node])
        knots[node, start:] = 10 * np.log10(np.mean(10 ** (knots[node, start:] / 10), axis=0))
    falls = total[:, -3] - total[:, -1] > _DECAYING_DB
    share = (KNOT_SECONDS[-1] - KNOT_SECONDS[-2]) / (KNOT_SECONDS[-2] - KNOT_SECONDS[-4])
    beyond = knots[:, -1] - share * falls[:, None] * np.maximum(knots[:, -3] - knots[:, -1], 0)
    moved = np.concatenate([knots, beyond[:, None]], axis=1) - begin[:, None]
    moved = np.minimum(moved, _MOST_RISE_DB)
    moved += np.clip(begin[:, -1] - repeated_db, -_MOST_BIAS_DB, _MOST_BIAS_DB)[:, None, None]
    moved[..., tk.PITCH_CELL] = 0
    levels: Floats = (moved / tk.LEVEL_STEP_DB).astype(np.float32)
    return levels


def _settled_from(total: Reals) -> int:
    """The first knot from which on a note (dB, [knots]) neither rises nor falls, but may beat; the last if it never
    settles."""
    for start in range(1, len(total) - 3):
        halves = np.array_split(10 ** (total[start:] / 10), 2)
        if abs(10 * np.log10(halves[0].mean() / halves[1].mean())) <= _SETTLED_DB:
            return start
    return len(total) - 1


def key_offsets(bank: Bank, voice: int, held: Floats, first: int, offsets: NDArray[np.int8]) -> Floats:
    """What all cells of each key need besides a voice's course, [N_PITCHES, knots] levels, so that the key is as loud
    as was measured (`measure_held_keys`); keys without a note are left as they are."""
    moved = np.zeros((N_PITCHES, len(KNOT_SECONDS)), np.float32)
    known = np.flatnonzero(~np.isnan(held[:, 0]))
    alone = Courses(np.zeros(1, np.int16), np.array([first], np.uint8), offsets[None])
    for pitch, chunk in zip(known.tolist(), held_chunks(bank, voice, known, VELOCITY, first)[-1], strict=True):
        wanted = held[pitch].copy()
        start = _settled_from(wanted)
        wanted[start:] = 10 * np.log10(np.mean(10 ** (wanted[start:] / 10)))
        course, loop = alone.at(0, pitch), without_slope(chunk)
        assert course is not None
        course[:, tk.PITCH_CELL] = 0
        for _ in range(_KEY_ROUNDS):  # levels end at silence, so that what is added is not quite what is gained
            for n, db in enumerate(wanted):
                if db < _FAINT_DB:
                    moved[pitch, n] = moved[pitch, n - 1] if n else 0
                    continue
                levels = loop + course[n]
                levels[:, : tk.PITCH_CELL] += moved[pitch, n]
                played = played_db(bank.table, voice, pitch, np.clip(levels, 0, tk.N_LEVELS - 1))
                moved[pitch, n] += (db - played) / tk.LEVEL_STEP_DB
        moved[pitch] = np.clip(moved[pitch], -_MOST_KEY_LEVELS, _MOST_KEY_LEVELS)
        moved[pitch, KEY_KNOTS:] = moved[pitch, KEY_KNOTS - 1]
    return moved


def make_courses(bank: Bank, folder: Path, first: Mapping[int, int]) -> Courses:
    """The courses of a bank from a folder of ``held_NNN.npz``. ``first`` says of some voices from which sustain chunk
    on notes repeat themselves; for others it is `FIRST`."""
    row = np.full(len(bank.table.kind), -1, np.int16)
    firsts: list[int] = []
    offsets: list[NDArray[np.int8]] = []
    keys: list[NDArray[np.int8]] = []
    for path in sorted(folder.glob("held_???.npz")):
        voice, held = int(path.stem[5:]), np.load(path)["levels"]
        if voice >= len(row) or np.isnan(held[:, 0, 0]).all():
            continue
        row[voice] = len(firsts)
        firsts.append(first.get(voice, FIRST))
        offsets.append(as_offsets(course(held, repeated_db(bank, voice, firsts[-1]), firsts[-1])))
        by_key, own = folder / f"heldkeys_{voice:03d}.npz", np.zeros((N_PITCHES, len(KNOT_SECONDS)), np.float32)
        if by_key.exists():
            own = key_offsets(bank, voice, np.load(by_key)["levels"], firsts[-1], offsets[-1])
        keys.append(as_key_offsets(own))
    if bank.embeddings is not None and bank.embeddings.row is not None:
        row = row[bank.embeddings.row]  # a voice that is another one at another loudness
    shape = (-1, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS)
    return Courses(
        row, np.array(firsts, np.uint8), np.array(offsets, np.int8).reshape(shape),
        np.array(keys, np.int8).reshape(-1, N_PITCHES, len(KNOT_SECONDS)),
    )  # fmt: skip
