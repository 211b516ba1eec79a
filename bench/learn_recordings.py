"""How near voices learnt from recordings of music come to music that they were not learnt from.

    python bench/learn_recordings.py FOLDER --group violin --sound-banks MuseScore.sf3 TimGM6mb.sf2 -o results/learnt

FOLDER holds recordings/violin, recordings/quartet and so on, as `miao evaluate` reads them. The pieces of a group are
learnt from as `miao learn` does it: every fourth is held out. Told are the fit's own figures on these, and up to four
spots of eight seconds of them as they are rendered: by the programs dry and in the learnt room, by the learnt voices in
it, and by the sound banks, each at the gain that suits it best. Writes clips and learnt-GROUP.json.
"""

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from miao.arrays import Floats
from miao.bank.bank import Bank
from miao.evaluation.recordings import GROUPS, plan_recordings
from miao.evaluation.sampler import Sampler
from miao.midi.score import Score
from miao.training.listening import Player
from miao.training.music_voice import learn_music
from miao.training.performances import Performance


def played(sampler: Sampler, score: Score, seconds: float) -> Floats:
    """A score as a sound bank has it."""
    mix: Floats = sampler.stems(score, seconds).sum(axis=0)
    return mix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group", choices=[g for g in GROUPS if g != "drums"], default="violin")
    parser.add_argument("--only", default="", help="only pieces with this in their names")
    parser.add_argument("--sound-banks", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each piece")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    plans = [plan for plan in plan_recordings([options.folder], options.seconds)[0]
             if plan.group == options.group and options.only in plan.name]  # fmt: skip
    performances = []
    for plan in plans:
        material = plan.read()
        assert material.audio is not None
        tracks = tuple(range(len(material.score.tracks)))
        performances.append(Performance(plan.name, material.audio, material.score, tracks))
    players: dict[str, Player] = {path.name: partial(played, Sampler(path)) for path in options.sound_banks}
    began = time.process_time()
    made = learn_music(Bank.load("gm", 1), performances, options.group, {"source": options.group}, players=players)
    row = {
        "pieces": [plan.name for plan in plans], "scores": asdict(made.scores), "learnt_from": made.learnt_from,
        "rendered": made.takes.errors, "t60_seconds": np.round(made.fit.t60_seconds, 3).tolist(),
        "room_db": np.round(made.fit.room_db, 2).tolist(), "remarks": made.remarks,
        "cpu_seconds": time.process_time() - began,
    }  # fmt: skip
    print(f"{len(plans)} pieces, {made.scores.n_pieces} held out, dB: the programs with one gain "
          f"{made.scores.one_gain:.2f}, room, filter and floor {made.scores.room:.2f}, levels too "
          f"{made.scores.all:.2f}; {row['cpu_seconds']:.0f} s CPU")  # fmt: skip
    for name, error in made.takes.errors.items():
        print(f"rendered: {name:24} {error:.2f}")
    for remark in made.remarks:
        print(remark)
    for name, sound in made.takes.sounds.items():
        sound.save(options.output / f"{options.group}-{name}.wav", force=True)
    (options.output / f"learnt-{options.group}.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
