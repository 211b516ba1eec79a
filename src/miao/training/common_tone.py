"""What all notes of a recording of music have in common: how bright its partials are, and its noise, by frequency.

One movement of one player says much that is its own: how each key happened to sound in its bars, how notes began and
went on in their room. A fit takes all of it (`training.learn_music`), and held-out music of the same player is nearer
for it. To a listener other than the fit's measure, other players are not: an ear trained on music hears the program
itself, with nothing more than another tone, as nearer than it hears all that was learnt (docs/log.md). So a voice that
is to play everybody's music takes the tone alone, of partials and of noise apart.
"""

from dataclasses import replace

import numpy as np

from miao.arrays import Doubles, Flags, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.level_shift import LevelShift
from miao.bank.voices import PITCH_NODES, SEMITONES_A_NODE, VoiceTable, pitch_hz
from miao.training.heard_ages import heard_ages

WIDTH_OCTAVES = 0.3
_HEARD_HZ = 30.0, 20_000.0
_NOISE_HZ = np.sqrt(tk.NOISE_EDGES_HZ[:-1] * tk.NOISE_EDGES_HZ[1:])


def common_tone(shift: LevelShift, table: VoiceTable, voice: int, lengths: Reals, played: Flags) -> LevelShift:
    """The tone of a shift of a voice's levels: at all ages and strengths alike, of no single key, nothing of how notes
    end; smooth over a third of an octave.

    ``lengths`` are those of the notes that it was learnt from, seconds; ``played`` [PITCH_NODES] says which nodes lie
    among their pitches. What lies above their partials is as the nearest of them.
    """
    levels = np.einsum("a,anc->nc", heard_ages(lengths), shift.held[:, 0].astype(np.float32))  # [nodes, C - 1]
    hz = np.stack([_partials_hz(table, voice, node) for node in range(PITCH_NODES)])  # [nodes, partials]
    heard = played[:, None] & (hz > _HEARD_HZ[0]) & (hz < _HEARD_HZ[1])
    known_hz, known = hz[heard], levels[:, : tk.N_PARTIALS][heard]
    tone = np.empty_like(levels)
    tone[:, : tk.N_PARTIALS] = _smooth(known_hz, known, hz.clip(known_hz.min(), known_hz.max()))
    tone[:, tk.N_PARTIALS :] = _smooth(_NOISE_HZ, levels[played, tk.N_PARTIALS :].mean(axis=0), _NOISE_HZ)
    held = np.zeros(shift.held.shape, np.float16)
    held[:, 0] = tone
    return replace(shift, held=held, let_go=np.zeros_like(shift.let_go), keys=None)


def _partials_hz(table: VoiceTable, voice: int, node: int) -> Doubles:
    """Where the partials of each cell lie at a pitch node, [N_PARTIALS]; 0 for cells without any."""
    pitch = min(SEMITONES_A_NODE * node, 127)
    partials = table.partials(voice, pitch)
    count = partials.spread.sum(axis=1)
    hz: Doubles = (partials.spread @ partials.ratios) / np.maximum(count, 1e-6) * float(pitch_hz(pitch))
    return hz


def _smooth(hz: Reals, values: Reals, at: Reals) -> Floats:
    """Values at some frequencies as they are around others [...]."""
    octaves = (np.log2(at)[..., None] - np.log2(hz)) / WIDTH_OCTAVES
    near = np.exp(-0.5 * np.square(octaves))
    smoothed: Floats = ((near @ values) / near.sum(axis=-1)).astype(np.float32)
    return smoothed
