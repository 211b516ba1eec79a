"""`miao reproduce table1 | table2 | table3 | figure2`: the paper's tables and its Figure 2, done again; see cli.py.

As there: results go to stdout, what is said about them to stderr, and all heavy imports stand inside the commands.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miao.cli.evaluate import EmbedderOption, JobsOption, LimitOption
from miao.cli.terminal import progress, say
from miao.errors import ConfigError, needs

if TYPE_CHECKING:
    from miao.evaluation.evaluate import Run
    from miao.evaluation.systems import System
    from miao.reproduction.paper import Row
    from miao.reproduction.runs import Recipe

PairsOption = Annotated[Path, typer.Option(metavar="FOLDER", help="Pairs to train on, with train/ and validation/.")]
DataOption = Annotated[
    list[Path], typer.Option(metavar="FOLDER", help="A benchmark made by `miao data benchmark`; may be repeated.")
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Where runs, banks and reports go; the commands may share one."
    ),
]
StepsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Of each training.")]
BatchOption = Annotated[int, typer.Option(min=1, metavar="N", help="Pairs a step.")]
SeedsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Trainings of each row.")]
PresetOption = Annotated[str, typer.Option(metavar="NAME", help="Of the nets and their training, or a .toml file.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="WORDS", help="Only rows whose name contains this; may be repeated."),
]

TABLE1_SYSTEMS = ("encoded", "silence", "noise", "sine")

app = typer.Typer(no_args_is_help=True, help="Do the paper's tables and its Figure 2 again.", rich_markup_mode=None)


@app.command()
def table1(
    data: DataOption,
    output: OutputOption,
    bank: Annotated[str, typer.Option(metavar="NAME", help="Ours: a bank's name, or a folder.")] = "gm",
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RUN", help="midi2wave, midi-ddsp or mi-ddpm with the folder of its training; may be repeated."
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pairs with their sound, to train the peers on that are not there."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of these trainings; else as their presets say.")
    ] = None,
    soundfont: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An .sf2 that FluidSynth plays too; may be repeated.")
    ] = None,
    only: OnlyOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Systems side by side on each benchmark, with the metrics of the paper.

    Can be interrupted; the same command goes on where it was. A dagger marks where miao is not the best of those that
    play the music.

    \b
    miao reproduce table1 --data gm-heldout --data recordings --pairs pairs -o results/reproduce
    miao reproduce table1 --data recordings --peer midi-ddsp=runs/midi-ddsp -o results/reproduce
    """
    needs("train")
    needs("evaluate")
    from miao.evaluation.systems import system
    from miao.peers import PEERS
    from miao.reproduction.cells import system_entries
    from miao.reproduction.peers import named_runs, peer_systems
    from miao.reproduction.report import evaluation, write

    runs = named_runs(peer or [])
    names = [f"miao:{bank}", *(f"fluidsynth:{path}" for path in soundfont or ()), *TABLE1_SYSTEMS]
    systems = [system(name) for name in names]
    _checked(data, limit, embedder)
    if pairs is not None:
        runs |= _trained_peers([name for name in PEERS if name not in runs], pairs, output / "peers", steps, jobs)
    systems[1:1] = [system(name) for name in peer_systems(runs)]
    systems = [s for s in systems if not only or any(words.lower() in s.name.lower() for words in only)]
    if not systems:
        raise ConfigError(f"no system is called {', '.join(only or ())}")
    played, missing = _played(systems, data, output, limit, embedder, jobs)
    missing += [f"{name}: give its run by --peer {name}=RUN, or --pairs to train it" for name in PEERS
                if name not in runs]  # fmt: skip
    lines: list[str] = []
    found = {}
    for run in played:
        more, found[run.benchmark.name] = evaluation(run, system_entries(run), of_systems=True)
        lines += more
    print(write(output, "table1", "Table 1: systems side by side", lines, {"benchmarks": found}, missing))
    say(str(output / "reproduce-table1.md"))


@app.command()
def table2(
    pairs: PairsOption,
    data: DataOption,
    output: OutputOption,
    steps: StepsOption = 140,
    batch: BatchOption = 16,
    seeds: SeedsOption = 1,
    preset: PresetOption = "pairs",
    only: OnlyOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Audio decoder as in Eq. 5 and 6 against a plain feed-forward one.

    Can be interrupted; the same command goes on where it was.

    \b
    miao reproduce table2 --pairs pairs --data gm-heldout -o results/reproduce --limit 3
    """
    needs("train")
    needs("evaluate")
    from miao.reproduction.paper import TABLE2
    from miao.reproduction.runs import Recipe

    recipe = Recipe(pairs, output, steps, batch, seeds, preset)
    _rows("table2", "Table 2: the audio decoder", recipe, _chosen(TABLE2, only), data, limit, embedder, jobs)


@app.command()
def table3(
    pairs: PairsOption,
    data: DataOption,
    output: OutputOption,
    steps: StepsOption = 140,
    batch: BatchOption = 16,
    seeds: SeedsOption = 1,
    preset: PresetOption = "pairs",
    everything: Annotated[bool, typer.Option("--all", help="Also the choices that the paper leaves open.")] = False,
    only: OnlyOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = None,
    jobs: JobsOption = 2,
) -> None:
    """What the audio encoder and its losses are worth.

    Can be interrupted; the same command goes on where it was.

    \b
    miao reproduce table3 --pairs pairs --data gm-heldout -o results/reproduce --limit 3
    miao reproduce table3 --pairs pairs --data gm-heldout -o results/reproduce --limit 3 --all --seeds 2
    """
    needs("train")
    needs("evaluate")
    from miao.reproduction.paper import FURTHER, TABLE3
    from miao.reproduction.runs import Recipe

    rows = _chosen(TABLE3 + FURTHER if everything else TABLE3, only)
    recipe = Recipe(pairs, output, steps, batch, seeds, preset)
    _rows("table3", "Table 3: the audio encoder and its losses", recipe, rows, data, limit, embedder, jobs)


@app.command()
def figure2(
    pairs: PairsOption,
    data: DataOption,
    output: OutputOption,
    steps: StepsOption = 140,
    batch: BatchOption = 16,
    seeds: SeedsOption = 1,
    preset: PresetOption = "pairs",
    only: OnlyOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Batch size, heads h, tokens a and inputs f, one at a time; draws pictures.

    Can be interrupted; the same command goes on where it was.

    \b
    miao reproduce figure2 --pairs pairs --data gm-heldout -o results/reproduce --limit 3
    miao reproduce figure2 --pairs pairs --data gm-heldout -o results/reproduce --limit 3 --only heads
    """
    needs("train")
    needs("evaluate")
    from miao.reproduction.cells import bank_entries, compare
    from miao.reproduction.figure import drawn, held_out_panels, played_panels, sweep_rows
    from miao.reproduction.paper import FIGURE2
    from miao.reproduction.report import training_lines, write
    from miao.reproduction.runs import Recipe

    recipe = Recipe(pairs, output, steps, batch, seeds, preset)
    sweeps = sweep_rows(recipe, only or ())
    if not sweeps:
        raise ConfigError(f"no sweep is called {', '.join(only or ())}; there are "
                          f"{', '.join(sweep.name for sweep in FIGURE2)}")  # fmt: skip
    rows = {row.slug: replace(row, name=row.slug) for some in sweeps.values() for row in some.values()}
    _checked(data, limit, embedder)
    _trained(recipe, list(rows.values()), jobs)
    systems, entries = bank_entries(recipe, list(rows.values()), first_is_ours=False)
    runs, missing = _played(systems, data, output, limit, embedder, jobs)
    pictures = {"held-out pairs": held_out_panels(sweeps, recipe)}
    for run in runs:
        pictures[run.benchmark.name] = played_panels(sweeps, compare(run, entries, list(run.benchmark.pieces)))
    lines, found = drawn(pictures, {sweep.name: recipe.default(sweep.key) for sweep in FIGURE2}, output)
    lines = ["", *training_lines(recipe), *lines]
    print(write(output, "figure2", "Figure 2: one setting at a time", lines, recipe.as_data() | found, missing))
    say(str(output / "reproduce-figure2.md"))


# what the commands share


def _chosen(rows: "tuple[Row, ...]", only: list[str] | None) -> "list[Row]":
    """The rows whose names hold one of the words."""
    chosen = [row for row in rows if not only or any(words.lower() in row.name.lower() for words in only)]
    if not chosen:
        raise ConfigError(f"no row is called {', '.join(only or ())}; there are {', '.join(row.name for row in rows)}")
    return chosen


def _trained(recipe: "Recipe", rows: "list[Row]", jobs: int) -> None:
    from miao.reproduction.runs import train_rows

    with progress("training") as tell:
        for done, total, told in train_rows(recipe, rows, jobs):
            tell(done / total)
            if told:
                say(f"{done} of {total}: {told}")


def _trained_peers(names: list[str], pairs: Path, folder: Path, steps: int | None, jobs: int) -> dict[str, Path]:
    from miao.reproduction.peers import train_peers

    with progress("training peers") as tell:
        for done, total, name in train_peers(names, pairs, folder, steps, jobs):
            tell(done / total)
            if name:
                say(f"{done} of {total}: {name}")
    return {name: folder / name for name in names}


def _played(systems: "list[System]", data: list[Path], output: Path, limit: int | None, embedder: list[str] | None,
            jobs: int) -> "tuple[list[Run], list[str]]":  # fmt: skip
    """The systems on each benchmark, and what is missing; the reports go into the same folders as `miao evaluate`'s."""
    from miao.evaluation.benchmarks import load_benchmark
    from miao.evaluation.evaluate import Listeners, new_run, perform

    listeners, missing = Listeners.found(embedder or [])
    listeners.open()  # fails here, in one line, rather than in a process
    benchmarks = [load_benchmark(folder, limit=limit) for folder in data]
    runs = [new_run(systems, benchmark, listeners, output / "evaluation" / benchmark.name) for benchmark in benchmarks]
    for run in runs:
        with progress(f"evaluating on {run.benchmark.name}") as tell:
            for done, total, troubles in perform(run, jobs):
                tell(done / total)
                for trouble in troubles:
                    say(f"miao: {trouble}")
                    missing.append(trouble)
    return runs, missing


def _rows(name: str, title: str, recipe: "Recipe", rows: "list[Row]", data: list[Path], limit: int | None,
          embedder: list[str] | None, jobs: int) -> None:  # fmt: skip
    """Train rows, play and measure them, report."""
    from miao.reproduction.cells import bank_entries
    from miao.reproduction.report import evaluation, held_out_table, training_lines, write

    _checked(data, limit, embedder)
    _trained(recipe, rows, jobs)
    systems, entries = bank_entries(recipe, rows, first_is_ours=True)
    runs, missing = _played(systems, data, recipe.folder, limit, embedder, jobs)
    lines, found = held_out_table(recipe, rows)
    lines = ["", *training_lines(recipe), *lines]
    benchmarks = {}
    for run in runs:
        more, benchmarks[run.benchmark.name] = evaluation(run, entries, of_systems=False)
        lines += more
    report = {**recipe.as_data(), "held_out": found, "benchmarks": benchmarks}
    print(write(recipe.folder, name, title, lines, report, missing))
    say(str(recipe.folder / f"reproduce-{name}.md"))


def _checked(data: list[Path], limit: int | None, embedder: list[str] | None) -> None:
    """What would stop an evaluation after hours of training stops it now."""
    from miao.evaluation.benchmarks import load_benchmark
    from miao.evaluation.evaluate import Listeners

    names = [load_benchmark(folder, limit=limit).name for folder in data]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is there twice; results are told apart by their benchmarks")
    Listeners.found(embedder or [])[0].open()
