"""The commands about data sets: `miao data list`, `info`, `verify`, `download`, `unpack`, `prepare`; see cli.py.

As there: results go to stdout, what is said about them to stderr, and all heavy imports stand inside the commands.
`verify` exits with 0 if all is well and with 2 if there are faults, each of which is a line on stdout.
"""

from pathlib import Path
from typing import Annotated

import typer

from miao.cli.terminal import count, progress, say
from miao.errors import DataError, needs

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, as `miao data list` names them.")]
Root = Annotated[Path, typer.Option("--root", metavar="FOLDER", help="The data set's folder, or the one it is in.")]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", metavar="FILE", help="Only this file, as `miao data info` names it; may be repeated."),
]


def list_datasets() -> None:
    """List the data sets that can be trained on.

    \b
    miao data list
    """
    from miao.datasets.catalogue import DATASETS, title

    for name in DATASETS:
        print(f"{name:10}  {title(name)}")


def info(
    name: Name,
    root: Annotated[Path | None, typer.Option("--root", metavar="FOLDER", help="Count what is there.")] = None,
) -> None:
    """Tell what a data set is: size, splits, known faults, licence, citation, files.

    \b
    miao data info maestro
    miao data info maestro --root data
    """
    from miao.datasets.catalogue import card, count_splits, dataset

    if root is None:
        print(card(name))
        return
    recordings = dataset(name).recordings(root)
    print(f"{name}: {count(len(recordings), 'recording')} with notes and sound")
    for split, n in count_splits(recordings).items():
        print(f"  {split:10}  {n:,}")


def verify(name: Name, root: Root) -> None:
    """Look for what is missing, damaged or misaligned in a data set.

    Each fault is a line; exits with 2 if there are any.

    \b
    miao data verify maestro --root data
    """
    from miao.datasets.catalogue import count_splits, dataset

    module = dataset(name)
    with progress("verifying") as tell:
        faults = module.verify(root, tell)
    for fault in faults:
        print(f"{fault.path}: {fault.what}")
    counts = ", ".join(f"{n:,} {split}" for split, n in count_splits(module.recordings(root)).items())
    say(f"{root}: {name}: {counts}")
    if faults:
        n_files = len({fault.path for fault in faults})
        raise DataError(
            f"{root}: {count(len(faults), 'fault')} in {count(n_files, 'file')}; `miao data info {name}` "
            "says where to get them anew"
        )


def download(name: Name, root: Root, files: Files = None) -> None:
    """Fetch a data set's files; goes on where it was interrupted.

    Checked against the published checksum. What is optional comes only if named.

    \b
    miao data download guitarset --root data/guitarset
    miao data download maestro --root data --file maestro-v3.0.0-midi.zip
    """
    from miao.datasets.catalogue import dataset
    from miao.datasets.download import chosen
    from miao.datasets.download import download as fetch

    for remote in chosen(dataset(name).REMOTES, files):
        with progress(remote.name) as tell:
            path = fetch(remote, root, tell)
        say(str(path) + ("" if remote.checksum else ": no checksum is published"))
    say(f"next: miao data unpack {name} --root {root}")


def unpack(name: Name, root: Root, files: Files = None) -> None:
    """Take the downloaded archives apart, where they lie.

    Also turns MusicNet's npz form into sound files and tables.

    \b
    miao data unpack guitarset --root data/guitarset
    """
    from miao.datasets.catalogue import unpack_files

    for done in unpack_files(name, root, files):
        say(f"{root / done}: unpacked")


def prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A data set, or `folder`: sound files with MIDI files beside them.")
    ],
    root: Root,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the pairs go.")],
    tokens: Annotated[bool, typer.Option(help="Measure the notes; without, it is faster.")] = True,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 2,
    backend: Annotated[str, typer.Option(metavar="NAME", help="loky (this machine), dask or ray.")] = "loky",
    most: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N recordings.")] = None,
) -> None:
    """Make pairs of notes and sound out of recordings: aligned, cut into windows, measured.

    Can be interrupted; the same command goes on where it was. What is left out, and why, is told and in report.json.

    \b
    miao data prepare maestro --root data/maestro -o pairs
    miao data prepare folder --root my-recordings -o pairs --no-tokens
    """
    needs("train", "joblib")
    from miao.datasets import folder
    from miao.datasets.catalogue import dataset
    from miao.datasets.prepare import finish
    from miao.datasets.prepare import prepare as run

    recordings = (folder if name == "folder" else dataset(name)).recordings(root)[:most]
    with progress("preparing") as tell:
        for n, report in enumerate(run(recordings, output, with_tokens=tokens, n_jobs=jobs, backend=backend), start=1):
            tell(n / len(recordings))
            for line in report.lines():
                print(line, flush=True)
    summary = finish(output)
    say(
        f"{output}: {summary['minutes']:.1f} minutes, {count(summary['windows'], 'window')}, "
        f"{count(summary['notes'], 'note')}, {summary['measured']:,} measured, {len(summary['rejected']):,} left out"
    )
