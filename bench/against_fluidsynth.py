"""Processor time of the whole `miao render` beside FluidSynth's: `python bench/against_fluidsynth.py`.

Each of ten songs is rendered by both commands, from the MIDI file to a 16-bit WAV file, with all effects on, one
straight after the other and several times in turn; what counts is the processor time of the whole process (user and
system, threads and start included), and of the ratios of each pair the median. So the answer stands on a machine that
others use, too: what slows one of a pair slows the other. The speed by the clock is shown beside it.

With `-o FOLDER` the report is kept there as against_fluidsynth.json and .md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from speed import ROOT, SOUNDFONTS, hold_cores, median, processor

MIDI = ROOT.parent / "shared/data/midi"
SONGS = (  # ten of different kinds, chosen before any was measured: games, pop, piano from Bach to Liszt, a chorale
    "freedoom/test/d_map06.mid", "freedoom/test/d_e1m6.mid", "freedoom/test/d_dm16.mid", "freedoom/test/d_map20.mid",
    "pop909/001.mid", "pop909/421.mid", "piano-midi-de/Bach/bach_846.mid", "piano-midi-de/Beethoven/elise.mid",
    "piano-midi-de/Liszt/liz_et1.mid", "js-fakes/100.mid",
)  # fmt: skip
MEDIAN_BAR, SONG_BAR, N_EXCUSED = 0.8, 1.0, 2


def main() -> None:
    options = arguments()
    program = shutil.which("fluidsynth") or sys.exit("fluidsynth is not installed")
    if not options.soundfont or not options.soundfont.is_file():
        sys.exit("--soundfont names no file")
    report = {
        "soundfont": options.soundfont.name, "machine": processor(), "cores": hold_cores(options.cores),
        "runs": options.runs, "songs": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.scratch) as place:
        wav = Path(place) / "song.wav"
        fluid = [program, "-ni", "-q", "-F", wav, "-r", "44100", options.soundfont]
        for song in options.songs:
            ours = [sys.executable, "-m", "miao", "render", song, "-o", wav, "--force", *options.more]
            cost(ours), cost([*fluid, song])  # warm: files in memory
            pairs = [(cost(ours), cost([*fluid, song])) for _ in range(options.runs)]
            report["songs"].append(described(song, pairs))
            print(row(report["songs"][-1]), flush=True)
    report["median_ratio"] = median([song["ratio"] for song in report["songs"]])
    report["n_above_1"] = sum(song["ratio"] > SONG_BAR for song in report["songs"])
    print("\n" + (text := markdown(report)))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "against_fluidsynth.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
        (options.output / "against_fluidsynth.md").write_text(text)
    if options.strict and (report["median_ratio"] > MEDIAN_BAR or report["n_above_1"] > N_EXCUSED):
        sys.exit(f"above {MEDIAN_BAR} in the median, or above {SONG_BAR} on more than {N_EXCUSED} songs")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="*", type=Path, help="MIDI files; default: ten that --midi holds")
    parser.add_argument("--midi", type=Path, default=MIDI, help="the folder with the default songs")
    parser.add_argument("--soundfont", type=Path, default=next((p for p in SOUNDFONTS if p.is_file()), None))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--more", nargs="*", default=[], help="further words for `miao render`")
    parser.add_argument("--strict", action="store_true", help="fail if the aims are missed")
    parser.add_argument("--scratch", type=Path, help="where the sound is written to and removed from")
    parser.add_argument("-o", "--output", type=Path, help="folder for against_fluidsynth.json and .md")
    options = parser.parse_args()
    options.songs = options.songs or [options.midi / name for name in SONGS if (options.midi / name).is_file()]
    return options if options.songs else parser.error(f"--midi: {options.midi} holds none of the songs")


def cost(command: list) -> tuple[float, float]:
    """Processor and wall-clock seconds of a command; ends the benchmark if it fails."""
    began = time.perf_counter()
    # an installed package is kept compiled; where a developer's setting forbids that, each start would compile it all
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [str(word) for word in command], env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = b"", process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} fails with {process.returncode}:\n{errors.decode()[-2000:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began


def described(song: Path, pairs: list) -> dict:
    from miao.midi.score import read_score

    score = read_score(song)
    return {
        "song": f"{song.parent.name}/{song.name}", "seconds": score.duration, "tracks": len(score.tracks),
        "notes": score.n_notes, "miao_cpu": [a[0] for a, _ in pairs], "fluidsynth_cpu": [b[0] for _, b in pairs],
        "miao_wall": [a[1] for a, _ in pairs], "fluidsynth_wall": [b[1] for _, b in pairs],
        "ratio": median([a[0] / b[0] for a, b in pairs]),
        "speed": score.duration / median([a[1] for a, _ in pairs]),
    }  # fmt: skip


def row(song: dict) -> str:
    return (
        f"| {song['song']} | {song['seconds']:.0f} | {song['tracks']} | {song['notes']:,} | "
        f"{median(song['miao_cpu']):.2f} | {median(song['fluidsynth_cpu']):.2f} | {song['ratio']:.2f} | "
        f"{song['speed']:.0f} |"
    )


def markdown(report: dict) -> str:
    return "\n".join([
        f"{report['cores']} cores of {report['machine']}, {report['runs']} pairs a song; FluidSynth with "
        f"{report['soundfont']}.",
        "",
        "| song | s | tracks | notes | miao, processor s | FluidSynth, processor s | ratio | miao by the clock, x |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, report["songs"]),
        "",
        f"Median ratio {report['median_ratio']:.2f}; {report['n_above_1']} of {len(report['songs'])} songs above 1.",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
