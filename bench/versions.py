"""Do versions of miao sound as near to FluidSynth as one another? `python bench/versions.py --version NAME=COMMAND ...`

    python bench/versions.py --soundfont BANK.sf2 --version before="old/bin/miao render" --version now="miao render" \\
        --notes before=results/notes-before --notes now=results/notes-now -o results/versions

Sound: 30 s of each of ten songs (those of against_fluidsynth.py), from 15 s on, rendered by each version's command, all
effects on, beside the same seconds of the song by FluidSynth with the bank's teacher, effects on: log-mel error at the
gain that suits best, and how wide each is (the share of left minus right in the power). Notes: F1 of what is heard in
the stems, by the reports of `bench/songs.py --notes`, each made with its own version.

The first version is what the others are compared with: means over songs, differences with 95 % intervals by drawing
songs (bootstrap). Rendered excerpts are kept in OUTPUT, so that it goes on where it was stopped.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from against_fluidsynth import MIDI, SONGS
from numpy.typing import NDArray

from miao.evaluation.report import mean_of
from miao.evaluation.sound import stereo_width
from miao.sound.audio import read_audio
from miao.sound.spectrum import SAMPLE_RATE, log_mel
from miao.training.listening import best_gain

MEASURES = ("log-mel error, dB", "width", "stereo width off by", "F1 of notes", "F1 of drums")


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in options.version}
    for path in options.songs:
        song = f"{path.parent.name}/{path.name}"
        reference = by_fluidsynth(path, options)
        for name, command in options.version.items():
            sound = by_miao(path, name, command, options)
            found[name][song] = compared(reference, sound)
            print(f"{song:32}{name:12}" + "".join(f"{v:9.3f}" for v in found[name][song].values()), flush=True)
    for name, folder in options.notes.items():
        add_notes(found[name], json.loads((folder / "songs.json").read_text()))
    report = {
        "soundfont": options.soundfont.name, "start": options.start, "seconds": options.seconds, "songs": found,
        "commands": options.version,
    }  # fmt: skip
    (options.output / "versions.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    text = markdown(report)
    (options.output / "versions.md").write_text(text)
    print("\n" + text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="*", type=Path, help="MIDI files; default: ten that --midi holds")
    parser.add_argument("--midi", type=Path, default=MIDI, help="the folder with the default songs")
    parser.add_argument("--soundfont", type=Path, required=True, help="the .sf2 that the bank was learnt from")
    parser.add_argument("--version", action="append", required=True, metavar="NAME=COMMAND", help="may be repeated")
    parser.add_argument("--notes", action="append", default=[], metavar="NAME=FOLDER", help="of `songs.py --notes`")
    parser.add_argument("--start", type=int, default=15, help="of the excerpt, seconds")
    parser.add_argument("--seconds", type=int, default=30, help="of the excerpt")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.version = dict(pair.split("=", 1) for pair in options.version)
    options.notes = {name: Path(folder) for name, folder in (pair.split("=", 1) for pair in options.notes)}
    options.songs = options.songs or [options.midi / name for name in SONGS]
    if unknown := set(options.notes) - set(options.version):
        parser.error(f"--notes: no --version is called {', '.join(unknown)}")
    return options


# sound


def by_miao(path: Path, name: str, command: str, options: argparse.Namespace) -> NDArray[np.float32]:
    """An excerpt by a version's command."""
    wav = options.output / f"{path.stem}-{name.replace(' ', '-')}.wav"
    if not wav.is_file():
        to = options.start + options.seconds
        part = wav.with_suffix(".part.wav")
        words = [*shlex.split(command), str(path), "-o", str(part), "--from", str(options.start), "--to", str(to)]
        ran([*words, "--force"], part, wav)
    return cut(wav, 0, options.seconds)


def by_fluidsynth(path: Path, options: argparse.Namespace) -> NDArray[np.float32]:
    """The same seconds of the song by FluidSynth."""
    wav = options.output / f"{path.stem}-fluidsynth.wav"
    if not wav.is_file():
        part = wav.with_suffix(".part.wav")
        words = ["fluidsynth", "-ni", "-q", "-F", str(part), "-r", str(SAMPLE_RATE), str(options.soundfont), str(path)]
        ran(words, part, wav)
    return cut(wav, options.start, options.seconds)


def ran(words: list[str], part: Path, wav: Path) -> None:
    """Run a command that writes `part`, which becomes `wav` when it is whole."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} fails with {done.returncode}:\n{done.stderr[-2000:]}")
    part.rename(wav)


def cut(wav: Path, start: int, seconds: int) -> NDArray[np.float32]:
    samples = read_audio(wav).samples[:, start * SAMPLE_RATE : (start + seconds) * SAMPLE_RATE]
    return np.pad(samples, ((0, 0), (0, seconds * SAMPLE_RATE - samples.shape[1])))


def compared(reference: NDArray[np.float32], sound: NDArray[np.float32]) -> dict[str, float]:
    error, _ = best_gain(log_mel(reference), log_mel(sound))
    theirs, ours = stereo_width(reference), stereo_width(sound)
    return {"log-mel error, dB": error, "width": ours, "stereo width off by": abs(ours - theirs)}


# notes


def add_notes(found: dict[str, dict[str, float]], report: dict) -> None:
    """The mean F1 over a song's stems, from a report of songs.py."""
    by_name = {Path(song).name: song for song in found}
    for record in report["songs"]:
        song = by_name.get(Path(record["song"]).name)
        for is_drum, measure in ((False, "F1 of notes"), (True, "F1 of drums")):
            values = [stem["miao"]["f1"] for stem in record.get("stems", ()) if stem["is_drum"] == is_drum]
            if song is not None and values:
                found[song][measure] = float(np.mean(values))


# the report


def markdown(report: dict) -> str:
    """The short table, and every song below it."""
    return "\n".join([*short(report), "", *all_songs(report)]) + "\n"


def short(report: dict) -> list[str]:
    names = list(report["songs"])
    first, others = names[0], names[1:]
    lines = [
        f"{len(report['songs'][first])} songs, {report['seconds']} s from {report['start']} s of each, beside "
        f"FluidSynth with {report['soundfont']}; means over songs, and differences from {first} with their 95 % "
        "intervals.",
        "",
        f"| | {' | '.join(names)} | {' | '.join(f'{name}: difference' for name in others)} |",
        f"|---|{'---|' * (len(names) + len(others))}",
    ]  # fmt: skip
    for measure in MEASURES:
        columns = [values(report, name, measure) for name in names]
        if measure == "width" or not all(columns):
            continue
        cells = [f"{mean_of(column.values()).mean:.3f}" for column in columns]
        for column in columns[1:]:
            change = mean_of(column[song] - columns[0][song] for song in column)
            cells.append(f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})")
        lines.append(f"| {measure}, {len(columns[0])} songs | {' | '.join(cells)} |")
    return lines


def all_songs(report: dict) -> list[str]:
    """A row for each song and version."""
    names = list(report["songs"])
    lines = []
    for measure in MEASURES:
        columns = [values(report, name, measure) for name in names]
        if not all(columns):
            continue
        lines += [f"| {measure} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        lines += [f"| {song} | {' | '.join(f'{c[song]:.3f}' for c in columns)} |" for song in columns[0]] + [""]
    return lines


def values(report: dict, name: str, measure: str) -> dict[str, float]:
    """What each song has of a measure."""
    return {song: found[measure] for song, found in report["songs"][name].items() if measure in found}


if __name__ == "__main__":
    main()
