"""Ten instruments as pictures: `python bench/sheet.py --soundfont BANK.sf2` writes docs/images/instruments.png.

A short phrase each, played by FluidSynth with the bank's source (left) and by miao (right), both without faders and
effects: log-mel spectrograms on one colour scale, over the 80 dB below the louder sound's loudest cell, with the
log-mel error between them (spectrum.log_mel_error, dB; 0 is best).
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.datasets.soundfont import PlayedNote, SoundFont
from miao.errors import MiaoError
from miao.midi.score import Curve, Score, Track, notes_array
from miao.sound.spectrum import HIGH_HZ, HOP_SAMPLES, LOW_HZ, N_MELS, SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.stems import stream_stems

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 3.2
RANGE_DB = 80.0
HZ_TICKS = (100, 500, 2000, 8000)
COLOURS = 128  # in the file
LARGEST_BYTES = 1_000_000


@dataclass(frozen=True)
class Phrase:
    """What one instrument plays."""

    name: str
    program: int
    notes: tuple[PlayedNote, ...]
    is_drum: bool = False


def line(*notes: tuple[float, float, int, int]) -> tuple[PlayedNote, ...]:
    return tuple(PlayedNote(*note) for note in notes)  # start, end, pitch, velocity


def even(pitches: list[int], step: float, velocities: list[int]) -> tuple[PlayedNote, ...]:
    """One note after another, the last one held twice as long."""
    lengths = [0.92 * step] * (len(pitches) - 1) + [2 * step]
    return line(*[(i * step, i * step + lengths[i], pitches[i], velocities[i]) for i in range(len(pitches))])


def drums(**strokes: list[tuple[float, int]]) -> tuple[PlayedNote, ...]:
    """(start, velocity) of the strokes of each key; they ring on until the key is struck again, as in miao."""
    notes = []
    for key, struck in strokes.items():
        ends = [start for start, _ in struck[1:]] + [SECONDS]
        pitch = int(key.strip("k"))
        notes += [(start, end, pitch, velocity) for (start, velocity), end in zip(struck, ends, strict=True)]
    return line(*notes)


CHORDS = line(
    *[(0.0, 1.2, pitch, 70) for pitch in (55, 62, 67, 71)], *[(1.25, 2.6, pitch, 100) for pitch in (48, 64, 67, 72)]
)
PIANO = line((0, 0.5, 60, 60), (0.4, 0.9, 64, 75), (0.8, 1.3, 67, 90), (1.2, 2.6, 48, 110), (1.2, 2.6, 72, 100))
GUITAR = line((0, 1.8, 45, 80), (0.3, 1.8, 57, 70), (0.6, 1.8, 61, 80), (0.9, 1.8, 64, 90), (1.8, 2.8, 69, 110))
BEAT = drums(
    k36=[(0.0, 110), (0.75, 110), (1.0, 110), (2.0, 115)],
    k38=[(0.5, 105), (1.5, 105)],
    k42=[(0.25 * i, 70 + 20 * (i % 2 == 0)) for i in range(8)],
    k49=[(2.0, 110)],
)
PHRASES = (
    Phrase("Piano", 0, PIANO),
    Phrase("Nylon guitar", 24, GUITAR),
    Phrase("Fingered bass", 33, even([33, 40, 43, 45, 28], 0.4, [100, 80, 90, 110, 100])),
    Phrase("Violin", 40, even([67, 71, 74, 79], 0.5, [70, 80, 90, 100])),
    Phrase("String ensemble", 48, CHORDS),
    Phrase("Trumpet", 56, even([60, 67, 72, 76], 0.45, [80, 90, 110, 120])),
    Phrase("Alto sax", 65, even([58, 62, 65, 70], 0.45, [70, 85, 100, 90])),
    Phrase("Flute", 73, even([74, 79, 83, 86], 0.45, [70, 80, 90, 100])),
    Phrase("Church organ", 19, CHORDS),
    Phrase("Drum kit", 0, BEAT, is_drum=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", type=Path, required=True, help="the .sf2 that the bank was learnt from")
    parser.add_argument("--bank", default="gm")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "images" / "instruments.png")
    options = parser.parse_args()
    font, bank = SoundFont(options.soundfont), Bank.load(options.bank)
    pairs = []
    for phrase in PHRASES:
        sounds = font.phrase(phrase.program, list(phrase.notes), SECONDS, is_drum=phrase.is_drum), played(bank, phrase)
        pairs.append(tuple(log_mel(sound[:, : round(SECONDS * SAMPLE_RATE)]) for sound in sounds))
        print(f"{phrase.name:16}{log_mel_error(*pairs[-1]):5.2f} dB")
    data = picture(pairs)
    if len(data) > LARGEST_BYTES:
        raise MiaoError(f"the picture has {len(data)} bytes, more than {LARGEST_BYTES}; lower COLOURS")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_bytes(data)
    print(f"{options.output}: {len(data) / 1e3:.0f} kB")


def played(bank: Bank, phrase: Phrase) -> np.ndarray:
    """The phrase by miao, before any fader, [2, S]."""
    program, is_drum = phrase.program, phrase.is_drum
    rows = [(n.start, n.end, n.end, n.pitch, n.velocity, program, 0, is_drum) for n in phrase.notes]
    notes = np.sort(notes_array(rows), order=("start", "pitch"))
    track = Track(phrase.name, 9 if is_drum else 0, notes, {}, np.zeros(0))
    score = Score((track,), float(notes["damp"].max()), Curve(np.zeros(1), np.full(1, 120.0), 120.0))
    sound = np.concatenate([block.stems[0] for block in stream_stems(bank, score)], axis=1)
    missing = max(round(SECONDS * SAMPLE_RATE) - sound.shape[1], 0)
    return np.pad(sound, ((0, 0), (0, missing)))


def picture(pairs: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Two instruments a row, reference and ours side by side, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    n_rows = -(-len(pairs) // 2)
    figure, axes = pyplot.subplots(n_rows, 4, figsize=(13, 2.1 * n_rows), sharex=True, sharey=True, squeeze=False)
    mel_low, mel_high = mel(LOW_HZ), mel(HIGH_HZ)
    ticks = [(mel(hz) - mel_low) / (mel_high - mel_low) * (N_MELS + 1) - 1 for hz in HZ_TICKS]
    for number, (phrase, pair) in enumerate(zip(PHRASES, pairs, strict=True)):
        top = max(level.max() for level in pair)
        cells = axes[number // 2, 2 * (number % 2) : 2 * (number % 2) + 2]
        titles = (f"{phrase.name}: FluidSynth", f"miao, {log_mel_error(*pair):.1f} dB apart")
        for axis, level, title in zip(cells, pair, titles, strict=True):
            seconds = len(level) * HOP_SAMPLES / SAMPLE_RATE
            axis.imshow(level.T, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
                        extent=(0, seconds, -0.5, N_MELS - 0.5), interpolation="nearest")  # fmt: skip
            axis.set_title(title, fontsize=9, loc="left", pad=3)
            axis.set_yticks(ticks, [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in HZ_TICKS])
            axis.tick_params(labelsize=7, length=2)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8, labelpad=1)
    for axis in axes[:, 0]:
        axis.set_ylabel("Hz", fontsize=8, labelpad=1)
    figure.tight_layout(pad=0.4)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    pyplot.close(figure)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


def mel(hz: float) -> float:
    return 2595 * float(np.log10(1 + hz / 700))


if __name__ == "__main__":
    main()
