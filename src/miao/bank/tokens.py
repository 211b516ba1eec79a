"""What an audio token is: one time step of one note, C cells, each one of K levels.

A token holds, in this order, the levels of ``N_PARTIALS`` partial cells, the levels of ``N_NOISE`` noise bands and one
pitch cell. A chunk is ``CHUNK_STEPS`` (the paper's a) tokens. A note is one attack chunk, then sustain chunks until it
is let go, then release chunks until it has died away. A token gives the sound *at* its time; between two tokens
amplitudes run in straight lines.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Numbers, Reals

CHUNK_STEPS = 32  # a, tokens of a chunk
N_LEVELS = 64  # K
N_PARTIALS = 48
N_NOISE = 31
PITCH_CELL = N_PARTIALS + N_NOISE
N_CELLS = PITCH_CELL + 1  # C

LEVEL_STEP_DB = 1.75
LEVEL_TOP_DB = -6.0  # of the highest level, dB re full-scale amplitude
CENTS_STEP = 2.0
CENTS_CENTRE = 32  # the level that means "as the score says"

ATTACK, SUSTAIN, RELEASE = 0, 1, 2  # chunk kinds
STEP_SECONDS = (0.005, 0.020, 0.010)  # by chunk kind
ATTACK_SECONDS = CHUNK_STEPS * STEP_SECONDS[ATTACK]
MAX_CHUNK_INDEX = 15  # later chunks of a kind share this number; their age still tells them apart

_ON_TOKEN = 1e-4  # of a step
N_SINGLE = 24  # harmonics 1..24 have a cell each, the higher ones share
MAX_HARMONIC = 320


def _noise_edges_hz() -> Doubles:
    """Edges of the noise bands, equally wide on the mel scale (HTK) from 30 Hz to 20 kHz, shape [N_NOISE + 1]."""
    mel = np.linspace(2595 * np.log10(1 + 30 / 700), 2595 * np.log10(1 + 20_000 / 700), N_NOISE + 1)
    return 700 * (10 ** (mel / 2595) - 1)


NOISE_EDGES_HZ = _noise_edges_hz()


def _cell_harmonics() -> Doubles:
    """Harmonic number at the centre of each partial cell of a harmonic voice, shape [N_PARTIALS]."""
    growth = (MAX_HARMONIC / N_SINGLE) ** (1 / (N_PARTIALS - N_SINGLE))
    return np.concatenate([np.arange(1, N_SINGLE + 1), N_SINGLE * growth ** np.arange(1, N_PARTIALS - N_SINGLE + 1)])


CELL_HARMONICS = _cell_harmonics()


def harmonic_spread(n_harmonics: int = MAX_HARMONIC) -> Floats:
    """Weights that carry levels (dB) from cells to harmonics 1..n: linear over the logarithm of the harmonic number.

    Shape: [N_PARTIALS, n_harmonics]; each column sums to 1 and has at most two entries.
    """
    position = np.interp(np.log(np.arange(1, n_harmonics + 1)), np.log(CELL_HARMONICS), np.arange(N_PARTIALS))
    cells = np.arange(N_PARTIALS)[:, None]
    weights: Floats = np.clip(1 - np.abs(cells - position[None, :]), 0, 1).astype(np.float32)
    return weights


HARMONIC_SPREAD = harmonic_spread()


def level_to_db(levels: Numbers) -> Reals:
    """Level numbers (0..K-1, fractions allowed) as dB re full scale; level 0 is silence, given as its nominal dB."""
    return LEVEL_TOP_DB + (levels - (N_LEVELS - 1)) * LEVEL_STEP_DB


def db_to_level(db: Reals) -> Reals:
    """dB re full scale as level numbers within 0..K-1, not rounded."""
    levels: Reals = np.clip((db - LEVEL_TOP_DB) / LEVEL_STEP_DB + (N_LEVELS - 1), 0, N_LEVELS - 1)
    return levels


def level_to_amplitude(levels: Reals) -> Floats:
    """Level numbers as linear amplitudes; below half a level there is silence."""
    amplitude = np.exp(level_to_db(levels).astype(np.float32) * np.float32(np.log(10) / 20))
    return np.where(levels < 0.5, np.float32(0), amplitude)


def level_to_cents(levels: Numbers) -> Reals:
    """Levels of the pitch cell as cents."""
    return (levels - CENTS_CENTRE) * CENTS_STEP


def cents_to_level(cents: Doubles) -> Doubles:
    """Cents as levels of the pitch cell within 0..K-1, not rounded."""
    return np.clip(cents / CENTS_STEP + CENTS_CENTRE, 0, N_LEVELS - 1)


def lead_seconds(kind: int, index: Integers) -> Doubles:
    """How long before its first token a chunk is heard: amplitudes run there from the last token of the one before.

    What decides the chunk must be known by then. 0 for an attack and for the first chunk of a release.
    """
    first = {ATTACK: 0.0, SUSTAIN: STEP_SECONDS[ATTACK], RELEASE: 0.0}[kind]
    return np.where(np.asarray(index) == 0, first, STEP_SECONDS[kind])


@dataclass(frozen=True)
class NoteTokens:
    """A note in audio tokens, chunk by chunk.

    ``held``: attack chunk, then sustain chunks. ``release``: chunks from the moment the note is let go. Level numbers
    0..K-1 as uint8 when measured, as float32 when they are expected levels of the model.
    """

    held: NDArray[np.uint8]  # [n chunks, CHUNK_STEPS, C]
    release: NDArray[np.uint8]  # [m chunks, CHUNK_STEPS, C]
    hold_seconds: float


def held_times(n_chunks: int) -> Doubles:
    """Times of the tokens of attack and sustain chunks, seconds from the note's start, shape [n_chunks * 32]."""
    attack = np.arange(CHUNK_STEPS) * STEP_SECONDS[ATTACK]
    sustain = ATTACK_SECONDS + np.arange(max(n_chunks - 1, 0) * CHUNK_STEPS) * STEP_SECONDS[SUSTAIN]
    return np.concatenate([attack, sustain])[: n_chunks * CHUNK_STEPS]


def held_time_before(moment: Doubles) -> Doubles:
    """Times of the last tokens of attack and sustain before moments, seconds from the note's start."""
    start = np.where(moment > ATTACK_SECONDS, ATTACK_SECONDS, 0.0)
    step = np.where(moment > ATTACK_SECONDS, STEP_SECONDS[SUSTAIN], STEP_SECONDS[ATTACK])
    before: Doubles = start + np.maximum(np.ceil((moment - start) / step - _ON_TOKEN) - 1, 0) * step
    return before


def release_times(n_chunks: int) -> Doubles:
    """Times of the tokens of release chunks, seconds from the moment the note is let go."""
    return np.arange(n_chunks * CHUNK_STEPS, dtype=np.float64) * STEP_SECONDS[RELEASE]


def tokens_at(tokens: Reals, times: Doubles, moments: Doubles) -> Floats:
    """The tokens at moments between two tokens, linear in level; beyond the ends the nearest one.

    Shapes: tokens [n, C], times [n], moments [m] -> [m, C].
    """
    right = np.clip(np.searchsorted(times, moments), 1, len(times) - 1)
    share = np.clip((moments - times[right - 1]) / (times[right] - times[right - 1]), 0.0, 1.0)[:, None]
    return ((1 - share) * tokens[right - 1] + share * tokens[right]).astype(np.float32)
