"""How large the peers are, how long they learnt, and how fast they play beside miao and FluidSynth.

    python bench/peers.py runs --soundfont MuseScore_General_Full.sf2

`runs` holds the folders of `miao train inverter`, `midi2wave`, `midi-ddsp` and `mi-ddpm`, or some of them. All play the
same seconds of the same score, dry, in turn, on two threads; stems and mix, score in, samples out.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from miao.bank.bank import Bank
from miao.evaluation.sampler import Sampler
from miao.evaluation.systems import Piece, Sound, played_stems, system
from miao.midi.score import read_score
from miao.peers import PEERS
from miao.peers.trained import load_inverter, load_peer
from miao.sound.spectrum import SAMPLE_RATE

THREADS = 2


def main() -> None:
    options = arguments()
    torch.set_num_threads(THREADS)
    score = read_score(options.score).between(0, options.seconds)
    n_samples = round(options.seconds * SAMPLE_RATE)
    silence = Sound(np.zeros((2, n_samples), np.float32), None)
    piece = Piece(score, options.seconds, silence, None)
    found = {name: options.runs / name for name in PEERS if (options.runs / name / "config.toml").is_file()}
    bank = Bank.load("gm", n_threads=THREADS)
    ways = {"miao gm": lambda: played_stems(bank, score, options.seconds)}
    if options.soundfont:
        sampler = Sampler(options.soundfont, False)
        ways["fluidsynth"] = lambda: sampler.stems(score, options.seconds)
    for name, run in found.items():
        player = system(f"{name}:{run}")
        ways[name] = lambda player=player: player.play(piece)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    print(f"{options.score.name}, {options.seconds:g} s, {len(score.tracks)} tracks, {score.n_notes} notes, "
          f"{THREADS} threads\n")  # fmt: skip
    print("| way | parameters | of them inverter | steps | learning, min | x real time, best | median |")
    print("|---|---|---|---|---|---|---|")
    for name, all_of_it in times.items():
        taken = all_of_it[1:]
        size = sizes(options.runs, name) if name in found else "- | - | - | -"
        rate = [options.seconds / t for t in (min(taken), statistics.median(taken))]
        print(f"| {name} | {size} | {rate[0]:.2f} | {rate[1]:.2f} |")
    if (options.runs / "inverter" / "config.toml").is_file():
        n = sum(p.numel() for p in load_inverter(options.runs / "inverter").parameters())
        steps, minutes = learning(options.runs / "inverter")
        print(f"| inverter | {n / 1e6:.2f} M | {n / 1e6:.2f} M | {steps} | {minutes:.0f} | - | - |")


def sizes(runs: Path, name: str) -> str:
    """Parameters of a peer, its steps and the minutes that they took."""
    peer = load_peer(runs / name)
    inverter = 0 if peer.inverter is None else sum(p.numel() for p in peer.inverter.parameters())
    steps, minutes = learning(runs / name)
    return f"{peer.n_parameters / 1e6:.2f} M | {inverter / 1e6:.2f} M | {steps} | {minutes:.0f}"


def learning(run: Path) -> tuple[int, float]:
    """Steps, and minutes by the clock, of all parts of a run that was stopped and gone on with."""
    seconds, before = 0.0, 0
    for line in (run / "log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "seconds_a_step" in entry:
            seconds += max(entry["step"] - before, 0) * entry["seconds_a_step"]
            before = entry["step"]
    return before, seconds / 60


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of the peers' runs")
    parser.add_argument("--score", type=Path, default=Path(__file__).parents[1] / "examples" / "gymnopedie.mid")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--soundfont", type=Path, help="an .sf2 that FluidSynth plays beside them")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
