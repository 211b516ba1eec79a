"""Held notes of all programs against the teacher: how many levels are near, by moment; voices that are furthest.

    python bench/long_notes.py --soundfont MuseScore_General_Full.sf2 -o results/long

Resumable: what is in ``long.jsonl`` for this bank is not measured again.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS
from miao.datasets.soundfont import SoundFont
from miao.evaluation.held_notes import (
    DECAY_DB,
    DECAY_MOMENTS,
    LASTING_DB,
    LASTING_MOMENTS,
    VELOCITY,
    HeldErrors,
    held_errors,
)
from miao.midi.general_midi import program_name


def summary(records: list[HeldErrors]) -> dict:
    """Shares of levels that are near the teacher's, of notes that last and of those that decay."""
    report = {}
    for name, lasts, limit, moments in (
        ("lasting", True, LASTING_DB, LASTING_MOMENTS),
        ("decaying", False, DECAY_DB, DECAY_MOMENTS),
    ):
        some = [r for r in records if r.lasts == lasts]
        by_moment = defaultdict(list)
        for r in some:
            for moment, difference in zip(r.moments, r.differences, strict=True):
                by_moment[moment].append(abs(difference))
        every = np.array([d for m in moments for d in by_moment[m]])
        report[name] = {
            "notes": len(some),
            "levels": len(every),
            f"within {limit:g} dB": round(float(np.mean(every <= limit)), 4),
            "median dB": round(float(np.median(every)), 2),
            "by seconds": {f"{m:g}": round(float(np.mean(np.array(by_moment[m]) <= limit)), 4) for m in moments},
        }
        if lasts:
            report[name]["gone before 30 s"] = int(sum(r.differences[-1] < -40 for r in some))
    return report


def main() -> None:
    """Measure, write long.jsonl and long.json, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--every", type=int, default=1, help="only every n-th program, for a quick look")
    parser.add_argument("--velocity", type=int, default=VELOCITY, help="of all notes; tables are measured at 100")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    font, bank = SoundFont(arguments.soundfont), Bank.load(arguments.bank, n_threads=1)
    log, done = arguments.output / "long.jsonl", {}
    if log.exists():
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        known = (bank.checksum, arguments.velocity)
        done = {r["voice"]: r["records"] for r in rows if (r["bank"], r.get("velocity", VELOCITY)) == known}
    with log.open("a") as file:
        for voice in range(0, N_PROGRAMS, arguments.every):
            if voice not in done:
                done[voice] = [asdict(r) for r in held_errors(font, bank, voice, velocity=arguments.velocity)]
                row = {"bank": bank.checksum, "velocity": arguments.velocity, "voice": voice, "records": done[voice]}
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"\r{len(done)} programs", end="", file=sys.stderr, flush=True)
    records = [HeldErrors(**r) for voice in sorted(done) for r in done[voice]]
    report = {"bank": bank.checksum, "soundfont": Path(arguments.soundfont).name}
    report |= {"velocity": arguments.velocity} | summary(records)
    far = sorted(records, key=lambda r: -r.far())[:12]
    report["furthest"] = [
        f"{program_name(r.voice, False)} {r.pitch}: " + ", ".join(f"{d:+.1f}" for d in r.differences)
        for r in far
        if r.far()
    ]
    (arguments.output / "long.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
