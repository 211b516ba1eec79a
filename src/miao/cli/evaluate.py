"""The commands that measure: `miao evaluate`, `miao measure`, `miao data benchmark`; cli.py puts them beside the rest.

As there: results go to stdout, what is said about them to stderr, and all heavy imports stand inside the commands.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from miao.cli.terminal import progress, say
from miao.errors import needs

EmbedderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--embedder",
        metavar="NAME=FILE",
        help="yamnet, vggish or trill with a file of its weights; may be "
        "repeated. musicnn is used where it is installed.",
    ),
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Processes.")]
SecondsOption = Annotated[float, typer.Option(min=0, metavar="S", help="Of each piece; 0 takes it whole.")]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first pieces of each group.")]


def benchmark(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="gm-heldout, gm-othersource, recordings, dissonant, or a data set of `miao data list`."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.")],
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Where to look for what it is made of, besides installed packages; may be repeated."
        ),
    ] = None,
    soundfont: Annotated[Path | None, typer.Option(metavar="FILE", help="The .sf2 that plays it.")] = None,
    seconds: SecondsOption = 30.0,
    limit: LimitOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Build a benchmark to evaluate systems on.

    Can be interrupted; the same command goes on where it was.

    \b
    miao data benchmark gm-heldout -o gm-heldout --root data --soundfont MuseScore_General.sf2
    miao data benchmark recordings -o recordings --root data
    miao data benchmark maestro -o maestro --root data
    """
    needs("evaluate")
    if soundfont is not None:
        needs("train", "fluidsynth")
    from miao.evaluation.benchmarks import build, load_benchmark

    with progress("building") as tell:
        for done in build(name, output, root or [], soundfont, seconds=seconds, limit=limit, jobs=jobs):
            tell(done)
    made = load_benchmark(output)
    for left_out in made.manifest["skipped"]:
        say(f"left out: {left_out['name']}: {left_out['reason']}")
    minutes = ", ".join(f"{group} {m:g} min" for group, m in made.manifest["minutes"].items())
    say(f"{output}: {made.name} {made.version}, {len(made.pieces)} pieces: {minutes}")


def evaluate(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM...",
            help="miao[:BANK], fluidsynth:FILE.sf2, encoded, reference, silence, noise, sine; "
            "+effects after the first two.",
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="A benchmark made by `miao data benchmark`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The report's folder.")],
    split: Annotated[str, typer.Option(metavar="NAME")] = "test",
    embedder: EmbedderOption = None,
    limit: LimitOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Compare systems on a benchmark, side by side.

    Can be interrupted; the same command goes on where it was. Writes report.md, report.json and pictures.

    \b
    miao evaluate miao encoded silence noise sine --data gm-heldout -o report --embedder yamnet=yamnet.tflite
    miao evaluate miao fluidsynth:TimGM6mb.sf2 --data recordings --limit 2 -o report
    """
    needs("evaluate")
    from miao.evaluation.benchmarks import load_benchmark
    from miao.evaluation.evaluate import Listeners, new_run, perform
    from miao.evaluation.systems import system
    from miao.evaluation.tables import write_report

    chosen = [system(name) for name in systems]
    listeners, missing = Listeners.found(embedder or [])
    listeners.open()  # fails here, in one line, rather than in a process
    run = new_run(chosen, load_benchmark(data, split, limit), listeners, output)
    with progress("evaluating") as tell:
        for done, total, troubles in perform(run, jobs):
            tell(done / total)
            for trouble in troubles:
                say(f"miao: {trouble}")
    print(write_report(run, missing))
    say(str(output / "report.md"))


def measure(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="A sound file: how it should sound.")],
    rendered: Annotated[Path, typer.Argument(metavar="RENDERED", help="A sound file: how it does sound.")],
    midi: Annotated[Path | None, typer.Option(metavar="FILE", help="What was played, for note F1.")] = None,
    embedder: EmbedderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs to read.")] = False,
) -> None:
    """Measure one sound file against another.

    \b
    miao measure reference.wav rendered.wav
    miao measure reference.wav rendered.wav --midi song.mid --json
    """
    needs("evaluate")
    from dataclasses import asdict

    from miao.evaluation.evaluate import Listeners
    from miao.evaluation.pair import measure_pair

    listeners, missing = Listeners.found(embedder or [])
    rows = measure_pair(reference, rendered, midi, listeners)
    if as_json:
        print(json.dumps({"metrics": [asdict(row) for row in rows], "missing": missing}, indent=2))
        return
    width = max(len(row.title) for row in rows)
    for row in rows:
        ceiling = "" if row.reference is None else f"   (the reference itself: {row.reference:.3f})"
        print(f"{row.title:{width}}  {row.value:10.3f} {row.unit:6}{ceiling}".rstrip())
    for what in missing + ["no attacks, pitches and note F1: say what was played by --midi"] * (midi is None):
        say(f"left out: {what}")
