"""How close held-out single notes come to their teacher, encoded and played by a bank; a table of all voices.

    python bench/notes.py --soundfont MuseScore_General_Full.sf2 -o results/notes

Attacks: how far the median of five drawings of a note (strengths from two below to two above, ours each with another
seed) lies from that of the teacher's five, beside what single notes are off by and how far single drawings lie from
their median, theirs and ours. Resumable: what is in ``notes.jsonl`` for this bank is not measured again.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS, N_VOICES
from miao.evaluation.notes import attack_ms, measure_voice, summary

SYSTEMS = ("encoded", "miao")


def _table(records: list[dict]) -> list[str]:
    by_voice = defaultdict(list)
    for record in records:
        by_voice[record["voice"]].append(record)
    lines = ["| voice | n | encoded dB | miao dB | loudness dB | attack ms | of single notes ms | by chance ms |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    groups = [(str(v + 1), by_voice[v]) for v in sorted(by_voice) if v < N_PROGRAMS]
    groups += [("drum", by_voice[v]) for v in sorted(by_voice) if v >= N_PROGRAMS]
    for number, some in groups:
        encoded, ours = (summary(some, system) for system in SYSTEMS)
        late, *chance = attack_ms(some)
        lines.append(
            f"| {number} {some[0]['name']} | {len(some)} | {encoded['log_mel_db']:.2f} | {ours['log_mel_db']:.2f} "
            f"| {np.mean([r['miao']['loudness_db'] for r in some]):+.2f} | {late:.1f} | {ours['attack_median_ms']:.1f} "
            f"| {chance[0]:.1f}, {chance[1]:.1f} |"
        )
    return lines


def _off(records: list[dict]) -> list[str]:
    """Lines that name the voices which are off by more than they are meant to be, and by how much."""
    by_voice = defaultdict(list)
    for record in records:
        by_voice[record["name"]].append(record)
    attacks = {name: attack_ms(some) for name, some in by_voice.items()}
    single = {name: summary(some, "miao")["attack_median_ms"] for name, some in by_voice.items()}
    loud = {name: float(np.mean([r["miao"]["loudness_db"] for r in some])) for name, some in by_voice.items()}
    far = {name: summary(some, "miao")["log_mel_db"] for name, some in by_voice.items()}
    found = {
        "attacks off by more than 5 ms (drawings of theirs, of ours from their median)": [
            f"{name} {ms:.1f} ({theirs:.1f}, {ours:.1f})" for name, (ms, theirs, ours) in attacks.items() if ms > 5
        ],
        "attacks of single notes off by more than 5 ms": [f"{name} {ms:.1f}" for name, ms in single.items() if ms > 5],
        "too loud or soft by more than 1 dB": [f"{name} {db:+.2f}" for name, db in loud.items() if abs(db) > 1],
        "error above 5 dB": [f"{name} {db:.2f}" for name, db in far.items() if db > 5],
    }
    return [f"- Of {len(by_voice)} voices, {what}: {', '.join(some) or 'none'}." for what, some in found.items()]


def main() -> None:
    """Measure, write notes.json and notes.md, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only every n-th voice, for a quick look")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    checksum = Bank.load(arguments.bank, 1).checksum
    log = arguments.output / "notes.jsonl"
    done = {}
    if log.exists():
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        done = {row["voice"]: row["records"] for row in rows if row["bank"] == checksum}
    todo = [v for v in range(0, N_VOICES, arguments.every) if v not in done]
    results = Parallel(arguments.jobs, return_as="generator")(
        delayed(measure_voice)(arguments.soundfont, arguments.bank, v) for v in todo
    )
    with log.open("a") as file:
        for voice, records in zip(todo, results, strict=True):
            done[voice] = records
            file.write(json.dumps({"bank": checksum, "voice": voice, "records": records}) + "\n")
            file.flush()
            print(f"\r{len(done)} voices", end="", file=sys.stderr, flush=True)
    records = [record for voice in sorted(done) for record in done[voice]]
    report: dict[str, object] = {"bank": checksum, "soundfont": Path(arguments.soundfont).name}
    report |= {system: summary(records, system) for system in SYSTEMS}
    report["voices"] = [*_off(records), "", *_table(records)]
    (arguments.output / "notes.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output / "notes.md").write_text("\n".join(_table(records)) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
