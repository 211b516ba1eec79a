"""How rendering grows with length, tracks, notes at once and notes in all: `python bench/growth.py -o growth.png`.

Songs made of scales are rendered by `miao render`, each in a process of its own; what counts is the processor time of
the whole process, its start included, and the most memory that it held. Each of the four rows changes one thing:

    length    1 s to 1 h of 4 tracks, 2 notes a second each
    tracks    1 to 64, 60 s, 2 notes a second each
    at once   1 to 64 notes of one piano, 30 s, struck anew every 2 s
    notes     1,000 to a million in 65 s of 16 tracks

`--most 0.1` leaves out whatever takes more than a tenth of the full length or number, for a quick look.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mido

PROGRAMS = (0, 24, 32, 40, 48, 56, 65, 73, 80, 88, 11, 19, 4, 68, 104, 52)
TICKS = 9600  # a second: a million notes in 65 s of 16 tracks are 10 apart
ROWS = {
    "length, s": (1, 4, 15, 60, 240, 900, 3600), "tracks": (1, 2, 4, 8, 16, 32, 64),
    "at once": (1, 2, 4, 8, 16, 32, 64), "notes": (1_000, 10_000, 100_000, 1_000_000),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="which of the four; default: all")
    parser.add_argument("--most", type=float, default=1.0, help="part of the largest point of each row")
    parser.add_argument("--scratch", type=Path, help="where songs and sound are written to and removed from")
    parser.add_argument("-o", "--output", type=Path, help="a picture; the figures are put beside it as .json")
    options = parser.parse_args()
    found: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as place:
        for row in options.rows or ROWS:
            print(f"\n| {row} | processor s | clock s | MB |\n|---|---|---|---|")
            for size in (size for size in ROWS[row] if size <= options.most * ROWS[row][-1]):
                song_of(row, size).save(Path(place) / "song.mid")
                found.setdefault(row, []).append(cost(Path(place)) | {"size": size})
                last = found[row][-1]
                print(f"| {size:,} | {last['cpu']:.2f} | {last['wall']:.2f} | {last['megabytes']:.0f} |", flush=True)
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(found, indent=1))
        draw(found, options.output)


def song_of(row: str, size: int) -> mido.MidiFile:
    """The song of a point."""
    if row == "length, s":
        return scales(4, size, 0.5)
    if row == "tracks":
        return scales(size, 60, 0.5)
    if row == "at once":
        pitches = [24 + (7 * n) % 88 for n in range(size)]
        return mido.MidiFile(ticks_per_beat=TICKS // 2, tracks=[chords(pitches, 30)])
    return scales(16, 65, 65 * 16 / size)


def scales(n_tracks: int, seconds: float, step: float) -> mido.MidiFile:
    """Tracks that run up and down, a note every so many seconds."""
    tracks = []
    for n in range(n_tracks):
        channel = n % 16 if n % 16 != 9 else 8
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=PROGRAMS[n % 16])])
        now = 0
        for i in range(max(round(seconds / step), 1)):
            begin, end = round(i * step * TICKS), max(round((i + 0.9) * step * TICKS), round(i * step * TICKS) + 1)
            pitch = 40 + n % 5 + abs(i % 48 - 24)
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=60 + i % 40, time=begin - now))
            track.append(mido.Message("note_off", channel=channel, note=pitch, time=end - begin))
            now = end
        tracks.append(track)
    return mido.MidiFile(ticks_per_beat=TICKS // 2, tracks=tracks)


def chords(pitches: list[int], seconds: float) -> mido.MidiTrack:
    """Chords of a piano, held for 1.9 of every 2 s."""
    track = mido.MidiTrack()
    for i in range(round(seconds / 2)):
        for kind, wait in (("note_on", 0.1 if i else 0.0), ("note_off", 1.9)):
            for n, pitch in enumerate(pitches):
                velocity = 50 + (7 * i + n) % 50 if kind == "note_on" else 0
                time = 0 if n else round(wait * TICKS)
                track.append(mido.Message(kind, note=pitch, velocity=velocity, time=time))
    return track


def cost(place: Path) -> dict[str, float]:
    """What `miao render` takes for the song there; ends the benchmark if it fails."""
    words = [sys.executable, "-m", "miao", "render", str(place / "song.mid"), "-o", str(place / "song.wav"), "--force"]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as if installed
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, env=kept, stdin=quiet, stdout=quiet, stderr=quiet)
    before = os.times().elapsed
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} fails with {process.returncode}")
    return {
        "cpu": used.ru_utime + used.ru_stime, "wall": os.times().elapsed - before, "megabytes": used.ru_maxrss / 1e3,
    }  # fmt: skip


def draw(found: dict[str, list[dict]], path: Path) -> None:
    """One panel a row: processor time and memory, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(3.2 * len(found), 3.2), squeeze=False)
    for panel, (row, points) in zip(panels[0], found.items(), strict=True):
        sizes = [point["size"] for point in points]
        panel.loglog(sizes, [point["cpu"] for point in points], "o-", color="tab:blue", label="processor s")
        panel.loglog(sizes, [point["megabytes"] for point in points], "s--", color="tab:orange", label="MB")
        panel.set_xlabel(row)
        panel.grid(True, which="major", alpha=0.3)
    panels[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
