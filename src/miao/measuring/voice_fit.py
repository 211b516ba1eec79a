"""One voice at one pitch: how its partials are fitted to the sound of a note, and which kind of partials suits it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.bank.partials import Partials
from miao.bank.voices import HALF_HARMONIC, HARMONIC, MODES, N_PITCHES, RATIO_BASE, VoiceTable, partials_of
from miao.measuring.partials import find_modes, fit_harmonics, matched_modes

_HALF_MUST_WIN_DB, _MODES_MUST_WIN_DB = 0.5, 1.5


@dataclass(frozen=True)
class VoiceFit:
    """What belongs to one voice at one pitch, rather than to a note."""

    kind: int  # of partial ratios: HARMONIC, HALF_HARMONIC or MODES
    tune_cents: float = 0.0
    stretch: float = 0.0
    modes: Doubles = field(default_factory=lambda: np.zeros(tk.N_PARTIALS))  # ratios; 0 where harmonic
    n_notes: int = 0  # that it was measured from; 0: from the neighbouring pitches
    balance: Floats | None = None  # [C - 1] share of the left channel; None: in the middle
    is_wide: bool = False

    def partials(self) -> Partials:
        """Where the partials lie."""
        return partials_of(self.kind, self.tune_cents, self.stretch, self.modes)

    def table(self) -> VoiceTable:
        """A table of this voice only, the same at every pitch, in the middle of the stereo image."""
        return VoiceTable(
            np.array([self.kind], np.int8),
            np.full((1, N_PITCHES), self.tune_cents, np.float32),
            np.full((1, N_PITCHES), self.stretch, np.float32),
            np.array([0 if self.kind == MODES else -1], np.int16),
            np.broadcast_to(self.modes, (1, N_PITCHES, tk.N_PARTIALS)).astype(np.float32),
            np.zeros((1, N_PITCHES, tk.N_CELLS - 1), np.int8),
            np.zeros((1, N_PITCHES), np.uint8),
            np.zeros(1, np.float32),
        )


def fit_voice(sound: Floats, sample_rate: int, hz: float, kind: int, common: Doubles | None = None) -> VoiceFit:
    """The fit of one note of nominal frequency ``hz``, under one kind of partial ratios.

    ``common`` are the modes that a voice's notes share, if they are known: those of the note are matched with them.
    Shape: sound [channels, S].
    """
    if kind == MODES:
        if common is None:
            return VoiceFit(kind, modes=find_modes(sound, sample_rate, hz), n_notes=1)
        return VoiceFit(kind, modes=matched_modes(sound, sample_rate, hz, common), n_notes=1)
    return VoiceFit(kind, *fit_harmonics(sound, sample_rate, hz, RATIO_BASE[kind]), n_notes=1)


def suited_kind(errors_db: Sequence[float]) -> int:
    """The kind of partial ratios that suits a voice, from the errors of some of its notes under each, by kind.

    Harmonics win unless another kind is clearly better, as they take bends, vibrato and unseen pitches best. Free modes
    are fitted to each note and must earn more: on average they are 1 dB better wherever they cannot be learnt as well.
    """
    half_wins = errors_db[HALF_HARMONIC] < errors_db[HARMONIC] - _HALF_MUST_WIN_DB
    best = HALF_HARMONIC if half_wins else HARMONIC
    return MODES if errors_db[MODES] < errors_db[best] - _MODES_MUST_WIN_DB else best
