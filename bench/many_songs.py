"""Hundreds of songs by one command, with damaged ones among them and a worker killed: `python bench/many_songs.py`.

Takes real MIDI files (the shortest, so that it ends within minutes), gives some of them hard names, damages some, and
renders all by one `miao render FOLDER --jobs 2`. In the middle one of its workers is killed by SIGKILL. Then the same
command is given again, which must do only what is missing. What is told and what is there is compared: every whole
song has its sound, nothing is half written, the exit code tells that some failed, and a third call renders nothing.

With `-o FOLDER` the report is kept there as many_songs.json and .md. Ends with 1 if anything is not as it should be.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import soundfile
from speed import ROOT, hold_cores, processor

MIDI = ROOT.parent / "shared/data/midi"
HARD_NAMES = ("with space {}.mid", "日本の歌 {}.mid", "new\nline {}.mid", "'quoted' & $HOME {}.midi", "Ünïcode {}.MID")


def main() -> None:
    options = arguments()
    cores = hold_cores(options.cores)
    report = {"machine": processor(), "cores": cores, "songs": options.songs, "damaged": options.damaged}
    with tempfile.TemporaryDirectory(dir=options.scratch) as place:
        songs, output = Path(place) / "songs", Path(place) / "rendered"
        damaged = collect(options.midi, songs, options.songs, options.damaged)
        command = [sys.executable, "-m", "miao", "render", songs, "-o", output, "--jobs", options.jobs, *options.more]
        calls = [
            call(command, output, options.songs // 3),
            call(command, output, None),
            call(command, output, None),
        ]
        report["calls"] = calls
        report["largest_process_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        there = sorted(output.rglob("*.wav"))
        report["whole"] = sum(soundfile.info(path).frames > 0 for path in there)
        report["hours"] = sum(soundfile.info(path).duration for path in there) / 3600
        half = list(output.rglob(".miao-*.part"))
        report["half_written"] = len(half)
    faults = [
        *([] if report["whole"] == options.songs - damaged else ["not every whole song has its sound"]),
        *([] if not half else ["half-written files are left"]),
        *([] if all(c["exit_code"] for c in calls) else ["the exit code does not tell of the damaged songs"]),
        *([] if calls[2]["rendered"] == 0 else ["a third call renders songs again"]),
        *([] if calls[0]["failed"] == damaged + 1 else ["the killed worker's song is not told as failed"]),
    ]
    report["faults"] = faults
    print(text := markdown(report))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "many_songs.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
        (options.output / "many_songs.md").write_text(text)
    sys.exit("; ".join(faults) or 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--midi", type=Path, default=MIDI, help="a folder with MIDI files, at any depth")
    parser.add_argument("--songs", type=int, default=500)
    parser.add_argument("--damaged", type=int, default=5, help="how many of them are damaged")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where songs and sound are written to and removed from")
    parser.add_argument("--more", nargs="*", default=[], help="further words for `miao render`")
    parser.add_argument("-o", "--output", type=Path, help="folder for many_songs.json and .md")
    return parser.parse_args()


def collect(midi: Path, songs: Path, n: int, n_damaged: int) -> int:
    """Copies of n songs in folders of a hundred; some are cut off within their header. Gives how many."""
    found = sorted(midi.rglob("*.mid"), key=lambda path: (path.stat().st_size, path.name))
    found = list(islice((path for path in found if is_song(path)), n))
    if len(found) < n:
        sys.exit(f"{midi} holds {len(found)} MIDI files; say --songs {len(found)} or less")
    for i, path in enumerate(found):
        folder = songs / f"{i // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        name = HARD_NAMES[i // 20 % len(HARD_NAMES)].format(i) if i % 20 == 7 else f"{i} {path.name}"
        shutil.copyfile(path, folder / name)
        if n_damaged and i % (n // n_damaged) == 3 and i // (n // n_damaged) < n_damaged:
            (folder / name).write_bytes(path.read_bytes()[:10])
    return n_damaged


def is_song(path: Path) -> bool:
    from miao.errors import ScoreError
    from miao.midi.score import read_score

    try:
        return read_score(path).n_notes > 0 and path.parent.name != "odd"  # which are damaged, or silent
    except ScoreError:
        return False


def call(command: list, output: Path, kill_after: int | None) -> dict:
    """One call of the command: what it tells, what it costs; after some songs one of its workers is killed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    log = tempfile.TemporaryFile()  # noqa: SIM115  # of the process, which outlives no call
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    killed = None
    while process.poll() is None:
        time.sleep(0.2)
        if kill_after is not None and killed is None and len(list(output.rglob("*.wav"))) >= kill_after:
            killed = max(workers_of(process.pid))
            os.kill(killed, signal.SIGKILL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    log.seek(0)
    told = log.read().decode(errors="replace")
    last = told.strip().splitlines()[-1]
    counts = {name: int(m[1].replace(",", "")) if (m := re.search(rf"([\d,]+) {name}", last)) else 0
              for name in ("rendered", "there", "failed")}  # fmt: skip
    return {
        "exit_code": process.returncode, "told": last, **counts, "killed_a_worker": killed is not None,
        "seconds": time.perf_counter() - began,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }  # fmt: skip


def workers_of(pid: int) -> list[int]:
    """Its child processes that render, which are those with most memory."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if re.search(rf"^PPid:\s+{pid}$", text, re.M) and (rss := re.search(r"^VmRSS:\s+(\d+)", text, re.M)):
            found.append((int(rss[1]), int(status.parent.name)))
    return [number for rss, number in found if rss > 100_000]


def markdown(report: dict) -> str:
    lines = [
        f"{report['songs']} songs, {report['damaged']} damaged, {report['cores']} cores of {report['machine']}: "
        f"{report['whole']} files, {report['hours']:.1f} hours of sound, {report['half_written']} half written; "
        f"the largest process held {report['largest_process_mb']:.0f} MB.", "",
        "| call | exit code | rendered | there | failed | seconds | processor s | it says |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, c in zip(("first, a worker killed", "again", "and again"), report["calls"], strict=True):
        lines.append(
            f"| {name} | {c['exit_code']} | {c['rendered']} | {c['there']} | {c['failed']} | {c['seconds']:.0f} | "
            f"{c['processor_seconds']:.0f} | {c['told']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
