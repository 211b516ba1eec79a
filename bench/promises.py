"""What expression and mood promise of every score, asked of many files.

    python bench/promises.py FOLDER_OR_FILE ...   counts of files that were played, and each promise that was broken

Each file is played with several amounts and moods (`HOWS`); what holds of a performance is in `broken`.
"""

import argparse
import logging
import time
from collections import Counter
from pathlib import Path

import numpy as np

from miao.errors import MiaoError
from miao.expression import expressed
from miao.expression.beats import Pulse
from miao.expression.written import performance_bytes
from miao.midi.score import Score, read_score

HOWS: tuple[dict, ...] = (
    {"amount": 1.0}, {"amount": 2.0, "style": "rules"}, {"amount": 0.5, "style": "rules"}, {"mood": "calm:2"},
    {"amount": 1.0, "mood": "sad"}, {"mood": "angry:2"}, {"mood": "happy"}, {"valence": 1.0, "arousal": -1.0},
)  # fmt: skip
WIDEST, SHORTEST, SAME = 0.03, 0.02, 1e-6  # seconds
CLOCK = 1e-4  # seconds to which the tempo map says the time of a beat


def broken(score: Score, played: Score) -> list[str]:
    """The promises that a performance does not keep; see the list in docs/expression.md."""
    found = []
    has_doublings = played.n_notes > score.n_notes
    pairs = []
    for old, new in zip(score.tracks, played.tracks, strict=True):
        notes = new.notes
        numbers = (notes["start"], notes["end"], notes["damp"])
        if not all(np.isfinite(x).all() for x in numbers):
            return ["a time is not finite"]
        lost = Counter(old.notes["pitch"].tolist()) - Counter(notes["pitch"].tolist())
        found += ["a note is lost"] * bool(lost)
        found += ["a note is shorter than 20 ms"] * bool((notes["end"] - notes["start"] < SHORTEST - SAME).any())
        found += ["a velocity leaves the scale"] * bool(((notes["velocity"] < 1) | (notes["velocity"] > 127)).any())
        found += ["a sound ends before it begins"] * bool((notes["damp"] < notes["start"]).any())
        found += ["notes are not in order of time"] * bool((np.diff(notes["start"]) < 0).any())
        for curve in new.controls.values():
            found += ["a controller's times fall"] * bool((np.diff(curve.times) < 0).any())
        if not has_doublings:
            pairs.append(in_pairs(old.notes, notes))
            found += ["a note overtakes another of its part"] * overtakes(*(side["start"] for side in pairs[-1]))
    if pairs:
        is_held_over = holds_over([track.channel for track in score.tracks], pairs)
        found += ["a key is struck again while it is down, where it was up"] * is_held_over
        written, start = (np.concatenate([notes["start"] for notes in side]) for side in zip(*pairs, strict=True))
        order = np.argsort(written, kind="stable")
        groups = np.flatnonzero(np.diff(written[order], prepend=-np.inf) > SAME)
        spread = np.maximum.reduceat(start[order], groups) - np.minimum.reduceat(start[order], groups)
        found += ["what is written together parts by more than 30 ms"] * bool((spread > WIDEST + SAME).any())
        late = start - common_time(score, played, written)
        found += ["a part drifts from the common time"] * bool((late < -CLOCK).any() or (late > WIDEST + CLOCK).any())
    return sorted(set(found))


def in_pairs(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The notes of a track as written and as played: the first of each key is the first, and so on."""
    first, second = (notes[np.lexsort((notes["end"], notes["start"], notes["pitch"]))] for notes in (old, new))
    return first, second


def holds_over(channels: list[int], pairs: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether a key is down when a channel strikes it again, where it was up in the score; notes of 20 ms, which get no
    shorter, aside."""
    old, new = (np.concatenate(side) for side in zip(*pairs, strict=True))
    keys = np.repeat(channels, [len(notes) for notes, _ in pairs]) * 128 + old["pitch"]
    for key in np.unique(keys):
        written, heard = old[keys == key], new[keys == key]
        is_later = written["start"] >= written["end"][:, None] - SAME  # [notes, strokes]
        following = np.where(is_later, heard["start"], np.inf).min(axis=1)
        if (heard["end"] > np.maximum(following, heard["start"] + SHORTEST) + SAME).any():
            return True
    return False


def overtakes(written: np.ndarray, start: np.ndarray) -> bool:
    """Whether a note that is written later is played earlier."""
    order = np.argsort(written, kind="stable")
    groups = np.flatnonzero(np.diff(written[order], prepend=-np.inf) > SAME)
    first, last = np.minimum.reduceat(start[order], groups), np.maximum.reduceat(start[order], groups)
    return bool((first[1:] < np.maximum.accumulate(last)[:-1] - SAME).any())


def common_time(score: Score, played: Score, written: np.ndarray) -> np.ndarray:
    """When the beats that lie at some moments are played, by the two tempo maps."""
    return Pulse.of(played.tempi).seconds(Pulse.of(score.tempi).quarters(written))


def broken_by_the_file(played: Score) -> list[str]:
    """What is no longer so when a performance has been written as MIDI and read again."""
    again = read_score(performance_bytes(played))
    if len(again.tracks) != len(played.tracks) or again.n_notes != played.n_notes:
        return ["a performance as a file has other notes"]
    found = []
    lanes = {(track.port, track.channel) for track in played.tracks}
    for one, other in zip(again.tracks, played.tracks, strict=True):
        a, b = (notes[np.lexsort((notes["start"], notes["pitch"]))] for notes in (one.notes, other.notes))
        same_key = np.diff(b["pitch"]) == 0
        found += ["a performance as a file has other times"] * bool(np.abs(a["start"] - b["start"]).max() > 0.003)
        is_clear = not (same_key & (b["end"][:-1] > b["start"][1:] - 0.001)).any()  # else a note-off may be another's
        is_clear &= len(lanes) == len(played.tracks) and not len(other.controls["sostenuto"].times)
        if is_clear and np.isinf(b["cut"]).all():
            late = np.abs(a["damp"] - b["damp"]) > 0.01
            late &= a["damp"] < again.duration - 0.05  # a pedal that is never lifted holds to the end of a file
            found += ["a performance as a file is pedalled otherwise"] * bool(late.any())
    return sorted(set(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    files = [f for p in options.paths for f in (sorted(p.rglob("*.mid*")) if p.is_dir() else [p])][:: options.every]
    faults: Counter[str] = Counter()
    n_played = n_refused = n_notes = 0
    began = time.process_time()
    for path in files:
        try:
            score = read_score(path)
        except MiaoError:
            n_refused += 1
            continue
        if expressed(score) is not score:
            faults["amount 0 is not the very score"] += 1
        for how in HOWS:
            played = expressed(score, **how)
            n_played, n_notes = n_played + 1, n_notes + score.n_notes
            for fault in [*broken(score, played), *(broken_by_the_file(played) if how is HOWS[0] else [])]:
                faults[fault] += 1
                print(f"{path}, {how}: {fault}", flush=True)
    print(f"{len(files) - n_refused} files ({n_refused} without a note that can be read), {n_played} performances, "
          f"{n_notes:,} notes, {time.process_time() - began:.0f} s of processor time")  # fmt: skip
    for fault, n in faults.most_common():
        print(f"{n} times: {fault}")
    print("no promise was broken" if not faults else f"{sum(faults.values())} promises were broken")


if __name__ == "__main__":
    main()
