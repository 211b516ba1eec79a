"""What the commands share: how they speak, show progress, and read numbers and times."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


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
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise typer.BadParameter(f"{text} is no list of numbers; say 1,3 or 1-4") from None
    return list(dict.fromkeys(found))


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
