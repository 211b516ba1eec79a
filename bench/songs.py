"""Real multi-track songs: do they all render, and are their notes heard as well as FluidSynth's?

    python bench/songs.py FOLDER... --soundfont BANK.sf2 -o runs/songs

Rendering (`--render`): each song that can be read, from beginning to end through `Synthesizer.stream`: every sample
finite, not silent, and not over before the last note has begun. Files without a readable note are listed with the one
line that says so, files whose channels all stand at volume 0 as well.

Notes (`--notes`): an excerpt of each song; each instrument of each track alone, before any fader, played by miao and
by FluidSynth with the sound bank that miao was trained on. Both get the same notes, with pedals as lengths and without
bends and wheels, and are brought to the same peak. One transcriber listens to both: F1 with onsets within 50 ms. Drums:
the standard kit; F1 of onsets found by spectral flux, all keys together. Files with the same bytes count once.
Instruments with fewer than 5 notes in the excerpt are left out.

Without `--render` or `--notes` it does both. Results are kept song by song in songs.jsonl: run it again to go on where
it stopped. songs.json and songs.md hold the summary.
"""

import argparse
import hashlib
import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.bank.bank import Bank
from miao.datasets.soundfont import SAMPLE_RATE, PlayedNote, SoundFont
from miao.errors import MiaoError, ScoreError
from miao.evaluation.transcription import BasicPitch, as_heard, flux_onsets, merged_onsets, note_f1, onset_f1
from miao.midi.general_midi import program_name
from miao.midi.score import Score, Track, read_score
from miao.synth.note import RING_SECONDS
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems
from miao.synth.synthesizer import Synthesizer

TAIL_SECONDS = 1.5  # of an excerpt: what still sounds then is cut off, for both
FEWEST_NOTES = 5
PEAK = 0.5  # which every stem is brought to
SYSTEMS = ("miao", "fluidsynth")
SUFFIXES = (".mid", ".midi", ".rmi")


def main() -> None:
    logging.getLogger("miao").setLevel(logging.ERROR)  # damaged files are the point; their warnings go to the record
    options = arguments()
    bank = Bank.load(options.bank)
    jobs: dict[str, Callable[[Path], dict]] = {}
    if options.render or not options.notes:
        jobs["render"] = lambda path: render_song(Synthesizer(bank), path)
    if options.notes or not options.render:
        if options.soundfont is None:
            sys.exit("--notes compares with FluidSynth: give the bank's source by --soundfont")
        font, transcriber = SoundFont(options.soundfont), BasicPitch(n_threads=options.threads)
        jobs["notes"] = lambda path: compare_song(bank, font, transcriber, path, options.start, options.seconds)
    settings = {"bank": bank.checksum, "soundfont": str(options.soundfont and options.soundfont.name),
                "start": options.start, "seconds": options.seconds}  # fmt: skip
    paths = songs(options.songs)[: options.limit]
    options.output.mkdir(parents=True, exist_ok=True)
    records = run(jobs, paths, settings, options.output / "songs.jsonl")
    report = summary(records, settings)
    (options.output / "songs.json").write_text(json.dumps(report | {"songs": records}, indent=1, ensure_ascii=False))
    (options.output / "songs.md").write_text(markdown(report))
    print_tables(records)
    print("\n" + markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path, help="folders of MIDI files, or files")
    parser.add_argument("--soundfont", type=Path, help="the .sf2 that the bank was learnt from")
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--render", action="store_true", help="only that all render")
    parser.add_argument("--notes", action="store_true", help="only how well the notes are heard")
    parser.add_argument("--start", type=float, default=15.0, help="of the excerpt, seconds")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the excerpt")
    parser.add_argument("--limit", type=int, help="only the first songs")
    parser.add_argument("--threads", type=int, default=2, help="of the transcriber")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/songs"))
    return parser.parse_args()


def songs(places: list[Path]) -> list[Path]:
    """All MIDI files in folders, and the files named."""
    found = []
    for place in places:
        inside = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES) if place.is_dir() else [place]
        if not inside or not inside[0].is_file():
            sys.exit(f"{place}: no MIDI file there")
        found += inside
    return found


def run(jobs: dict[str, Callable[[Path], dict]], paths: list[Path], settings: dict, log: Path) -> list[dict]:
    """Do what the log does not hold yet; all records of these songs under these settings, one a job and song."""
    done: dict[tuple, dict] = {}
    for line in log.read_text().splitlines() if log.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:  # cut off when the run was stopped
            continue
        if record["settings"] == settings:
            done[record["job"], record["song"]] = record
    records, contents = [], set()
    for number, path in enumerate(paths, start=1):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for job, work in jobs.items():
            if job == "notes" and digest in contents:
                continue
            collection = "/".join(path.resolve().parts[-3:-1])
            key = (job, f"{collection}/{path.name}")
            if key not in done or done[key]["digest"] != digest:
                began = time.perf_counter()
                about = {"job": job, "song": key[1], "collection": collection, "digest": digest}
                done[key] = {**about, "settings": settings, **work(path), "wall_seconds": time.perf_counter() - began}
                with log.open("a") as file:
                    file.write(json.dumps(done[key], ensure_ascii=False) + "\n")
            records.append(done[key])
            print(f"{number:3}/{len(paths)} {path.name}: {outcome(done[key])}", flush=True)
        contents.add(digest)
    return records


def outcome(record: dict) -> str:
    if record.get("unheard"):
        return f"nothing to hear: {record['unheard']}"
    if record["job"] == "notes":
        pairs = [f"{len(record['stems'])} stems"]
        for is_drum, what in ((False, "notes"), (True, "drums")):
            stems = [s for s in record["stems"] if s["is_drum"] == is_drum]
            if stems:
                means = [np.mean([s[name]["f1"] for s in stems]) for name in SYSTEMS]
                pairs.append(f"{what} {means[0]:.3f} / {means[1]:.3f}")
        return ", ".join(pairs)
    if record["fault"]:
        return f"FAILS: {record['fault']}"
    return f"{record['seconds']:.1f} s of sound, {record['seconds'] / record['wall_seconds']:.1f} x real time"


# rendering


def render_song(synthesizer: Synthesizer, path: Path) -> dict:
    """A whole song through the stream, looked at block by block."""
    try:
        score = read_score(path)
    except ScoreError as error:
        return {"unheard": str(error).replace(str(path), path.name)}
    if is_muted(score):
        return {"unheard": f"{path.name}: all notes are at volume 0"}
    n_samples, peak, power, n_wrong, fault = 0, 0.0, 0.0, 0, ""
    try:
        for block in synthesizer.stream(score, sample_rate=SAMPLE_RATE):
            n_wrong += int(np.count_nonzero(~np.isfinite(block)))
            n_samples += block.shape[1]
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            power += float(np.square(block, dtype=np.float64).sum())
    except MiaoError as error:
        fault = str(error)
    seconds = n_samples / SAMPLE_RATE
    last_start = max(float(track.notes["start"][-1]) for track in score.tracks)
    rms_db = 10 * np.log10(power / max(2 * n_samples, 1) + 1e-20)
    checks = {
        f"{n_wrong} samples are not finite": n_wrong > 0,
        f"it is silent ({rms_db:.0f} dB)": rms_db < -80,
        f"it ends at {seconds:.2f} s, before the last note at {last_start:.2f} s": seconds < last_start,
        f"it peaks at {peak:.2f}": peak > 1,
    }
    return {
        "seconds": seconds, "score_seconds": score.duration, "n_tracks": len(score.tracks), "n_notes": score.n_notes,
        "rms_db": float(rms_db), "peak": peak, "fault": fault or "; ".join(w for w, is_so in checks.items() if is_so),
        "warnings": score.warnings,
    }  # fmt: skip


def is_muted(score: Score) -> bool:
    """Whether the file itself silences every note, by volume or expression."""
    starts = [(track.notes["start"], track.controls) for track in score.tracks]
    return not any((c["volume"].at(at) * c["expression"].at(at)).any() for at, c in starts)


# notes


def compare_song(
    bank: Bank, font: SoundFont, transcriber: BasicPitch, path: Path, start: float, seconds: float
) -> dict:
    """F1 of every instrument of every track in an excerpt, for both systems."""
    try:
        score = read_score(path)
    except ScoreError as error:
        return {"unheard": str(error).replace(str(path), path.name)}
    first = min(start, max(0.0, score.duration - seconds))
    length = seconds + TAIL_SECONDS
    tracks = instruments(score.between(first, first + seconds), length)
    if not tracks:
        return {"excerpt_start": first, "stems": []}
    stems = []
    for track, ours in zip(tracks, rendered(bank, score, tracks, length), strict=True):
        sounds = {"miao": ours, "fluidsynth": played(font, track, length)}
        notes = track.notes
        stem = {
            "track": track.name, "channel": track.channel, "program": int(notes["program"][0]),
            "is_drum": bool(notes["is_drum"][0]), "n_notes": len(notes),
        }  # fmt: skip
        stems.append(stem | {name: heard_f1(transcriber, track, sound) for name, sound in sounds.items()})
    return {"excerpt_start": first, "stems": stems}


def instruments(score: Score, length: float) -> list[Track]:
    """A track for each program of each track, without controllers; nothing goes on beyond `length` seconds.

    The standard kit plays all drums.
    """
    tracks = []
    for track in score.tracks:
        voices = np.where(track.notes["is_drum"], -1, track.notes["program"])
        for voice in np.unique(voices):
            notes = track.notes[voices == voice]
            if len(notes) < FEWEST_NOTES:
                continue
            notes["program"], notes["bank"] = max(int(voice), 0), 0
            for name in ("end", "damp"):
                notes[name] = np.minimum(notes[name], length)
            tracks.append(replace(track, notes=notes, controls={}, key_pressure=track.key_pressure[:0]))
    return tracks


def rendered(bank: Bank, score: Score, tracks: list[Track], length: float) -> NDArray[np.float32]:
    """The tracks' sound by miao, [tracks, 2, S]."""
    n_samples = round(length * SAMPLE_RATE)
    sound = np.zeros((len(tracks), 2, n_samples), np.float32)
    for block in stream_stems(
        bank, replace(score, tracks=tuple(tracks), duration=length), PlaySettings(sample_rate=SAMPLE_RATE)
    ):
        n = min(block.stems.shape[2], n_samples - block.start_sample)
        if n <= 0:
            break
        sound[:, :, block.start_sample : block.start_sample + n] = block.stems[:, :, :n]
    return sound


def played(font: SoundFont, track: Track, length: float) -> NDArray[np.float32]:
    """A track's sound by FluidSynth, [2, S]. As in miao, drums ring on until they are struck again."""
    notes = [PlayedNote(float(n["start"]), end, int(n["pitch"]), int(n["velocity"]))
             for n, end in zip(track.notes, ends(track, length), strict=True)]  # fmt: skip
    is_drum = bool(track.notes["is_drum"][0])
    return font.phrase(int(track.notes["program"][0]), notes, length, is_drum=is_drum)[:, : round(length * SAMPLE_RATE)]


def ends(track: Track, length: float) -> Iterator[float]:
    """When FluidSynth is told to let each note go."""
    notes = track.notes
    for n, note in enumerate(notes):
        if note["is_drum"]:
            later = notes["start"][n + 1 :][notes["pitch"][n + 1 :] == note["pitch"]]
            yield float(min(note["start"] + RING_SECONDS, length, *later[:1]))
        else:
            yield float(max(note["damp"], note["start"] + 0.001))


def heard_f1(transcriber: BasicPitch, track: Track, sound: NDArray[np.float32]) -> dict:
    """F1 of what is heard in a stem, and its level."""
    peak = float(np.abs(sound).max(initial=0.0))
    sound = sound * np.float32(PEAK / peak) if peak > 1e-6 else np.zeros_like(sound)
    level = {"peak_db": round(20 * float(np.log10(max(peak, 1e-6))), 1)}
    if track.notes["is_drum"][0]:
        return {"f1": onset_f1(merged_onsets(track.notes["start"]), flux_onsets(sound)), **level}
    return asdict(note_f1(as_heard(track.notes), transcriber(sound, SAMPLE_RATE))) | level


# reports


def summary(records: list[dict], settings: dict) -> dict:
    renders = [r for r in records if r["job"] == "render"]
    heard = [r for r in renders if not r.get("unheard")]
    report: dict = {"settings": settings}
    if renders:
        report["render"] = {
            "n_files": len(renders), "n_heard": len(heard), "n_rendered": sum(not r["fault"] for r in heard),
            "seconds": sum(r["seconds"] for r in heard),
            "speed": sum(r["seconds"] for r in heard) / max(sum(r["wall_seconds"] for r in heard), 1e-9),
            "faults": {r["song"]: r["fault"] for r in heard if r["fault"]},
            "unheard": {r["song"]: r["unheard"] for r in renders if r.get("unheard")},
        }  # fmt: skip
    songs_of: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        if record["job"] == "notes" and record.get("stems"):
            songs_of[record["collection"]].append(record)
    groups = {**songs_of, "all": [record for some in songs_of.values() for record in some]}
    if groups["all"]:
        report["notes"] = {name: figures(some, False) for name, some in groups.items()}
        report["drums"] = {name: figures(some, True) for name, some in groups.items()}
        report["programs"] = by_program(groups["all"])
    return report


def figures(records: list[dict], is_drum: bool) -> dict:
    """Mean F1 over stems and over songs, and the standard error of the mean difference between the systems."""
    in_songs = [[s for s in r["stems"] if s["is_drum"] == is_drum] for r in records]
    in_songs = [stems for stems in in_songs if stems]
    stems = [s for some in in_songs for s in some]
    if not stems:
        return {"n_stems": 0, "n_songs": 0, "n_notes": 0}
    values = {"n_stems": len(stems), "n_songs": len(in_songs), "n_notes": sum(s["n_notes"] for s in stems)}
    for name in SYSTEMS:
        values[name] = float(np.mean([s[name]["f1"] for s in stems]))
        values[f"{name}_by_song"] = float(np.mean([np.mean([s[name]["f1"] for s in some]) for some in in_songs]))
        if not is_drum:
            values[f"{name}_with_offset"] = float(np.mean([s[name]["f1_with_offset"] for s in stems]))
    differences = np.array([s["miao"]["f1"] - s["fluidsynth"]["f1"] for s in stems])
    values["difference"] = float(differences.mean())
    values["standard_error"] = float(differences.std() / np.sqrt(len(stems)))
    values["stems_within_0.05_or_better"] = float(np.mean(differences >= -0.05))
    return values


def by_program(records: list[dict]) -> list[dict]:
    """Mean F1 of each program, the one that loses most against FluidSynth first."""
    stems: dict[int, list[dict]] = defaultdict(list)
    for stem in (s for r in records for s in r["stems"] if not s["is_drum"]):
        stems[stem["program"]].append(stem)
    rows = []
    for program, some in stems.items():
        f1 = {name: float(np.mean([s[name]["f1"] for s in some])) for name in SYSTEMS}
        rows.append({"program": program, "name": program_name(program), "n_stems": len(some), **f1,
                     "difference": f1["miao"] - f1["fluidsynth"]})  # fmt: skip
    return sorted(rows, key=lambda row: row["difference"])


def print_tables(records: list[dict]) -> None:
    print(f"\n{'song':34}{'':7}{'miao':>8}{'fluidsynth':>12}{'difference':>12}{'stems':>7}")
    for record in (r for r in records if r["job"] == "notes" and r.get("stems")):
        for is_drum, what in ((False, "notes"), (True, "drums")):
            f = figures([record], is_drum)
            if f["n_stems"]:
                print(f"{Path(record['song']).name[:33]:34}{what:7}{f['miao']:8.3f}{f['fluidsynth']:12.3f}"
                      f"{f['difference']:+12.3f}{f['n_stems']:7}")  # fmt: skip


def markdown(report: dict) -> str:
    lines = render_lines(report["render"]) if "render" in report else []
    if "notes" in report:
        lines += [
            "| songs | what | miao F1 | FluidSynth F1 | difference | by song | n stems, songs, notes |",
            "|---|---|---|---|---|---|---|",
        ]
        for what in ("notes", "drums"):
            lines += [table_row(name, what, f) for name, f in report[what].items() if f["n_stems"]]
        lines += ["", *closing_lines(report)]
    settings = report["settings"]
    source = f"Bank {settings['bank']}, reference {settings['soundfont']}"
    return "\n".join([*lines, f"{source}; {settings['seconds']:g} s from {settings['start']:g} s of each song."]) + "\n"


def render_lines(render: dict) -> list[str]:
    return [
        f"{render['n_rendered']} of {render['n_heard']} files with something to hear ({render['n_files']} in all) "
        f"render to the end: {render['seconds'] / 60:.0f} minutes of music at {render['speed']:.1f} x real time.",
        *(f"- nothing to hear: {why}" for why in render["unheard"].values()),
        *(f"- **fails**: {song}: {why}" for song, why in render["faults"].items()),
        "",
    ]


def table_row(name: str, what: str, f: dict) -> str:
    cells = [
        name, what, f"{f['miao']:.3f}", f"{f['fluidsynth']:.3f}", f"{f['difference']:+.3f} ± {f['standard_error']:.3f}",
        f"{f['miao_by_song'] - f['fluidsynth_by_song']:+.3f}", f"{f['n_stems']}, {f['n_songs']}, {f['n_notes']}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def closing_lines(report: dict) -> list[str]:
    f = report["notes"]["all"]
    if not f["n_stems"]:
        return []
    worst = [f"{p['name']} {p['difference']:+.2f} (n = {p['n_stems']})" for p in report["programs"][:6]]
    return [
        "F1 is a mean over stems, by onsets within 50 ms; ± one standard error of the mean difference. By onsets and "
        f"offsets: miao {f['miao_with_offset']:.3f}, FluidSynth {f['fluidsynth_with_offset']:.3f}. The programs that "
        f"lose most: {', '.join(worst)}.",
        "",
    ]


if __name__ == "__main__":
    main()
