"""The commands that compare MIDI with sound: `miao match`, `miao search`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miao.cli.terminal import clock, progress, say
from miao.errors import MiaoError, ScoreError, needs
from miao.files import Json

if TYPE_CHECKING:
    from miao.bank.matching import Match

BankName = Annotated[str, typer.Option("--bank", metavar="NAME", help="A bank by name, or its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs to read.")]
_SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
_HOP_SECONDS = 0.64  # between the places that a clip is looked for at


def match(
    song: Annotated[Path, typer.Argument(metavar="MIDI", help="A MIDI file.")],
    sound: Annotated[Path, typer.Argument(metavar="SOUND", help="A sound file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A picture of both and of how alike they are over time."),
    ] = None,
    bank: BankName = "gm",
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option(help="Overwrite the picture.")] = False,
) -> None:
    """Tell whether a sound file is a recording of a MIDI file, and where they part.

    \b
    miao match song.mid song.wav -o match.png
    """
    if output is not None:
        needs("plot")
    from miao.bank.matching import Matcher
    from miao.midi.score import read_score
    from miao.sound.audio import read_audio

    score, audio = read_score(song), read_audio(sound)
    found = Matcher.from_pretrained(bank).match(score, audio)
    if output is not None:
        from miao.plot import save_plot

        title = f"{song.stem}: {100 * found.probability:.0f} % a match"
        save_plot(
            score,
            output,
            audio=audio,
            title=title,
            force=force,
            similarity=found.similarity,
            segment_seconds=found.segment_seconds,
        )
    if as_json:
        print(json.dumps(_as_dict(found), indent=2))
        return
    print(f"{100 * found.probability:.0f} % a match")
    for start, end in _apart(found):
        print(f"apart from {clock(start)} to {clock(end)}")
    if output is not None:
        say(str(output))


def search(
    clip: Annotated[Path, typer.Option("--audio", metavar="SOUND", help="A sound file, a few seconds or more.")],
    folder: Annotated[Path, typer.Option("--midi", metavar="FOLDER", help="MIDI files, in folders or not.")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, metavar="N", help="How many to show.")] = 10,
    bank: BankName = "gm",
    as_json: AsJson = False,
) -> None:
    """Find the MIDI files, and the places in them, that sound most like a clip.

    \b
    miao search --audio clip.wav --midi songs
    """
    from miao.bank.frames import WINDOW_SECONDS
    from miao.bank.matching import Matcher, best_place
    from miao.midi.score import read_score
    from miao.sound.audio import read_audio

    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise MiaoError(f"{folder}: holds no MIDI files")
    matcher = Matcher.from_pretrained(bank)
    heard = matcher.see_audio(read_audio(clip), hop_seconds=WINDOW_SECONDS)
    if not heard.is_heard.any():
        raise MiaoError(f"{clip}: is silent")
    rows: list[dict[str, Any]] = []
    unread = []
    with progress("listening") as tell:
        for n, path in enumerate(files, start=1):
            try:
                score = read_score(path)
            except ScoreError:
                unread.append(path)
                continue
            midi = matcher.see_score(score, hop_seconds=_HOP_SECONDS)
            alike, seconds = best_place(midi, heard, _HOP_SECONDS)
            rows.append({"file": str(path), "similarity": round(alike, 4), "seconds": round(seconds, 2)})
            tell(n / len(files))
    rows.sort(key=lambda row: -row["similarity"])
    if as_json:
        print(json.dumps({"found": rows[:number], "unread": [str(p) for p in unread]}, indent=2))
    else:
        for row in rows[:number]:
            print(f"{row['similarity']:6.3f}  {clock(row['seconds']):>8}  {row['file']}")
    for path in unread:
        say(f"miao: {path}: left out, it cannot be read as MIDI")


def _apart(found: "Match") -> list[tuple[float, float]]:
    """Stretches, in seconds, of windows that are more likely wrong than right."""
    from miao.bank.frames import WINDOW_SECONDS

    stretches: list[tuple[float, float]] = []
    for n, chance in enumerate(found.windows):
        if chance < 0.5:  # never true of windows with nothing to compare
            start, end = n * WINDOW_SECONDS, (n + 1) * WINDOW_SECONDS
            if stretches and stretches[-1][1] == start:
                start = stretches.pop()[0]
            stretches.append((start, end))
    return stretches


def _as_dict(found: "Match") -> Json:
    def numbers(values: Iterable[float]) -> list[float | None]:
        return [None if value != value else round(float(value), 4) for value in values]

    return {"probability": round(found.probability, 4), "windows": numbers(found.windows),
            "segment_seconds": found.segment_seconds, "similarity": numbers(found.similarity)}  # fmt: skip
