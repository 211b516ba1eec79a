"""Does `miao match` know real recordings? Each score of a benchmark against its own sound and the likeliest wrong one,
and its own sound against the score 0.7 s late and a semitone higher.

    miao data benchmark recordings --root data -o recordings
    python bench/matching.py --data recordings
"""

import argparse
from pathlib import Path

import numpy as np

from miao.bank.matching import Matcher, piece_similarity
from miao.evaluation.benchmarks import load_benchmark
from miao.midi.score import read_score
from miao.sound.audio import read_audio

LATE_SECONDS = 0.7


def main() -> None:
    """Print a row for each group of pieces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bank", default="gm")
    a = parser.parse_args()
    matcher, pieces = Matcher.from_pretrained(a.bank), load_benchmark(a.data).pieces
    scores = [read_score(a.data / piece.score) for piece in pieces]
    sounds = [read_audio(a.data / piece.mix) for piece in pieces]
    midi = [matcher.see_score(score, sound.duration) for score, sound in zip(scores, sounds, strict=True)]
    audio = [matcher.see_audio(sound) for sound in sounds]
    similarity = np.array([[piece_similarity(m, s) for s in audio] for m in midi])
    hardest = np.where(np.eye(len(pieces), dtype=bool), -2, similarity).argmax(axis=1)
    rows = []
    for n, piece in enumerate(pieces):
        others = [scores[n].shifted(LATE_SECONDS), scores[n].transposed(1)]
        pairs = [(scores[n], sounds[n]), (scores[n], sounds[hardest[n]]), *((other, sounds[n]) for other in others)]
        found = [matcher.match(score, sound).probability for score, sound in pairs]
        rows.append((piece.group, similarity[n].argmax() == n, similarity[:, n].argmax() == n, *found))
    print("| pieces | n | sound found by score | score found by sound | own sound | most similar wrong sound "
          f"| {LATE_SECONDS} s late | a semitone high | own above the others |")  # fmt: skip
    print("|---" * 9 + "|")
    for group in [*sorted({row[0] for row in rows}), "all"]:
        some = np.array([row[1:] for row in rows if group in (row[0], "all")], float)
        best = (some[:, 2] >= some[:, 3:].max(axis=1)).mean()  # drums cannot be transposed: equal there
        cells = [f"{value:.2f}" for value in (*some.mean(axis=0), best)]
        print(f"| {group} | {len(some)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
