"""How fast a song is made, next to FluidSynth in the same run: `make bench`, or `python bench/speed.py [SONG]`.

Five times in turn, on two cores, warm: miao's whole path from the MIDI file to the WAV file at -16 LUFS, its engine
alone, the `miao render` command from its start to its end, and FluidSynth's command with its effects on and off.
Ratios are to the song's length, the last note's end; best and median. What FluidSynth takes to start and to load its
bank is measured by a song of one note, and shown apart. Then: how long `miao --help` takes, and how long it is from
the start of a process to its first block of sound; with `--install`, how large the renderer is once installed.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mido

from miao.midi.score import Score, read_score
from miao.synth.stems import stream_stems
from miao.synth.synthesizer import Synthesizer

ROOT = Path(__file__).resolve().parents[1]
SONGS = (ROOT.parent / "shared/data/midi/freedoom/test/d_map06.mid", ROOT / "examples/ode_to_joy.mid")
SOUNDFONTS = tuple(
    Path("/usr/share/sounds/sf2") / name
    for name in ("MuseScore_General_Full.sf2", "MuseScore_General_Lite.sf2", "FluidR3_GM.sf2", "default-GM.sf2")
)
FIRST_BLOCK = (
    "import sys; from miao.synth.synthesizer import Synthesizer; "
    "next(Synthesizer.from_pretrained(sys.argv[1]).stream(sys.argv[2]))"
)
MUST_BE_ABSENT = ("torch", "numba", "scipy")


def main() -> None:
    options = arguments()
    n_cores = hold_cores(options.cores)
    score = read_score(options.song)
    report = {
        "song": options.song.name, "song_seconds": score.duration, "n_tracks": len(score.tracks),
        "n_notes": score.n_notes, "cores": n_cores, "machine": processor(), "python": platform.python_version(),
        "runs": options.runs,
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report |= song_report(options, score, Path(folder))
        report["help_seconds"] = median(seconds_of([miao_command(), "--help"]) for _ in range(options.runs))
        first = [sys.executable, "-c", FIRST_BLOCK, options.bank, str(options.song)]
        report["first_sound_seconds"] = median(seconds_of(first) for _ in range(options.runs))
        if options.install:
            report["install"] = install_size(Path(folder) / "installed")
    print(text := markdown(report))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "speed.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
        (options.output / "speed.md").write_text(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", nargs="?", type=Path, default=next(p for p in SONGS if p.is_file()))
    parser.add_argument("--soundfont", type=Path, default=next((p for p in SOUNDFONTS if p.is_file()), None))
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--install", action="store_true", help="also install the renderer anew and weigh it (a minute)")
    parser.add_argument("-o", "--output", type=Path, help="folder for speed.json and speed.md")
    return parser.parse_args()


def hold_cores(n_cores: int) -> int:
    """Keep this process and its children on so many cores, where the system can; how many there are now."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_cores])
    return len(os.sched_getaffinity(0))


def song_report(options: argparse.Namespace, score: Score, folder: Path) -> dict:
    """Seconds of every way to make the song, a list a way, all taken in turn; and which bank."""
    began = time.perf_counter()
    synthesizer = Synthesizer.from_pretrained(options.bank)
    load_seconds = time.perf_counter() - began
    song, wav = options.song, folder / "song.wav"
    ways: dict[str, Callable[[], float]] = {
        "miao, file to file": lambda: synthesizer.render_file(song, wav, force=True).wall_seconds,
        "miao, engine alone": lambda: engine_seconds(synthesizer, score),
        "`miao render`, from start to end": lambda: seconds_of(
            [miao_command(), "render", song, "-o", wav, "--bank", options.bank, "--force"]
        ),
    }
    program = shutil.which("fluidsynth")
    if program and options.soundfont and options.soundfont.is_file():
        one_note = folder / "one_note.mid"
        mido.MidiFile(tracks=[mido.MidiTrack([
            mido.Message("note_on", note=60, velocity=80), mido.Message("note_off", note=60, time=48)
        ])]).save(one_note)  # fmt: skip
        begin, end = [program, "-ni"], ["-F", folder / "fluidsynth.wav", "-r", "44100", options.soundfont]
        dry = ["-R", "0", "-C", "0"]
        ways["fluidsynth, effects on"] = lambda: seconds_of([*begin, *end, song])
        ways["fluidsynth, effects off"] = lambda: seconds_of([*begin, *dry, *end, song])
        ways["fluidsynth, one note"] = lambda: seconds_of([*begin, *end, one_note])
    else:
        print("fluidsynth is left out: it is not installed, or --soundfont names no file", file=sys.stderr)
    for way in ways.values():  # warm: files in memory, pages touched
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, way in ways.items():
            taken[name].append(way())
    return {
        "bank": synthesizer.bank.checksum, "bank_load_seconds": load_seconds, "seconds": taken,
        "soundfont": options.soundfont.name if options.soundfont else None,
    }  # fmt: skip


def engine_seconds(synthesizer: Synthesizer, score: Score) -> float:
    began = time.perf_counter()
    for _ in stream_stems(synthesizer.bank, score):
        pass
    return time.perf_counter() - began


def seconds_of(command: list) -> float:
    """How long a command takes; ends the benchmark if it fails."""
    began = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    taken = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} fails with {done.returncode}:\n{done.stderr[-2000:]}")
    return taken


def miao_command() -> str:
    """The command of this Python's environment."""
    beside = Path(sys.executable).with_name("miao")
    found = str(beside) if beside.is_file() else shutil.which("miao")
    return found or sys.exit("the miao command is not installed; pip install -e . first")


def install_size(folder: Path) -> dict:
    """The renderer installed with all it needs into an empty folder: MB (10^6 bytes) on disk, in all and by package."""
    seconds = seconds_of([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, ROOT])
    sizes = {p.name: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) / 1e6 for p in folder.iterdir()}
    largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:8])
    return {
        "megabytes": sum(sizes.values()), "seconds": seconds, "largest": largest,
        "heavy_packages": [name for name in MUST_BE_ABSENT if name in sizes],
    }  # fmt: skip


def median(values) -> float:
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def markdown(report: dict) -> str:
    length, taken = report["song_seconds"], dict(report["seconds"])
    starts = taken.pop("fluidsynth, one note", None)
    lines = [
        f"{report['song']}: {length:.1f} s, {report['n_tracks']} tracks, {report['n_notes']} notes; {report['cores']} "
        f"core{'s' * (report['cores'] > 1)} of {report['machine']}; {report['runs']} runs in turn; bank "
        f"{report['bank']}, FluidSynth with {report['soundfont']}.",
        "",
        "| way | best, s | median, s | x real time, best | median |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, values in taken.items():
        lines.append(table_row(name, values, length))
    if starts:
        for name in ("fluidsynth, effects on", "fluidsynth, effects off"):
            values = [value - median(starts) for value in taken[name]]
            lines.append(table_row(f"{name}, without the {median(starts):.2f} s of its start", values, length))
    lines += [
        "",
        f"`miao --help`: {report['help_seconds']:.2f} s. First block of sound: {report['first_sound_seconds']:.2f} s "
        f"after the process starts. Loading the bank: {report['bank_load_seconds']:.2f} s.",
    ]
    if install := report.get("install"):
        heavy = ", ".join(install["heavy_packages"]) or f"none of {', '.join(MUST_BE_ABSENT)}"
        largest = ", ".join(f"{name} {size:.0f}" for name, size in list(install["largest"].items())[:5])
        lines += ["", f"Installed renderer: {install['megabytes']:.0f} MB ({largest}); heavy packages: {heavy}."]
    return "\n".join(lines) + "\n"


def table_row(name: str, values: list[float], length: float) -> str:
    best, middle = min(values), median(values)
    return f"| {name} | {best:.2f} | {middle:.2f} | {length / best:.1f} | {length / middle:.1f} |"


if __name__ == "__main__":
    main()
