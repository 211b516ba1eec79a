"""All benchmarks by one command: builds each, evaluates systems on it, and says which commands that took, and how long.

The banks are called by their part: --source is the SoundFont that the bank was learnt from and plays gm-heldout and
dissonant, --other an unrelated one that plays gm-othersource, --relative a third. What is done already is not done
again, neither after a kill nor with a higher limit. Results lie in OUTPUT/report-NAME/report.md, and the times in
OUTPUT/times.json. Systems play dry; with --effects as they come, each with its own room (OUTPUT/report-NAME-effects).
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

FLOORS = ("silence", "noise", "sine")
WITH_EFFECTS = ("miao", "fluidsynth:")


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "times.json"
    times = json.loads(path.read_text()) if path.is_file() else []
    for words in commands(options):
        line = shlex.join(["miao", *words])
        print(f"\n$ {line}", flush=True)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "miao", *words], check=True)
        times.append({"command": line, "seconds": round(time.perf_counter() - began, 1)})
        path.write_text(json.dumps(times, indent=1) + "\n")


def commands(options: argparse.Namespace) -> list[list[str]]:
    """The words after `miao`, two commands for each benchmark."""
    source, other, relative = map(str, (options.source, options.other, options.relative))
    roots = [word for root in options.root for word in ("--root", str(root))]
    played_by = {"gm-heldout": source, "gm-othersource": other, "dissonant": source, "recordings": None}
    samplers = {
        "gm-heldout": (source, other), "gm-othersource": (source, relative),
        "dissonant": (relative, other), "recordings": (source, relative, other),
    }  # fmt: skip
    found = []
    for name in options.only or played_by:
        folder = str(options.output / name)
        font = played_by[name]
        build = ["data", "benchmark", name, "-o", folder, *roots, *(["--soundfont", font] if font else [])]
        systems = ["miao", "encoded", *(f"fluidsynth:{path}" for path in samplers[name]), "reference", *FLOORS]
        systems = [system for system in systems if system not in options.without]
        report = options.output / f"report-{name}"
        if options.effects:  # what has none sounds as it is, and "encoded" is no system to compare with
            systems = [f"{s}+effects" if s.startswith(WITH_EFFECTS) else s for s in systems if s != "encoded"]
            report = report.with_name(f"{report.name}-effects")
        run = ["evaluate", *systems, "--data", folder, "-o", str(report)]
        run += [word for embedder in options.embedder for word in ("--embedder", embedder)]
        run += ["--limit", str(options.limit)] if options.limit else []
        found += [[*build, "--seconds", f"{options.seconds:g}", "-j", str(options.jobs)],
                  [*run, "-j", str(options.jobs)]]  # fmt: skip
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the .sf2 that the bank was learnt from")
    parser.add_argument("--other", type=Path, required=True, help="an unrelated .sf2")
    parser.add_argument("--relative", type=Path, required=True, help="a third .sf2")
    parser.add_argument("--root", type=Path, action="append", default=[], help="where scores and recordings lie")
    parser.add_argument("--embedder", action="append", default=[], help="NAME=FILE, as `miao evaluate` has it")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each piece")
    parser.add_argument("--limit", type=int, help="only the first pieces of each group")
    parser.add_argument("--without", action="append", default=[], help="a system that is left out, such as encoded")
    parser.add_argument("--effects", action="store_true", help="banks in their room, samplers with reverb and chorus")
    parser.add_argument("--only", action="append", help="this benchmark; may be repeated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
