"""Expression against pianists: their velocities and tempi from the flattened score; the time it takes; the pictures.

    python bench/expression.py performances PIANO-MIDI-DE/   rules and learnt part side by side, held-out pieces
    python bench/expression.py speed SONG.mid ...            seconds for each minute of music
    python bench/expression.py pictures docs/images          the pictures of docs/expression.md
    python bench/expression.py tables                        its tables of rules and moods

performances  Every piece is flattened to one velocity, one tempo and no pedal (performances.py) and read. Level:
              the correlation over all notes of a piece with the pianist's velocities in dB. Tempo: over all quarters
              with the logarithm of the pianist's tempo. Means over pieces, with 95 % intervals of the mean. Held out is
              the third of the pieces by the checksum of their names on which nothing was trained, weighed or tried.
"""

import argparse
import logging
import time
from dataclasses import fields
from pathlib import Path

import numpy as np

from miao.expression import MOODS, Cues
from miao.expression.learnt import predict
from miao.expression.performances import Performed, is_held_out, performed
from miao.expression.reading import read
from miao.expression.rules import AMOUNTS, RULES, Deviation, Timeline
from miao.midi.score import read_score

EXAMPLE = Path(__file__).parent.parent / "examples" / "greensleeves.mid"


def by_rules(piece: Performed, timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Level of each note and log tempo of each beat, by the rules."""
    deviation = Deviation.none(piece.reading, timeline)
    for name, rule in RULES.items():
        deviation = deviation.plus(rule(piece.reading, timeline), AMOUNTS[name])
    return deviation.level, tempo_of(timeline, deviation.stretch, piece.beats)


def by_one_rule(name: str, piece: Performed, timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """The same, by one rule alone."""
    deviation = RULES[name](piece.reading, timeline)
    return deviation.level, tempo_of(timeline, deviation.stretch, piece.beats)


def by_pianists(piece: Performed, timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """The same, by the learnt part; its beats are taken where the piece has its own."""
    said = predict(piece.reading, timeline)
    middles = (piece.beats[1:] + piece.beats[:-1]) / 2
    return said.level, np.interp(middles, (said.beats[1:] + said.beats[:-1]) / 2, said.tempo)


def both(piece: Performed, timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """The mean of rules and learnt part, each in its own unit of spread."""
    rows = zip(by_rules(piece, timeline), by_pianists(piece, timeline), strict=True)
    level, tempo = (a / max(a.std(), 1e-9) + b / max(b.std(), 1e-9) for a, b in rows)
    return level, tempo


def tempo_of(timeline: Timeline, stretch: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """The logarithm of the tempo in each beat."""
    played = np.concatenate([[0.0], np.cumsum(timeline.lengths * (1 + stretch))])
    return -np.log(np.maximum(np.diff(np.interp(beats, timeline.quarters, played)), 1e-4))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 where one of the two does not move."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else 0.0


def performances(folder: Path, with_rules: bool) -> None:
    paths = [path for path in sorted(folder.rglob("*.mid")) if is_held_out(path.name)]
    systems = {"flat": None, "rules": by_rules, "learnt": by_pianists, "rules and learnt": both}
    if with_rules:
        systems |= {name: (lambda p, t, name=name: by_one_rule(name, p, t)) for name in RULES}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for path in paths:
        piece = performed(path)
        timeline = Timeline.of(piece.reading)
        for name, system in systems.items():
            if system is None:
                found[name].append((0.0, 0.0))
                continue
            level, tempo = system(piece, timeline)
            found[name].append((correlation(level, piece.level), correlation(tempo, piece.tempo)))
    print(
        f"{len(paths)} held-out pieces; correlation with the pianist\n| system | level of notes | tempo of quarters |"
    )
    print("|---|---|---|")
    for name, rows in found.items():
        x = np.array(rows)
        half = 1.96 * x.std(axis=0) / np.sqrt(len(x))
        print(f"| {name} | {x[:, 0].mean():.2f} ± {half[0]:.2f} | {x[:, 1].mean():.2f} ± {half[1]:.2f} |")


def speed(songs: list[Path]) -> None:
    for path in songs:
        score = read_score(path)
        for style in ("rules", "pianists"):
            taken = []
            for _ in range(3):
                began = time.process_time()
                score.expressed(1.0, mood="happy:0.5", style=style)
                taken.append(time.process_time() - began)
            seconds = float(np.median(taken))
            print(f"{path.name}: {score.n_notes} notes, {score.duration:.0f} s, {style}: {seconds:.2f} s of processor "
                  f"time, {300 * seconds / score.duration:.2f} s for 5 minutes")  # fmt: skip


def tables() -> None:
    """The tables of docs/expression.md."""
    print("| rule | amount | what it does |\n|---|---|---|")
    for name, rule in RULES.items():
        first = " ".join((rule.__doc__ or "").strip().split("\n\n")[0].split())
        print(f"| {name} | {AMOUNTS[name]:g} | {first} |")
    names = [field.name for field in fields(Cues)]
    print("\n| mood | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for name, cues in MOODS.items():
        print(f"| {name} | " + " | ".join(f"{getattr(cues, n):+g}" if getattr(cues, n) else "" for n in names) + " |")


def pictures(folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    score = read_score(EXAMPLE)
    reading = read(score)
    timeline = Timeline.of(reading)
    curves = [n for n in RULES if np.abs(RULES[n](reading, timeline).stretch).max() > 1e-9]
    levels = [n for n in RULES if np.abs(RULES[n](reading, timeline).level).max() > 1e-9]
    figure, axes = plt.subplots(len(curves), 2, figsize=(12, 1.35 * len(curves)), sharex=True, layout="constrained")
    for row, name in enumerate(curves):
        stretch = RULES[name](reading, timeline).stretch
        axes[row, 0].step(
            timeline.quarters[:-1], -100 * stretch / (1 + stretch), where="post", lw=0.8, color="tab:blue"
        )
        axes[row, 0].set_ylabel(name.replace("_", "\n"), fontsize=7)
    for row in range(len(curves)):
        if row < len(levels):
            level = RULES[levels[row]](reading, timeline).level
            axes[row, 1].plot(reading.quarter, level, ".", ms=2, color="tab:red")
            axes[row, 1].set_ylabel(levels[row].replace("_", "\n"), fontsize=7)
        else:
            axes[row, 1].set_visible(False)
        for axis in axes[row]:
            axis.tick_params(labelsize=6)
            for phrase in reading.phrases:
                axis.axvline(phrase.start, color="0.85", lw=0.6, zorder=0)
    axes[0, 0].set_title("tempo, % (amount 1), Greensleeves; grey: phrases found", fontsize=8)
    axes[0, 1].set_title("level of notes, dB (amount 1)", fontsize=8)
    axes[-1, 0].set_xlabel("quarters", fontsize=7)
    figure.savefig(folder / "expression-rules.png", dpi=90)

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 5), sharex=True, layout="constrained")
    for name in ("written", "rules", "pianists", "sad", "happy", "angry", "tender"):
        if name == "written":
            played = score
        elif name in MOODS:
            played = score.expressed(0.7, mood=name)
        else:
            played = score.expressed(1.0, style=name)
        beats = np.arange(0, reading.end_quarter, 1.0)
        from miao.expression.beats import Pulse

        pulse = Pulse.of(played.tempi)
        tempo = 60 / np.diff(pulse.seconds(beats))
        top.plot(beats[:-1], tempo, lw=1, label=name)
        track = played.tracks[int(reading.track[reading.tune[0]])]
        firsts = np.flatnonzero(np.diff(track.notes["start"], prepend=-1) > 1e-3)
        quarter = pulse.quarters(track.notes["start"][firsts])
        level = 40 * np.log10(np.maximum.reduceat(track.notes["velocity"], firsts) / 127)  # without the doublings
        kernel = np.ones(9) / 9
        bottom.plot(quarter, np.convolve(np.pad(level, 4, mode="edge"), kernel, "valid"), lw=1, label=name)
    top.set_ylabel("quarters a minute")
    bottom.set_ylabel("level of the leading part, dB\n(mean of nine notes)")
    bottom.set_xlabel("quarters")
    top.legend(ncols=7, fontsize=8)
    figure.savefig(folder / "expression-moods.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["performances", "speed", "pictures", "tables"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--each", action="store_true", help="each rule by itself, too")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.what == "performances":
        performances(options.paths[0], options.each)
    elif options.what == "tables":
        tables()
    elif options.what == "speed":
        speed(options.paths)
    else:
        pictures(options.paths[0])


if __name__ == "__main__":
    main()
