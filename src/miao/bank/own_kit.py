"""A drum kit of one's own: what nets are told of each key of a learnt voice that plays drums.

Of a program nets are told every three semitones, as its keys are alike. Those of a kit are not: each has its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array
from miao.bank.voices import DRUM_KEYS, kit_rows

KIT = {
    "kit.embeddings": Array(np.float16, (len(DRUM_KEYS), "W"), is_optional=True),
    "kit.profiles": Array(np.float16, (3, len(DRUM_KEYS), tk.N_CELLS), is_optional=True),
}


@dataclass(frozen=True, eq=False)
class OwnKit:
    """Embeddings and profiles of the keys of General MIDI's drums, see `VoiceEmbeddings`."""

    embeddings: NDArray[np.float16]  # [keys, W]
    profiles: NDArray[np.float16]  # [3, keys, C] by chunk kind

    def at(self, kind: int, pitch: Reals) -> tuple[Floats, Floats]:
        """Embedding [B, W] and profile [B, C] of keys, for chunks of a kind; keys beyond are as the outermost."""
        rows = kit_rows(pitch)
        return self.embeddings[rows].astype(np.float32), self.profiles[kind][rows].astype(np.float32)
