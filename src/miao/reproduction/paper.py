"""The paper's own figures, and what is in its tables and its Figure 2.

Zhang & Huang, "Multi-modal music techniques for synthesizing high-quality audio waveforms from MIDI data", Scientific
Reports 15:33180 (2025), Tables 1 to 3. They stand beside ours as context and are never the same quantity: see
`DIFFERENCES`.
"""

from dataclasses import dataclass

Figures = tuple[float | None, ...]
"""MT3 T. (higher is better), RED, FAD (lower), SC, PCE (higher), as printed; None where the print is wrong."""

FIGURE_NAMES = ("MT3", "RED", "FAD", "SC", "PCE")

TABLE1: dict[str, dict[str, Figures]] = {
    "Cerberus4": {
        "midi2wave": (0.32, 2.37, 0.43, 0.75, 2.13), "midi-ddsp": (0.39, 1.82, 0.34, 0.88, 2.49),
        "mi-ddpm": (0.44, 1.73, 0.22, 0.87, 2.84), "miao": (0.52, 1.35, 0.18, 0.93, 2.97),
    },
    "MAESTRO": {
        "midi2wave": (0.19, 3.38, 0.52, 0.69, 2.12), "midi-ddsp": (0.26, 2.83, 0.47, 0.87, 2.44),
        "mi-ddpm": (0.30, 2.39, 0.35, 0.92, 2.57), "miao": (0.35, 2.16, 0.28, 0.93, 2.82),
    },
    "MusicNet": {
        "midi2wave": (0.18, 4.31, 0.46, 0.82, 2.37), "midi-ddsp": (0.23, 3.91, 0.39, 0.88, 2.45),
        "mi-ddpm": (0.25, 3.29, 0.33, 0.91, 2.84), "miao": (0.28, 2.85, None, 0.93, 2.93),
    },
    "Slakh2100": {
        "midi2wave": (0.31, 1.67, 0.39, 0.89, 1.95), "midi-ddsp": (0.33, 1.57, 0.29, 0.91, 2.11),
        "mi-ddpm": (0.39, 1.41, 0.25, 0.95, 2.05), "miao": (0.42, 1.22, 0.20, 0.93, 2.30),
    },
    "GuitarSet": {
        "midi2wave": (0.44, 4.81, 0.43, 0.78, 2.13), "midi-ddsp": (0.48, 4.44, 0.37, 0.87, 2.19),
        "mi-ddpm": (0.52, 4.09, 0.26, 0.92, 2.33), "miao": (0.56, 3.86, 0.15, 0.94, 2.59),
    },
    "URMP": {
        "midi2wave": (0.21, 4.03, 0.45, 0.87, 2.57), "midi-ddsp": (0.25, 3.75, 0.37, 0.95, 2.64),
        "mi-ddpm": (0.27, 3.54, 0.23, 0.96, 2.86), "miao": (0.31, 3.26, 0.18, 0.95, 2.78),
    },
}  # fmt: skip

NEAREST = {
    "gm-heldout": "Cerberus4", "gm-othersource": "Slakh2100", "recordings": "URMP", "piano": "MAESTRO",
    "violin": "URMP", "quartet": "MusicNet", "cerberus4": "Cerberus4", "maestro": "MAESTRO", "musicnet": "MusicNet",
    "slakh": "Slakh2100", "guitarset": "GuitarSet", "urmp": "URMP",
}  # fmt: skip
"""The data set of the paper that a benchmark, or a group of its pieces, is most like."""

DIFFERENCES = """\
The paper's figures stand in the last column as context; they are never the same quantity as ours. Data: what is here is
other music, and where a SoundFont plays the reference it is synthesised, perhaps by the very bank that a system has
learnt; the column names the paper's data set that is most like it. Transcriber: MT3 T. is the F1 of notes that agree in
onset, offset and program, but here Basic Pitch hears each stem, whose program is known, and not MT3 the mix. Embedders:
the paper names none; here they stand at each number, and those of two embedders cannot be compared. Training: minutes
on a CPU core, not days on four GPUs. The paper reads more SC and more PCE as better; the columns of that name are
ranked so, the columns with "difference" by how far a system is from the reference."""


@dataclass(frozen=True)
class Row:
    """A training to be compared: what it changes, and what the paper says of it."""

    name: str
    changes: tuple[str, ...] = ()  # of the preset
    paper: str = ""

    @property
    def slug(self) -> str:
        """A name for files: the settings that differ."""
        parts = [change.partition(".")[2].replace("=", "-") for change in self.changes]
        return "+".join(parts).replace("/", "_") or "default"


def printed(figures: Figures) -> str:
    """Figures as the paper prints them: ".52 / 1.35 / .18 / .93 / 2.97"."""
    return " / ".join("misprinted" if x is None else f"{x:.2f}".removeprefix("0") for x in figures)


TABLE2 = (
    Row("conv (Eq. 5-6)", (), "Cerberus4: " + printed(TABLE1["Cerberus4"]["miao"])),
    Row("feed-forward", ("model.decoder=ffn",), "Cerberus4: " + printed((0.31, 1.86, 0.25, 0.75, 2.62))),
)
TABLE3 = (
    Row("full scheme", (), "GuitarSet: " + printed(TABLE1["GuitarSet"]["miao"])),
    Row("without audio encoder", ("objective.audio_encoder=false",),
        "GuitarSet: " + printed((0.48, 4.36, 0.25, 0.89, 2.37))),
    Row("without MAC", ("objective.mac=0.0",)),
    Row("without MAM", ("objective.mam=0.0",)),
)  # fmt: skip
FURTHER = (
    Row("without AM", ("objective.am=0.0",)),
    Row("feed-forward decoder", ("model.decoder=ffn",)),
    Row("temperature 99", ("objective.temperature=99.0",)),
    Row("contrast on CLS", ("objective.contrast_on=cls",)),
    Row("audio encoder shares with MIDI encoder", ("model.share=midi",)),
    Row("audio encoder shares with decoder (BLIP)", ("model.share=decoder",)),
    Row("uniform label smoothing", ("objective.smoothing_form=uniform",)),
    Row("hard targets (no momentum share)", ("objective.soft_share=0.0",)),
)
"""Choices that the paper leaves open, after the rows of its Table 3."""


@dataclass(frozen=True)
class Sweep:
    """One setting of Figure 2 at several values, all others at their defaults."""

    name: str
    key: str
    values: tuple[int, ...]

    def rows(self, default: int) -> dict[int, Row]:
        """A training for each value; that of the default changes nothing, so that all sweeps share it."""
        values = sorted({*self.values, default})
        return {v: Row(f"{self.name} {v}", () if v == default else (f"{self.key}={v}",)) for v in values}


FIGURE2 = (
    Sweep("batch size", "batch.pairs", (8, 16, 32)),
    Sweep("heads h", "model.n_heads", (1, 2, 3, 4, 6)),
    Sweep("tokens a", "model.segment_tokens", (16, 32, 64)),
    Sweep("inputs f", "model.n_segments", (2, 4, 8)),
)
"""The paper has h = 1 to 5; five heads do not divide our widths, six do."""
