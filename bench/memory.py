"""How much memory an hour of music takes: `python bench/memory.py [SONG]`.

A song is repeated until it fills the time, and rendered to a WAV file in a process of its own: once an hour of it, once
its first minute. Printed is the most memory that each process held at once, and what it held when the bank was loaded
and nothing played yet, in MB (10^6 bytes). An hour needs 2 GB of disk for a while.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SONGS = (ROOT.parent / "shared/data/midi/freedoom/test/d_map06.mid", ROOT / "examples/ode_to_joy.mid")
PAUSE_SECONDS = 1.0  # between two repetitions
LIMIT_MB = 500


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(render(options.song, options.minutes, options.bank, options.child)))
        return
    report = {"song": options.song.name, "limit_megabytes": LIMIT_MB, "runs": []}
    for minutes in (min(1.0, options.minutes / 2), options.minutes):
        with tempfile.TemporaryDirectory(dir=options.scratch) as place:
            # nothing heavy is imported here: on Linux a process starts with the peak of the one it was forked from
            child = ["--minutes", minutes, "--bank", options.bank, "--child", place]
            command = [str(word) for word in (sys.executable, __file__, options.song, *child)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"rendering {minutes:g} minutes fails with {done.returncode}")
        report["runs"].append(json.loads(done.stdout))
    print(text := markdown(report))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "memory.json").write_text(json.dumps(report, indent=1))
        (options.output / "memory.md").write_text(text)
    if report["runs"][-1]["peak_megabytes"] > LIMIT_MB:
        sys.exit(f"more than {LIMIT_MB} MB")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", nargs="?", type=Path, default=next(p for p in SONGS if p.is_file()))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--scratch", type=Path, help="where the sound is written to and removed from")
    parser.add_argument("-o", "--output", type=Path, help="folder for memory.json and memory.md")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def render(song: Path, minutes: float, bank: str, folder: Path) -> dict:
    """Render so much music in this process; its peaks in MB."""
    from miao.midi.score import read_score
    from miao.synth.synthesizer import Synthesizer

    score = repeated(read_score(song), 60 * minutes)
    synthesizer = Synthesizer.from_pretrained(bank)
    loaded = peak_megabytes()
    began = time.perf_counter()
    summary = synthesizer.render_file(score, folder / "song.wav")
    wall_seconds = time.perf_counter() - began
    return {
        "minutes": summary.seconds / 60, "n_tracks": len(score.tracks), "n_notes": score.n_notes,
        "loaded_megabytes": loaded, "peak_megabytes": peak_megabytes(), "speed": summary.seconds / wall_seconds,
    }  # fmt: skip


def repeated(score, seconds: float):
    """The score over and over, with its controllers set anew each time, up to the last note that starts in time."""
    from dataclasses import replace

    import numpy as np

    from miao.midi.score import Curve

    period = score.duration + PAUSE_SECONDS
    offsets = period * np.arange(max(int(np.ceil(seconds / period)), 1))

    def again(curve: Curve) -> Curve:
        times = np.concatenate([np.append(offset, curve.times + offset) for offset in offsets])
        return Curve(times, np.tile(np.append(curve.initial, curve.values), len(offsets)), curve.initial)

    tracks = []
    for track in score.tracks:
        notes = np.tile(track.notes, len(offsets))
        for name in ("start", "end", "damp"):
            notes[name] += np.repeat(offsets, len(track.notes))
        controls = {name: again(curve) for name, curve in track.controls.items()}
        tracks.append(replace(track, notes=notes, controls=controls, key_pressure=track.key_pressure[:0]))
    whole = replace(score, tracks=tuple(tracks), duration=float(offsets[-1]) + score.duration)
    return whole.between(0, seconds)


def peak_megabytes() -> float:
    """The most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def markdown(report: dict) -> str:
    lines = [f"{report['song']}, repeated:", ""]
    lines += ["| music | notes | bank loaded | peak | x real time |", "|---|---|---|---|---|"]
    for run in report["runs"]:
        megabytes = f"{run['loaded_megabytes']:.0f} MB | {run['peak_megabytes']:.0f} MB"
        lines.append(f"| {run['minutes']:.1f} min | {run['n_notes']} | {megabytes} | {run['speed']:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
