"""Reads and plays whole folders of real MIDI files: none may crash, hang, sound wrong by its numbers, or eat memory.

    python bench/real_files.py FOLDER [FOLDER ...] --seconds 15 --journal real.json

Of each file so many seconds in its middle are rendered as `miao render` does it, seeking included; `--seconds 0`
renders whole files. Files are taken by a fixed shuffle, so that a run that is stopped has seen some of each folder. The
journal is written after every file: the same command goes on where it was stopped.
"""

import argparse
import json
import logging
import random
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np

from miao.errors import MiaoError, ScoreError
from miao.midi.score import read_score
from miao.synth.synthesizer import Synthesizer

SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
LOUDEST, QUIETEST = 1.0, 0.01  # of the highest sample: the limiter holds -1 dBTP, and -40 dB would be a mix got lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each file, in its middle; 0: all of it")
    parser.add_argument("--files", type=int, help="stop after so many")
    parser.add_argument("--journal", type=Path, default=Path("real.json"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    paths = [
        path for folder in options.folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES
    ]
    random.Random(13).shuffle(paths)
    done = json.loads(options.journal.read_text()) if options.journal.exists() else {}
    synthesizer = Synthesizer.from_pretrained("gm")
    for path in paths[: options.files]:
        if str(path) not in done:
            done[str(path)] = played(path, synthesizer, options.seconds)
            temporary = options.journal.with_suffix(".tmp")
            temporary.write_text(json.dumps(done, indent=0, ensure_ascii=False))
            temporary.rename(options.journal)
    print(summary(done))


def played(path: Path, synthesizer: Synthesizer, seconds: float) -> dict:
    """What came of one file."""
    began = time.process_time()
    try:
        score = read_score(path)
    except ScoreError as error:
        assert "\n" not in str(error)
        return {"outcome": "refused in one line", "why": str(error).removeprefix(str(path))}
    except Exception as error:
        return {"outcome": "failed", "why": repr(error)[:300]}
    result: dict = {"notes": score.n_notes, "reading_s": round(time.process_time() - began, 3)}
    result |= {"warnings": score.warnings, "told": score.ignored}
    span: dict = {}
    if seconds and score.duration > seconds:
        start = max((score.duration - seconds) / 2, 0.0)
        first = min(float(track.notes["start"][0]) for track in score.tracks)
        span = {"start": start, "end": max(start, first) + seconds}
    try:
        audio = synthesizer.render(score, **span).samples
    except MiaoError as error:
        outcome = "silent there" if "nothing sounds" in str(error) else "failed"
        return result | {"outcome": outcome, "why": str(error)[:300]}
    except Exception as error:
        return result | {"outcome": "failed", "why": repr(error)[:300]}
    peak = float(np.abs(audio).max(initial=0.0))
    is_sane = bool(np.isfinite(audio).all()) and QUIETEST < peak <= LOUDEST
    return result | {
        "outcome": "played" if is_sane else "failed",
        "sound_s": round(audio.shape[1] / 44_100, 2),
        "processor_s": round(time.process_time() - began, 3),
        "peak": round(peak, 4),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def summary(done: dict) -> str:
    """The run in a few lines."""
    rows = list(done.values())
    sounding = [row for row in rows if row["outcome"] == "played"]
    lines = [
        f"{len(rows)} files: " + ", ".join(f"{n} {what}" for what, n in Counter(r["outcome"] for r in rows).items())
    ]
    if sounding:
        sound, cost = (sum(row[name] for row in sounding) for name in ("sound_s", "processor_s"))
        slowest = max(sounding, key=lambda row: row["processor_s"])
        lines.append(
            f"{sum(row['notes'] for row in sounding):,} notes, {sound / 60:,.0f} min of sound in {cost / 60:.1f} min "
            f"of processor time; the slowest {slowest['processor_s']:.1f} s for {slowest['sound_s']:.0f} s; "
            f"peaks {min(r['peak'] for r in sounding):.3f} to {max(r['peak'] for r in sounding):.3f}; "
            f"at most {max(row['megabytes'] for row in sounding)} MB"
        )
    lines.append(
        f"told of {sum(bool(r.get('told')) for r in rows)}, warned of {sum(bool(r.get('warnings')) for r in rows)}"
    )
    lines += [
        f"{path}: {row['outcome']}: {row.get('why', row)}" for path, row in done.items() if row["outcome"] != "played"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
