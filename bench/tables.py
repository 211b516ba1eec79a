"""docs/results/ and the tables of docs/results.md, from the benchmarks' reports: `python bench/tables.py results`.

`results` is the folder that the benchmarks were given as `-o results/...`, as the commands in `PAGES` say. Each report
that is there becomes a page of docs/results/ with all of its tables; and in docs/results.md what stands between
`<!-- table NAME -->` and `<!-- end -->` is replaced by its short table. Nothing there is written by hand; a report that
is not there leaves what stands there as it is.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEACHER = "MuseScore_General_Full.sf2"
EVALUATE = (
    f"python bench/evaluate.py --root data --source {TEACHER} --other TimGM6mb.sf2 --relative FluidR3_GM.sf2 "
    "--embedder yamnet=yamnet.tflite --only {} -o results/evaluation"
)
HELD_OUT = "gm-heldout --without encoded"  # which is slow: 100 s a piece
SHOWN = ("log-mel error, mix", "FAD (yamnet)", "RED (yamnet)", "F1 heard as in the reference, stems")
OURS, SAMPLERS = "miao", ("MuseScore", "FluidR3", "TimGM6mb")


@dataclass(frozen=True)
class Page:
    """A report, and what is made of it."""

    name: str  # of the page and of its table in docs/results.md
    title: str
    report: str  # below the folder of results
    command: str
    whole: Callable[[Any], list[str]]
    short: Callable[[Any], list[str]] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    folder, overview = options.output / "results", options.output / "results.md"
    folder.mkdir(parents=True, exist_ok=True)
    text, missing = overview.read_text(), []
    for page in PAGES:
        path = options.results / page.report
        if not path.is_file():
            missing.append(page.report)
            continue
        report = json.loads(path.read_text())
        lines = [f"# {page.title}", "", "```console", page.command, "```", "", *page.whole(report)]
        (folder / f"{page.name}.md").write_text("\n".join(lines).rstrip() + "\n")
        if page.short is not None:
            text = filled(text, page, page.short(report))
    overview.write_text(text)
    if missing:
        print("not there, so left as they are: " + ", ".join(missing), file=sys.stderr)


def filled(text: str, page: Page, table: list[str]) -> str:
    """The text with a table in its place, its command above it. Ends the command if it has no place."""
    begin = f"<!-- table {page.name} -->\n"
    if begin not in text:
        sys.exit(f"docs/results.md has no place for {page.name}: {begin.strip()} ... <!-- end -->")
    lines = [f"[{page.title}](results/{page.name}.md): `{page.command}`", "", *table]
    new = begin + "\n".join(lines) + "\n<!-- end -->"
    return re.sub(re.escape(begin) + r".*?<!-- end -->", lambda _: new, text, flags=re.DOTALL)


def of_bench(name: str) -> Callable[[dict], list[str]]:
    """The tables that a benchmark prints itself."""
    return lambda report: importlib.import_module(name).markdown(report).splitlines()


# single notes


def notes(report: dict) -> list[str]:
    lines = [
        f"Bank {report['bank']}, teacher {report['soundfont']}. \"Encoded\": the reference measured into tokens and "
        "played back without any net.",
        "",
        "| system | notes | log-mel error dB | loudness error dB | attack error ms, median | pitch error cents |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in (("encoded", report["encoded"]), ("miao", report["miao"])):
        lines.append(
            f"| {name} | {found['n']:,} | {found['log_mel_db']:.2f} | {found['loudness_mean_abs_db']:.2f} | "
            f"{found['attack_median_ms']:.1f} | {found['pitch_median_cents']:.1f} |"
        )
    return lines


def all_notes(report: dict) -> list[str]:
    return [*notes(report), "", *report.get("voices", [])]


def long_notes(report: dict) -> list[str]:
    lines = [f"Bank {report['bank']}, teacher {report['soundfont']}; levels over one second against the teacher's.", "",
             "| notes | how many | levels near enough | median error dB | by seconds |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name in ("lasting", "decaying"):
        found = report[name]
        within = next(key for key in found if key.startswith("within"))
        by = ", ".join(f"{second} s: {100 * share:.1f} %" for second, share in found["by seconds"].items())
        lines.append(
            f"| {name} | {found['notes']} | {100 * found[within]:.1f} % {within} | {found['median dB']:.1f} | {by} |"
        )
    return lines


def all_long_notes(report: dict) -> list[str]:
    return [
        *long_notes(report),
        "",
        "Furthest off, dB at each of these seconds:",
        "",
        *(f"- {x}" for x in report["furthest"]),
    ]


def kits(report: dict) -> list[str]:
    lines = ["| kit | own keys | miao dB | the standard kit's keys in their place dB |", "|---|---|---|---|"]
    from miao.midi.general_midi import program_name

    for kit, found in report.items():
        lines.append(
            f"| {program_name(int(kit), True)} | {found['keys']} | {found['miao']:.2f} | {found['standard']:.2f} |"
        )
    return lines


def variations(report: dict) -> list[str]:
    from miao.midi.general_midi import program_name

    def near(differences: list[float], limit: float) -> str:
        inside = sum(abs(d) <= limit for d in differences)
        return f"{inside} of {len(differences)}" if differences else ""

    lines = [
        "Log-mel error of notes that were not learnt from, and of what plays the program in their place, as it is and "
        "at its best gain; the others are the variation's own. Held notes: levels within 3 dB (5 to 30 s, notes that "
        "last) and 4 dB (3 to 12 s, notes that decay). Keys: how much further neighbours lie apart than the teacher's.",
        "",
        "| bank | program | variation | miao dB | program dB | at its best gain dB | loudness dB | attack ms | last "
        "| decay | keys dB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in report["each"]:
        errors = (r[name] for name in ("miao_db", "program_db", "program_at_its_best_gain_db"))
        lines.append(
            f"| {r['bank']} | {program_name(r['program'] - 1)} | {r['name']} | "
            + " | ".join(f"{error:.2f}" for error in errors)
            + f" | {r['loudness_db']:+.2f} | {r['attack_ms']:.1f} | {near(r['lasting'], 3)} "
            f"| {near(r['decaying'], 4)} | {r['uneven_db']:.2f} |"
        )
    return lines


def variations_in_short(report: dict) -> list[str]:
    r = report
    return [
        f"{r['variations']} variations: {r['miao_db']:.2f} dB in the mean, {r['furthest_db']:.1f} at most; what plays "
        f"their programs, at its best gain in their place, {r['programs_at_their_best_gain_db']:.1f} dB, nearer in "
        f"{r['programs_nearer']}. Loudness within 1 dB in {r['loudness_within_1_db']}. Held notes: "
        f"{100 * r['lasting_near']:.1f} % of {r['lasting_levels']} levels within 3 dB where the teacher's last, "
        f"{100 * r['decaying_near']:.1f} % of {r['decaying_levels']} within 4 dB where they decay."
    ]


# learnt from recordings


def piano(report: dict) -> list[str]:
    n_learnt, n_held = report["pieces"]
    lines = [
        f"Pieces of one real piano, the first {report['seconds']:.0f} s of each: {n_learnt} to learn from, {n_held} "
        "held out. Log-mel error on these, dB, each system at the gain that suits it best.",
        "",
        "| by the fit | held out |",
        "|---|---|",
        f"| `gm` with one gain | {report['gain']:.2f} |",
        f"| `gm`, the room fitted | {report['room']:.2f} |",
        f"| learnt, in its room ({report['cpu_seconds']:.0f} s of processor time) | **{report['all']:.2f}** |",
    ]
    for what, (_, room, error) in report.get("little", {}).items():
        lines.append(f"| learnt from {what} (the room alone: {room:.2f}) | {error:.2f} |")
    if "rendered" in report:
        lines += ["", *rendered_piano(report)]
    if "rests" in report:
        lines += [
            "",
            "Once all keys are up, in whole pieces as rendered: how far the median fall of the level is from the "
            "recordings', over its first 20 dB; more: too slow.",
            "",
            "| rests | octave | n | mean dB | most dB | mean with sign |",
            "|---|---|---|---|---|---|",
            *(
                f"| {which} | {hz} Hz | {n} | {mean:.1f} | {most:.1f} | {slower:+.1f} |"
                for which, octaves in report["rests"].items()
                for hz, (n, mean, most, slower) in octaves.items()
            ),
        ]
    return lines


def rendered_piano(report: dict) -> list[str]:
    """Held-out pieces of a learnt piano as rendered, beside sampled ones."""
    names = [name.removesuffix(".sf2") for name in report["rendered"]]
    return [
        f"Log-mel error on {report['pieces'][1]} held-out pieces of one real piano as rendered, dB, each at its best "
        f"gain; {report['pieces'][0]} were learnt from in {report['cpu_seconds']:.0f} s of processor time.",
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        f"| {' | '.join(f'{error:.2f}' for error in report['rendered'].values())} |",
    ]


def real_notes(report: list[dict]) -> list[str]:
    return importlib.import_module("real_notes").table(report)


# speed


def against_fluidsynth(report: dict) -> list[str]:
    """All songs in two rows."""
    songs = report["songs"]
    rows = {
        "": [Path(song["song"]).stem for song in songs],
        "processor time / FluidSynth's": [f"{song['ratio']:.2f}" for song in songs],
        "by the clock, x real time": [f"{song['speed']:.0f}" for song in songs],
    }
    lines = [f"| {title} | {' | '.join(cells)} |" for title, cells in rows.items()]
    return [
        f"{report['cores']} cores of {report['machine']}, {report['runs']} pairs a song, start included; effects on; "
        f"median ratio {report['median_ratio']:.2f}, {report['n_above_1']} of {len(songs)} above 1.",
        "",
        lines[0],
        f"|---|{'---|' * len(songs)}",
        *lines[1:],
    ]


def growth(report: dict) -> list[str]:
    lines = []
    for row, points in report.items():
        lines += ["", f"| {row} | processor s | clock s | MB |", "|---|---|---|---|"]
        lines += [f"| {p['size']:,} | {p['cpu']:.1f} | {p['wall']:.1f} | {p['megabytes']:.0f} |" for p in points]
    return lines[1:]


# systems


def evaluation(report: dict) -> list[str]:
    from miao.evaluation.tables import markdown

    return markdown(report).splitlines()[2:]


def systems(report: dict) -> list[str]:
    """Means of what readers ask for first, ours beside the samplers', by group where there are several."""
    from miao.evaluation.tables import label, number

    names = [s["name"] for s in report["systems"] if s["n_pieces"] and is_shown(s["name"])]
    titles = {m["key"]: m for m in report["metrics"] if m["title"] in SHOWN and not m["fault"]}
    lines = [f"| pieces | metric | {' | '.join(names)} | n |", "|---|---|" + "---|" * (len(names) + 1)]

    def row(group: str, metric: dict, found: dict[str, tuple[float, int]]) -> str:
        shown = {name: number(found[name][0]) for name in names if name in found}
        better = (min if metric["better"] == "lower" else max)((found[n][0] for n in shown), default=0)
        cells = [f"**{shown[n]}**" if n in shown and found[n][0] == better else shown.get(n, "-") for n in names]
        return f"| {group} | {label(metric)} | {' | '.join(cells)} | {max(found[n][1] for n in shown)} |"

    for metric in titles.values():
        found = {name: (cell["mean"], cell["n"]) for name, cell in metric["systems"].items()}
        lines.append(row("all", metric, found))
    for group, metrics in report["groups"].items() if len(report["groups"]) > 1 else ():
        lines += [row(group, metric, metrics[key]) for key, metric in titles.items() if key in metrics]
    return lines


def is_shown(name: str) -> bool:
    return name.removeprefix("fluidsynth:").startswith((OURS, *SAMPLERS))


PAGES = (
    Page("notes", "Single notes that were not trained on", "notes/notes.json",
         f"python bench/notes.py --soundfont {TEACHER} -o results/notes", all_notes, notes),
    Page("long-notes", "Notes that are held for half a minute", "long/long.json",
         f"python bench/long_notes.py --soundfont {TEACHER} -o results/long", all_long_notes),
    Page("long-notes-unseen", "Notes that are held, at a strength that was not measured", "long70/long.json",
         f"python bench/long_notes.py --soundfont {TEACHER} --velocity 70 -o results/long70",
         all_long_notes, long_notes),
    Page("kits", "Drum kits beside their teacher's", "kits/kits.json",
         f"python bench/kits.py --soundfont {TEACHER} -o results/kits", kits),
    Page("variations", "Variations of programs beside their teacher's", "variations/variations.json",
         f"python bench/variations.py --soundfont {TEACHER} -o results/variations", variations, variations_in_short),
    Page("wavers", "What the waver of taught programs is worth", "wavers/wavers.json",
         f"python bench/wavers.py --soundfont {TEACHER} --yamnet yamnet.tflite -o results/wavers", of_bench("wavers")),
    Page("songs", "Notes found in the stems of songs", "songs/songs.json",
         f"python bench/songs.py freedoom/test openmsx odd --soundfont {TEACHER} --notes --seconds 6 -o results/songs",
         of_bench("songs")),
    Page("recordings", "Real recordings, as each system plays their notes", "evaluation/report-recordings/report.json",
         EVALUATE.format("recordings"), evaluation, systems),
    Page("recordings-effects", "Real recordings, as each system sounds unasked: with its room",
         "evaluation/report-recordings-effects/report.json", EVALUATE.format("recordings --effects"), evaluation,
         systems),
    Page("gm-heldout", "As near as the teacher? Songs that were not trained on",
         "evaluation/report-gm-heldout/report.json", EVALUATE.format(HELD_OUT), evaluation, systems),
    Page("gm-othersource", "The yardstick: the same songs by another sound bank",
         "evaluation/report-gm-othersource/report.json", EVALUATE.format("gm-othersource"), evaluation),
    Page("dissonant", "Does roughness matter?", "evaluation/report-dissonant/report.json", EVALUATE.format("dissonant"),
         evaluation),
    Page("piano", "A piano learnt from recordings", "piano/learnt-piano.json",
         "python bench/learn_piano.py data/recordings/piano --little --render 30 --rests --sound-banks "
         "MuseScore_General_Full.sf2 FluidR3_GM.sf2 TimGM6mb.sf2 -o results/piano", piano, rendered_piano),
    *(Page(f"learnt-{group}", f"Voices learnt from music: {what}", f"learnt/learnt-{group}.json",
           f"python bench/learn_recordings.py data --group {group} --sound-banks {TEACHER} FluidR3_GM.sf2 TimGM6mb.sf2 "
           f"--embedder yamnet=yamnet.tflite{more} -o results/learnt", of_bench("learn_recordings"))
      for group, what, more in (
          ("drums", "drum kits", ""), ("violin", "solo violin", " --seconds 60"),
          ("stems", "the instruments of quartets, each by itself", ""), ("quartet", "quartets", ""),
          ("piano", "a piano", ""),
      )),
    Page("table3-recordings", "The paper's Table 3 on real sound", "table3/table3.json",
         "python bench/table3_recordings.py data --steps 400 --batch 32 --size middle -o results/table3",
         of_bench("table3_recordings")),
    Page("real-notes", "Voices learnt from recorded notes, and whether they may play by default", "real/real.json",
         f"python bench/real_notes.py data/notes --soundfont {TEACHER} --soundfont FluidR3_GM.sf2 "
         "--soundfont TimGM6mb.sf2 -o results/real", real_notes),
    Page("violin", "A violin for the place of a program, learnt from music", "violin/music-default.json",
         f"python bench/music_default.py data --source {TEACHER} --sound-banks {TEACHER} FluidR3_GM.sf2 TimGM6mb.sf2 "
         "--embedder yamnet=yamnet.tflite -o results/violin", of_bench("music_default")),
    Page("speed", "Processor time beside FluidSynth's", "speed/against_fluidsynth.json",
         f"python bench/against_fluidsynth.py --soundfont {TEACHER} --runs 1 -o results/speed",
         of_bench("against_fluidsynth"), against_fluidsynth),
    Page("versions", "Version 0.1 and this one beside the teacher", "versions/versions.json",
         f'python bench/versions.py --soundfont {TEACHER} --version 0.1="old/bin/miao render" '
         '--version now="miao render" --notes 0.1=results/notes-0.1 --notes now=results/notes-now -o results/versions',
         of_bench("versions"), lambda report: importlib.import_module("versions").short(report)),
    Page("one-song", "One song, its start and its parts", "speed/speed.json",
         f"python bench/speed.py --soundfont {TEACHER} -o results/speed", of_bench("speed")),
    Page("memory", "Memory of an hour of music", "memory/memory.json",
         "python bench/memory.py examples/ode_to_joy.mid -o results/memory",
         of_bench("memory")),
    Page("growth", "Growth with length, tracks, notes at once and notes in all", "growth.json",
         "python bench/growth.py -o results/growth.png", growth),
    Page("many-songs", "Hundreds of songs, some damaged, a worker killed", "many/many_songs.json",
         "python bench/many_songs.py -o results/many", of_bench("many_songs")),
)  # fmt: skip


if __name__ == "__main__":
    main()
