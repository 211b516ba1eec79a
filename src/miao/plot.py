"""A picture of a score, and of the sound it became: a piano roll over a spectrogram, on one time axis."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Doubles, Floats
from miao.errors import MiaoError, needs
from miao.files import check_target, written
from miao.midi.score import Score, Track
from miao.sound.audio import Audio, resample
from miao.sound.decay import octave_band
from miao.sound.room import BAND_HZ
from miao.sound.spectrum import AUDIBLE_DB, FRAME_SAMPLES, HIGH_HZ, HOP_SAMPLES, LOW_HZ, N_MELS, SAMPLE_RATE, log_mel

WIDTH_INCHES, ROLL_INCHES, SPECTROGRAM_INCHES, SIMILARITY_INCHES = 12.0, 4.5, 3.0, 1.5
DPI = 120
MAX_COLUMNS = 2000  # of the spectrogram; more would not be seen
PIECE_FRAMES = 4096  # of log_mel at a time, which bounds its memory
HZ_TICKS = (200, 500, 1000, 2000, 5000, 10_000)
MAX_LEGEND = 16
SUFFIXES = (".png", ".svg", ".pdf")


def save_plot(
    score: Score,
    path: str | Path,
    *,
    audio: Audio | None = None,
    title: str = "",
    force: bool = False,
    similarity: Floats | None = None,
    segment_seconds: float = 1.0,
) -> None:
    """Writes the picture of a score, as PNG, SVG or PDF by the suffix, with the spectrogram of `audio` if there is any,
    and how alike the two are in each segment (`similarity` [n], -1 to 1, NaN where there is nothing to compare).

    Raises: MiaoError if matplotlib is missing, the suffix is another, the file exists and not `force`, or the disk
    refuses.
    """
    path = _target(path, force)
    _write(_figure(score, audio, title, similarity, segment_seconds), path)


def _target(path: str | Path, force: bool) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise MiaoError(f"{path}: a picture ends in {', '.join(SUFFIXES)}")
    check_target(path, MiaoError, force=force)
    return path


def _write(figure: Any, path: Path) -> None:
    with written(path, MiaoError) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in scripts that its font lacks become boxes
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DPI)


def save_decay_plot(
    samples: Floats, sample_rate: int, path: str | Path, *, title: str = "", force: bool = False
) -> None:
    """Writes a picture of how an impulse response dies away, [channels, S]: the energy still to come by octave, in dB.

    Raises: MiaoError as `save_plot` does.
    """
    path = _target(path, force)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MiaoError("drawing needs matplotlib; pip install 'miao-synth[plot]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for hz in BAND_HZ[sample_rate > 2.5 * BAND_HZ]:
        to_come = np.cumsum(np.square(octave_band(samples, sample_rate, float(hz))).sum(axis=0)[::-1])[::-1]
        step = max(len(to_come) // MAX_COLUMNS, 1)
        level = 10 * np.log10(to_come[::step] / max(float(to_come[0]), 1e-30) + 1e-12)
        axes.plot(np.arange(len(level)) * step / sample_rate, level, label=f"{hz:g} Hz")
    axes.set(ylim=(-70, 2), xlabel="seconds", ylabel="energy still to come, dB", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    _write(figure, path)


def note_boxes(track: Track) -> Doubles:
    """Corners of each note as drawn, from start to damp and one semitone high: [n, 4, 2] of (seconds, pitch)."""
    notes = track.notes
    low, high = notes["pitch"] - 0.45, notes["pitch"] + 0.45
    ends = np.maximum(notes["damp"], notes["start"] + 0.02)  # so that the shortest is seen
    corners = [(notes["start"], low), (notes["start"], high), (ends, high), (ends, low)]
    return np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)


def spectrogram(audio: Audio) -> tuple[Floats, float]:
    """`log_mel` of a sound of any rate and length, [columns, N_MELS] dB, and the seconds of one column.

    Where there are more than MAX_COLUMNS frames, a column is the loudest of its frames.
    """
    samples = resample(audio, SAMPLE_RATE).samples
    n_frames = samples.shape[1] // HOP_SAMPLES + 1
    per_column = -(-n_frames // MAX_COLUMNS)
    margin = FRAME_SAMPLES // HOP_SAMPLES  # frames whose windows lie over the border of a piece
    columns = []
    step = max(PIECE_FRAMES // per_column, 1) * per_column
    for first in range(0, n_frames, step):
        before = min(first, margin)
        piece = samples[:, (first - before) * HOP_SAMPLES : (first + step + margin) * HOP_SAMPLES]
        frames = log_mel(piece)[before : before + min(step, n_frames - first)]
        padded = np.pad(frames, ((0, -len(frames) % per_column), (0, 0)), mode="edge")
        columns.append(padded.reshape(-1, per_column, N_MELS).max(axis=1))
    return np.concatenate(columns), per_column * HOP_SAMPLES / SAMPLE_RATE


def new_figure(width: float, height: float) -> Any:
    """An empty picture of so many inches. Raises: MissingExtra if matplotlib is not there."""
    needs("plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(
    score: Score, audio: Audio | None, title: str, similarity: Floats | None = None, segment_seconds: float = 1.0
) -> Any:
    heights = [ROLL_INCHES] if audio is None else [ROLL_INCHES, SPECTROGRAM_INCHES]
    if similarity is not None:
        heights.append(SIMILARITY_INCHES)
    figure = new_figure(WIDTH_INCHES, sum(heights))
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_roll(axes[0], score)
    axes[0].set_title(title, parse_math=False)
    if audio is not None:
        _draw_spectrogram(axes[1], audio)
    if similarity is not None:
        axes[-1].stairs(similarity, np.arange(len(similarity) + 1) * segment_seconds, baseline=None, linewidth=1.5)
        axes[-1].set_ylim(-1, 1)
        axes[-1].grid(alpha=0.3)
        axes[-1].set_ylabel("similarity")
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, max(score.duration, audio.duration if audio is not None else 0.0, 0.1))
    return figure


def _draw_roll(axes: Any, score: Score) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    colours = np.concatenate([colormaps["tab10"](np.arange(10)), colormaps["Set2"](np.arange(8))])  # [18, 4]
    names = []
    for i, (track, summary) in enumerate(zip(score.tracks, score.describe(), strict=True)):
        shade = np.tile(colours[i % len(colours)], (len(track.notes), 1))
        shade[:, 3] = 0.35 + 0.65 * track.notes["velocity"] / 127  # louder is denser
        axes.add_collection(PolyCollection(list(note_boxes(track)), facecolors=shade, linewidths=0, rasterized=True))
        names.append(Patch(color=colours[i % len(colours)], label=(track.name or ", ".join(summary.programs))[:30]))
    pitches = [(int(t.notes["pitch"].min()), int(t.notes["pitch"].max())) for t in score.tracks] or [(60, 60)]
    low, high = min(p[0] for p in pitches), max(p[1] for p in pitches)
    axes.set_ylim(low - 2, high + 2)
    octaves = [pitch for pitch in range(0, 128, 12) if low - 2 <= pitch <= high + 2]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axes.grid(alpha=0.3)
    axes.set_ylabel("pitch")
    if names:
        axes.legend(handles=names[:MAX_LEGEND], loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)


def _draw_spectrogram(axes: Any, audio: Audio) -> None:
    levels, seconds = spectrogram(audio)
    top = max(float(levels.max()), -100.0)
    axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=top - AUDIBLE_DB,
        vmax=top,
        interpolation="nearest",
        extent=(-seconds / 2, (len(levels) - 0.5) * seconds, -0.5, N_MELS - 0.5),
    )
    mel = 2595 * np.log10(1 + np.array([LOW_HZ, HIGH_HZ, *HZ_TICKS]) / 700)
    at = (mel[2:] - mel[0]) / (mel[1] - mel[0]) * (N_MELS + 1) - 1  # row of each frequency
    axes.set_yticks(at, [f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz" for hz in HZ_TICKS])
    axes.set_ylabel(f"level, {AUDIBLE_DB:.0f} dB range")
