"""Drum kits of a bank beyond the standard kit, and which voice of a bank plays a note, be it a kit's or a variation.

Most keys of most kits are the standard kit's at another loudness, so a kit is a table from keys to voices, and a voice
may be another one with a gain. Variations of programs are voices of their own (`bank.variations`). What is not in the
tables sounds as General MIDI has it: the standard kit, the program.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Floats
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.drums import ATTACK_SHAPE, SUSTAIN_SHAPE, DrumCorrections
from miao.bank.voices import (
    DRUM_KEYS,
    N_VOICES,
    PITCH_NODES,
    VoiceEmbeddings,
    VoiceTable,
    drum_key,
    note_voice,
)
from miao.errors import BankError

_ARRAYS = {
    "keys": Array(np.int16, ("K", 3), 0),
    "drums": Array(np.float16, ("D", 1, "W")),
    "drum_profiles": Array(np.float16, (3, "D", 1, tk.N_CELLS)),
    "attack": Array(np.float16, ("D", *ATTACK_SHAPE)),
    "sustain": Array(np.float16, ("D", *SUSTAIN_SHAPE)),
    "like": Array(np.int16, ("L",), 0),
    "gain_db": Array(np.float32, ("L",), -40, 40),
}
_GM2_MSB = 121
_GM2_VARIATIONS = {1: 8, 2: 16, 3: 24}  # what GM2 calls its first variation is GS's eighth, and so on,
_GM2_OWN = {0: {2: 8}, 26: {}, 38: {2: 8}, 80: {2: 8}}  # but for these programs: its dark piano, third bass, sine
_XG_OWN = {  # LSB of XG's variations (MSB 0) that are called as GS's are, by program
    0: {18: 8}, 4: {32: 8}, 5: {32: 8}, 6: {35: 8}, 14: {96: 8}, 16: {32: 8}, 17: {32: 8}, 19: {35: 8}, 21: {32: 8},
    24: {96: 8}, 25: {35: 8, 96: 16}, 28: {40: 8}, 30: {40: 8}, 31: {65: 8}, 40: {8: 8}, 48: {40: 8}, 50: {35: 8},
    61: {40: 8}, 62: {27: 8}, 63: {40: 8}, 80: {66: 8}, 107: {96: 8}, 115: {96: 8}, 116: {96: 8}, 117: {64: 8},
    118: {64: 8},
}  # fmt: skip


@dataclass(frozen=True)
class Kits:
    """Which voice of a bank plays a note, and what the bank says of the sounds that it has (`midi.told.Offer`)."""

    keys: dict[tuple[int, int], int]  # (kit, key) -> voice, where a kit differs from the standard kit
    programs: dict[tuple[int, int], int]  # (variation 1..127, program) -> voice; variation 0: what plays the program
    names: dict[tuple[int, int], str] = field(default_factory=dict)  # of variations

    def voice(self, program: int, pitch: int, *, is_drum: bool, bank: int = 0) -> int:
        """Voice number of a note: of its kit's key, or its variation of a program; ``bank`` is 128 MSB + LSB. What
        there is not is played by the standard kit or the plain program."""
        if is_drum:
            standard = note_voice(0, pitch, is_drum=True)
            return self.keys.get((program, drum_key(standard)), standard)
        own = self.programs.get((variation_of(bank, program), program))
        return self.programs.get((0, program), program) if own is None else own

    def has_kit(self, kit: int) -> bool:
        """Whether the bank has a drum kit of that program number; the standard kit, 0, always."""
        return kit == 0 or kit in {own for own, _ in self.keys}

    def kit_of(self, kit: int, bank: int = 0) -> int:
        """The number of the kit that plays where one is asked for: the standard kit where the bank has none."""
        return kit if self.has_kit(kit) else 0

    def has_drum(self, kit: int, key: int) -> bool:
        """Whether a kit has a sound on a key."""
        return key in DRUM_KEYS

    def has_variation(self, program: int, bank: int) -> bool:
        """Whether a bank number (128 MSB + LSB, as GS or GM2 give them) of a program is a sound of its own."""
        number = variation_of(bank, program)
        return number > 0 and (number, program) in self.programs

    def variation_name(self, program: int, bank: int) -> str:
        """What a bank number's variation of a program is called; nothing if there is none, or it has no name."""
        return self.names.get((variation_of(bank, program), program), "")


GENERAL_MIDI = Kits({}, {})
KITS_FILE = "kits.safetensors"


def variation_of(bank: int, program: int) -> int:
    """The variation that a bank number asks for, as GS numbers them: its MSB, or what GM2's or XG's LSB stands for.

    Source: General MIDI 2 (RP-024), appendix of its sound set; Yamaha's list of XG voices.
    """
    msb, lsb = bank >> 7, bank & 127
    if msb == _GM2_MSB:
        return _GM2_OWN.get(program, _GM2_VARIATIONS).get(lsb, 0)
    return msb or _XG_OWN.get(program, {}).get(lsb, 0)


@dataclass(frozen=True, eq=False)
class MoreVoices:
    """The drums of a bank's kits behind General MIDI's voices, numbered from N_VOICES on: first those with rows of
    their own, then those that are another one at another loudness."""

    kits: Kits
    table: VoiceTable  # of those with rows of their own
    drums: VoiceEmbeddings  # of these, one node each
    attack: NDArray[np.float16]  # their corrections
    sustain: NDArray[np.float16]
    like: NDArray[np.int16]  # of the voices without rows of their own: the voice each is like,
    gain_db: Floats  # and at which gain

    def added_to(
        self, table: VoiceTable, embeddings: VoiceEmbeddings
    ) -> tuple[VoiceTable, VoiceEmbeddings, DrumCorrections]:
        """The tables of a bank with these voices behind its own N_VOICES."""
        table = VoiceTable.joined([table, self.table])
        alike = table.chosen(self.like)
        trims = alike.trim_db + (self.gain_db if alike.trim_db.ndim == 1 else self.gain_db[:, None])
        table = VoiceTable.joined([table, replace(alike, trim_db=trims.astype(np.float32))])
        spread = VoiceEmbeddings(
            np.broadcast_to(
                self.drums.embeddings, (len(self.drums.embeddings), PITCH_NODES, self.drums.embeddings.shape[2])
            ),
            np.broadcast_to(self.drums.profiles, (3, self.drums.profiles.shape[1], PITCH_NODES, tk.N_CELLS)),
        )
        own = VoiceEmbeddings.joined([embeddings, spread])
        row = np.concatenate([np.arange(len(own.embeddings)), self.like]).astype(np.int16)
        corrected = np.full(len(row), -1, np.int16)
        n_drums = len(self.drums.embeddings)
        corrected[N_VOICES : N_VOICES + n_drums] = np.arange(n_drums)
        return table, replace(own, row=row), DrumCorrections(corrected[row], self.attack, self.sustain)

    def save(self, path: Path) -> None:
        """Write them as a safetensors file, the voice table beside it (`VoiceTable.save`) as NAME-table."""
        arrays: dict[str, AnyArray] = {
            "keys": np.array([(*place, v) for place, v in self.kits.keys.items()], np.int16).reshape(-1, 3),
            "drums": self.drums.embeddings, "drum_profiles": self.drums.profiles,
            "attack": self.attack, "sustain": self.sustain, "like": self.like, "gain_db": self.gain_db,
        }  # fmt: skip
        save_arrays(path, arrays)
        self.table.save(_table_path(path))

    @staticmethod
    def load(path: Path) -> "MoreVoices":
        """Read what `save` wrote. Raises: BankError if it is damaged or does not go together."""
        a, _ = read_arrays(path)
        sizes = check_arrays(path, a, _ARRAYS)
        kits = Kits({(int(kit), int(key)): int(voice) for kit, key, voice in a["keys"]}, {})
        drums = VoiceEmbeddings(a["drums"], a["drum_profiles"])
        table = VoiceTable.load(_table_path(path))
        if len(table.kind) != sizes["D"]:
            raise BankError(f"{_table_path(path)}: has {len(table.kind)} voices, not {sizes['D']}")
        n_voices = N_VOICES + len(table.kind) + sizes["L"]
        if max([*kits.keys.values(), *a["like"].tolist()], default=0) >= n_voices:
            raise BankError(f"{path}: names voices that are not there; there are {n_voices}")
        return MoreVoices(kits, table, drums, a["attack"], a["sustain"], a["like"], a["gain_db"])


def _table_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-table{path.suffix}")
