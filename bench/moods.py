"""Moods, judged by two that do not know how they are made: the tags of musicnn, and a judge trained on labelled pieces.

    python bench/moods.py MIDI/ -o FOLDER            52 held-out pieces
    python bench/moods.py MIDI/ -o FOLDER --tuning   12 others: those that moods were chosen on

MIDI holds the folders freedoom, pop909, piano-midi-de, js-fakes (pieces to play) and vgmidi (200 pieces with valence
and arousal as listeners gave them, for the judge). Of each piece 7.5 s, a fifth of the way in, are played
in four moods by the bank gm at -16 LUFS.

tags    musicnn trained on the Million Song Dataset (wheel `musicnn`): how many pieces have the mood `sad` above `happy`
        by the tags sad, Mellow, ambient, and below it by party
judge   two logistic regressions on vgmidi: valence and arousal from what a listener has (onset rate, how long notes
        sound, velocity, mode, register, centre and spread of the spectrum, attack). Of two moods of one
        piece it says which is higher, on the axes in which they differ.

FOLDER keeps each excerpt's features, so that a second run only counts. Pieces are held out by their names' checksums.
"""

import argparse
import csv
import logging
import zlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from miao.evaluation.embedders import musicnn
from miao.evaluation.musicnn import read_checkpoint
from miao.expression import expressed
from miao.midi.score import Score, read_score
from miao.synth.synthesizer import Synthesizer

MOODS = {"happy": (1, 1), "angry": (-1, 1), "sad": (-1, -1), "tender": (1, -1)}  # valence, arousal
SECONDS, JUDGE_SECONDS = 7.5, 25.0
SAMPLE_RATE = 16_000
TAGS = {"sad": 47, "Mellow": 17, "ambient": 28, "party": 35}  # places among musicnn's tags of MSD
TAGGED = ("happy", "sad")  # moods that are compared by tags
FEATURES = ("onsets", "length", "velocity", "mode", "register", "centroid", "spread", "attack")
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


def excerpt(path: Path, seconds: float) -> Score:
    """Some seconds of a piece, a fifth of the way in; whatever sounds is let go at their end."""
    score = read_score(path)
    start = 0.2 * max(score.duration - seconds, 0)
    part = score.between(start, start + seconds)
    tracks = []
    for track in part.tracks:
        notes = track.notes.copy()
        for name in ("end", "damp"):  # what a pedal that nobody lifts holds would be most of what is heard
            notes[name] = np.minimum(notes[name], np.maximum(seconds, notes["start"] + 0.05))
        tracks.append(replace(track, notes=notes))
    if not tracks:
        return part
    part = replace(part, tracks=tuple(tracks), duration=max(float(t.notes["damp"].max()) for t in tracks))
    return part.shifted(-min(float(t.notes["start"][0]) for t in tracks))


def features(score: Score, samples: np.ndarray) -> np.ndarray:
    """What a listener has of an excerpt, as in FEATURES."""
    notes = np.concatenate([track.notes for track in score.tracks])
    pitched = notes[~notes["is_drum"]]
    seconds = max(score.duration, 1.0)
    onsets = len(np.unique(np.rint(notes["start"] * 20))) / seconds
    length = np.minimum(pitched["damp"] - pitched["start"], 4.0)
    weight = np.bincount(pitched["pitch"] % 12, np.maximum(length, 0.05), minlength=12)
    major, minor = (max(np.corrcoef(np.roll(p, t), weight)[0, 1] for t in range(12)) for p in (_MAJOR, _MINOR))
    frames = np.lib.stride_tricks.sliding_window_view(samples.mean(axis=0), 1024)[::512] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    hz = np.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
    mean = power.mean(axis=0)
    log_hz = np.log2(np.maximum(hz, 30))
    centre = float((mean * log_hz).sum() / mean.sum())
    spread = float(np.sqrt((mean * (log_hz - centre) ** 2).sum() / mean.sum()))
    level = 10 * np.log10(power.sum(axis=1) + 1e-9)
    attack = float(np.maximum(np.diff(level), 0).mean())
    return np.array([np.log(onsets + 0.1), np.log(length.mean() + 0.05), notes["velocity"].mean() / 20, major - minor,
                     pitched["pitch"].mean() / 6, centre, spread, attack])  # fmt: skip


class Tagger:
    """musicnn's probabilities of TAGS, as their logarithms of odds."""

    def __init__(self) -> None:
        import musicnn as package

        self.embed = musicnn("MSD")
        tensors = read_checkpoint(Path(package.__path__[0]) / "MSD_musicnn")
        self.kernel, self.bias = tensors["dense_1/kernel"], tensors["dense_1/bias"]

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        odds = self.embed(samples, SAMPLE_RATE) @ self.kernel + self.bias  # [patches, 50]
        return odds.mean(axis=0)[list(TAGS.values())]


def heard(path: Path, mood: str, synthesizer: Synthesizer, tagger: Tagger | None, cache: Path) -> np.ndarray | None:
    """Features and tags of an excerpt in a mood, from the cache if they are there; None if nothing is to be heard."""
    kept = cache / f"{path.parent.name}-{path.stem}-{mood}.npy"
    if kept.exists():
        found = np.load(kept)
        return found if len(found) else None
    score = excerpt(path, SECONDS if tagger else JUDGE_SECONDS)
    row = np.zeros(0)
    if score.tracks and any(not t.notes["is_drum"].all() for t in score.tracks):
        played = score if mood == "written" else expressed(score, mood=mood)
        samples = synthesizer.render(played, sample_rate=SAMPLE_RATE).samples
        tags = tagger(samples) if tagger and mood in TAGGED else np.zeros(len(TAGS))
        row = np.concatenate([features(played, samples), tags])
    np.save(kept, row)
    return row if len(row) else None


def pieces(midi: Path, is_tuning: bool) -> list[Path]:
    """What is played: by the checksum of the names, a tenth to tune on and 52 others to report."""
    chosen = []
    for folder, n in (("freedoom", 13), ("pop909", 18), ("piano-midi-de", 12), ("js-fakes", 9)):
        found = sorted((midi / folder).rglob("*.mid"), key=lambda p: zlib.crc32(p.name.encode()))
        of_kind = [p for p in found if (zlib.crc32(p.name.encode()) // 7 % 10 == 0) == is_tuning]
        chosen += of_kind[:n]
    return sorted(chosen, key=lambda p: zlib.crc32(p.name.encode()))


def judge(midi: Path, synthesizer: Synthesizer, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Weights [2, F] of valence and arousal, and the features' standard deviations [F], from vgmidi."""
    text = (midi / "vgmidi" / "labels.csv").read_bytes().decode()
    lines = text.replace("\r", "").splitlines()  # names end in a stray carriage return
    labels = {row["file"]: (int(row["valence"]), int(row["arousal"])) for row in csv.DictReader(lines)}
    rows, targets = [], []
    for name, label in sorted(labels.items()):
        row = heard(midi / "vgmidi" / name, "written", synthesizer, None, cache)
        if row is not None:
            rows.append(row[: len(FEATURES)])
            targets.append(label)
    x, y = np.array(rows), np.array(targets, float)
    scale = x.std(axis=0)
    z = (x - x.mean(axis=0)) / scale
    weights = np.stack([logistic(z, y[:, axis]) for axis in (0, 1)])
    folds = np.arange(len(z)) % 10
    for axis, name in enumerate(("valence", "arousal")):
        right = [
            (
                (
                    z[folds == k] @ logistic(z[folds != k], y[folds != k, axis])[:-1]
                    + logistic(z[folds != k], y[folds != k, axis])[-1]
                    > 0
                )
                == y[folds == k, axis]
            ).mean()
            for k in range(10)
        ]
        print(
            f"judge of {name}: right on {np.mean(right):.2f} of held-out vgmidi ({len(z)} pieces), weights "
            + ", ".join(f"{f} {w:+.2f}" for f, w in zip(FEATURES, weights[axis], strict=False))
        )
    return weights[:, :-1], scale


def logistic(x: np.ndarray, y: np.ndarray, ridge: float = 5.0) -> np.ndarray:
    """Weights of a logistic regression, the last being the constant; Newton's method."""
    x = np.column_stack([x, np.ones(len(x))])
    w = np.zeros(x.shape[1])
    penalty = np.diag([ridge] * (len(w) - 1) + [1e-6])
    for _ in range(20):
        p = 1 / (1 + np.exp(-x @ w))
        w -= np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + penalty, x.T @ (p - y) + penalty @ w)
    return w


def interval(hits: int, n: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    share, z = hits / n, 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * share:.0f} % ({100 * (middle - half):.0f}-{100 * (middle + half):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("midi", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--tuning", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    options.output.mkdir(parents=True, exist_ok=True)
    synthesizer, tagger = Synthesizer.from_pretrained("gm"), Tagger()
    weights, scale = judge(options.midi, synthesizer, options.output)
    rows = []
    for path in pieces(options.midi, options.tuning):
        heard_as = {mood: heard(path, mood, synthesizer, tagger, options.output) for mood in MOODS}
        if all(row is not None for row in heard_as.values()):
            rows.append(heard_as)
    n = len(rows)
    print(f"{n} pieces")
    for number, tag in enumerate(TAGS, start=len(FEATURES)):
        above = sum(row["sad"][number] > row["happy"][number] for row in rows)
        print(f"tag {tag}: sad above happy in {interval(above, n)}, below in {interval(n - above, n)}")
    for one, other in combinations(MOODS, 2):
        axes = np.array(MOODS[one]) - np.array(MOODS[other])
        hits = 0
        for row in rows:
            difference = weights @ ((row[one] - row[other])[: len(FEATURES)] / scale)  # [2]
            hits += float((difference * axes).sum()) > 0
        print(f"judge, {one} against {other}: {interval(hits, n)}")


if __name__ == "__main__":
    main()
