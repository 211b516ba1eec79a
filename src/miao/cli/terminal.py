"""What the commands share: how they speak, show progress, and read numbers and times."""

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer

_NARROWEST = 12  # column of a table that is cut
_LARGEST_NUMBER = 99_999  # in a list of tracks or voices


def say(text: str) -> None:
    """Tell the user something that is not the command's result, on stderr."""
    print(text, file=sys.stderr, flush=True)


def as_options(text: str) -> str:
    """What the library says of its arguments, in the words of the command."""
    return text.replace("force=True", "--force")


def count(n: int, what: str) -> str:
    """A number of things: "1 note", "1,200 notes"."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def clock(seconds: float) -> str:
    """1:02:03, or 2:03.4 below an hour."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02}:{tenths // 10:02}"
    return f"{minutes}:{tenths / 10:04.1f}"


def numbers(text: str) -> list[int]:
    """Numbers of "1,3" or "1-4,8", each once."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            span = range(int(first), int(last if dash else first) + 1)
            if not span or span[-1] > _LARGEST_NUMBER:  # backwards, it would ask for nothing, and that plays all
                raise ValueError
            found += span
    except ValueError:
        raise typer.BadParameter(f"{text} is no list of numbers; say 1,3 or 1-4") from None
    return list(dict.fromkeys(found))


def table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Rows below a heading, which is the first of them; the columns ``left`` begin below each other, others end so.

    Where a row is wider than the terminal, what stands in its widest column is cut.
    """
    rows = [["".join(c if c.isprintable() else " " for c in cell) for cell in row] for row in rows]
    widths = [max(_cells(row[column]) for row in rows) for column in range(len(rows[0]))]
    beyond = sum(widths) + 3 * (len(widths) - 1) - shutil.get_terminal_size().columns
    widest = max(left, key=lambda column: widths[column])
    widths[widest] = max(widths[widest] - max(beyond, 0), _NARROWEST)
    lines = []
    for row in rows:
        padded = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            while _cells(cell) > width:
                cell = cell[: -2 if cell.endswith("…") else -1] + "…"
            space = " " * (width - _cells(cell))
            padded.append(cell + space if column in left else space + cell)
        lines.append("   ".join(padded).rstrip())
    lines.insert(1, "─" * (sum(widths) + 3 * (len(widths) - 1)))
    return "\n".join(["", *lines, ""])


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese and its like take two a sign, accents of their own none."""
    return sum((unicodedata.east_asian_width(c) in "WF") + (unicodedata.combining(c) == 0) for c in text)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr that moves as it is told the share that is done; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)
