"""What is added, behind the nets, to what they write of a bank's own voices, and taken off before they go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from miao.arrays import Floats, Integers
from miao.bank.drums import DrumCorrections
from miao.bank.key_levels import FILE as KEYS_FILE
from miao.bank.key_levels import KeyLevels
from miao.bank.key_rows import KeyRows
from miao.bank.openings import FILE as OPENINGS_FILE
from miao.bank.openings import Openings
from miao.bank.rises import FILE as RISES_FILE
from miao.bank.rises import Rises
from miao.bank.voices import VoiceEmbeddings
from miao.bank.wavers import FILE as WAVERS_FILE
from miao.bank.wavers import Wavers

Rows = TypeVar("Rows", bound=KeyRows)


@dataclass(frozen=True, eq=False)
class Additions:
    """Tables by voice, each None where no voice has any, in the order in which they are added."""

    drums: DrumCorrections | None = None
    key_levels: KeyLevels | None = None
    openings: Openings | None = None
    rises: Rises | None = None
    wavers: Wavers | None = None  # of voices that do not stand still

    @staticmethod
    def load(folder: Path, embeddings: VoiceEmbeddings, drums: DrumCorrections | None) -> "Additions":
        """Those of a bank's folder; a voice that is another one at another loudness has that one's.

        Raises: BankError if a file is damaged.
        """
        rows = embeddings.rows()

        def of(kind: type[Rows], file: str) -> Rows | None:
            return kind.load(folder / file).chosen(rows) if (folder / file).is_file() else None

        return Additions(
            drums, of(KeyLevels, KEYS_FILE), of(Openings, OPENINGS_FILE), of(Rises, RISES_FILE), of(Wavers, WAVERS_FILE)
        )

    def joined(self, more: "Additions", n_voices: Sequence[int]) -> "Additions":
        """These and those of voices behind them, whose drums are not corrected; so many voices each."""
        return Additions(
            self.drums,
            KeyLevels.joined([self.key_levels, more.key_levels], n_voices),
            Openings.joined([self.openings, more.openings], n_voices),
            Rises.joined([self.rises, more.rises], n_voices),
            Wavers.joined([self.wavers, more.wavers], n_voices),
        )

    def added(
        self, kind: int, levels: Floats, voice: Integers, struck: Integers, inputs: Mapping[str, Any]
    ) -> Floats:  # fmt: skip
        """Levels of chunks as they are to sound, [B, a, C], from those that nets wrote for these inputs.

        ``struck`` are the voices by the drums that are struck: a drum kit that was learnt is one voice of many drums.
        """
        pitch, velocity, index = (inputs[name] for name in ("pitch", "velocity", "index"))
        if self.drums is not None:
            levels = self.drums.applied(kind, levels, struck, velocity, index)
        if self.key_levels is not None:
            levels = self.key_levels.added(kind, levels, voice, pitch)
        if self.openings is not None:
            levels = self.openings.added(kind, levels, voice, pitch, index)
        if self.rises is not None:
            levels = self.rises.added(kind, levels, struck, pitch, velocity, index)
        if self.wavers is not None:
            levels = self.wavers.added(kind, levels, voice, pitch, index, inputs["age"])
        return levels

    def taken_off(
        self, kind: int, previous: Floats, voice: Integers, struck: Integers, inputs: Mapping[str, Any]
    ) -> Floats:  # fmt: skip
        """The tokens before chunks, [B, C], as nets wrote them; but for drums' corrections, which stay."""
        note = {name: inputs[name] for name in ("pitch", "index", "age")}
        if self.wavers is not None:
            previous = self.wavers.taken_off(kind, previous, voice, **note)
        if self.rises is not None:
            previous = self.rises.taken_off(kind, previous, struck, velocity=inputs["velocity"], **note)
        for table in (self.openings, self.key_levels):
            if table is not None:
                previous = table.taken_off(kind, previous, voice, **note)
        return previous


NOTHING_ADDED = Additions()
