"""Where the partials of a note lie, and how the partial cells of a token share them."""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.bank import tokens as tk


@dataclass(frozen=True)
class Partials:
    """Where the partials of a note lie and which cells set their levels."""

    ratios: Doubles  # [P] frequency of each partial over the note's nominal frequency
    spread: Floats  # [N_PARTIALS, P] weights from cell levels (dB) to partial levels (dB)

    def below(self, limit: float) -> "Partials":
        """Only the partials whose ratio is below a limit (say, half the sample rate over the note's frequency)."""
        keep = self.ratios < limit
        return Partials(self.ratios[keep], self.spread[:, keep])


def harmonic_partials(base: float, tune_cents: float, stretch: float) -> Partials:
    """Harmonics of ``base`` times the note's frequency, as stiff strings stretch them: k * sqrt(1 + B k^2)."""
    k = np.arange(1, tk.MAX_HARMONIC + 1, dtype=np.float64)
    ratios = base * k * 2 ** (tune_cents / 1200) * np.sqrt(1 + stretch * k**2)
    return Partials(ratios, tk.HARMONIC_SPREAD)


def mode_partials(ratios: Reals) -> Partials:
    """One partial for each cell, at free ratios; a ratio of 0 leaves its cell unused."""
    cells = np.flatnonzero(ratios > 0)
    cells = cells[np.argsort(ratios[cells])]
    return Partials(np.asarray(ratios, np.float64)[cells], np.eye(tk.N_PARTIALS, dtype=np.float32)[:, cells])
