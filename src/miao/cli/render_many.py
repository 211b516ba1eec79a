"""`miao render` with several songs or folders: one line a song on stderr, a summary, and an exit code that tells.

0: all files are there. 3: some are not, the others are. 130: stopped by Ctrl-C; a second call goes on.
"""

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miao.cli.terminal import as_options, clock, count, say
from miao.errors import MiaoError

if TYPE_CHECKING:
    from miao.synth.many import Outcome

INCOMPLETE = 3  # exit code

Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, metavar="N", help="Songs at a time. Default: one a core.")
]
Engine = Annotated[str, typer.Option(metavar="NAME", help="processes, or dask for the workers of a cluster.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Of a Dask cluster. Default: one on this machine is started.")
]


def is_many(songs: list[str], output: str | None) -> bool:
    """Whether these words ask for a folder of files rather than for one file. Raises: MiaoError for an empty one."""
    if "" in (*songs, output):
        raise MiaoError("an empty name is no file's, nor a folder's")
    is_folder = output is not None and output != "-" and (output.endswith(("/", "\\")) or Path(output).is_dir())
    return len(songs) > 1 or is_folder or (songs[0] != "-" and Path(songs[0]).is_dir())


def run(
    songs: list[str], output: str | None, format: str, wishes: dict[str, Any], jobs: int | None, engine: str,
    scheduler: str | None,
) -> None:  # fmt: skip
    """Renders them all and says so; ``wishes`` are the fields of `many.Wishes`.

    Raises: typer.Exit with the code that tells how it went; MiaoError.
    """
    from miao.synth.journal import Wishes, shown
    from miao.synth.many import plan, render_many

    if output is None or output == "-":
        raise MiaoError("several songs become files in a folder; name it with -o FOLDER")
    if "-" in songs:
        raise MiaoError("stdin is one song; render it by itself")
    if engine not in ("processes", "dask"):
        raise typer.BadParameter(f"--engine is processes or dask, not {engine}")
    if Path(output).exists() and not Path(output).is_dir():
        raise MiaoError(f"{shown(output)} is a file; several songs become files in a folder")
    work = plan(songs, output, format)
    began, outcomes = time.perf_counter(), list["Outcome"]()
    try:
        for outcome in render_many(work, output, Wishes(**wishes), jobs or _cores(), engine, scheduler):
            outcomes.append(outcome)
            if outcome.state in ("rendered", "failed"):
                say(f"[{len(outcomes)}/{len(work)}] {_line(outcome)}")
    except KeyboardInterrupt:
        _summarise(outcomes, len(work), time.perf_counter() - began)
        say("miao: stopped; the same command goes on where it was")
        raise
    except MiaoError:
        _summarise(outcomes, len(work), time.perf_counter() - began)
        raise
    n_there = _summarise(outcomes, len(work), time.perf_counter() - began)
    if any(outcome.is_disk_full for outcome in outcomes):
        say("miao: the disk is full; free some space, and the same command goes on where it was")
    if n_there < len(work):
        raise typer.Exit(INCOMPLETE)


def _line(outcome: "Outcome") -> str:
    from miao.synth.journal import shown

    if outcome.state == "failed":
        message = outcome.message.removeprefix(f"{outcome.job.source}: ")
        return f"{shown(outcome.job.source)}: {as_options(message)}"
    speed = outcome.seconds / max(outcome.wall_seconds, 1e-9)
    warned = f"; {count(len(outcome.warnings), 'warning')}" if outcome.warnings else ""
    return f"{shown(outcome.job.target)}: {clock(outcome.seconds)}, {speed:.0f} times as fast as it plays{warned}"


def _summarise(outcomes: list["Outcome"], n: int, wall_seconds: float) -> int:
    """Prints how it went; gives how many files are there."""
    states = Counter(outcome.state for outcome in outcomes)
    n_there = states["rendered"] + states["there"]
    seconds = sum(outcome.seconds for outcome in outcomes)
    parts = [
        f"{states['rendered']:,} rendered",
        f"{states['there']:,} were there",
        f"{states['failed']:,} failed",
        f"{n - n_there - states['failed']:,} not begun",
    ]
    said = ", ".join(part for part in parts if not part.startswith("0 ")) or "nothing to do"
    speed = f"; {clock(seconds)} of sound in {clock(wall_seconds)}" if seconds else ""
    say(f"{count(n, 'song')}: {said}{speed}")
    return n_there


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
