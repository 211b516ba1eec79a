"""The computer's keyboard in a terminal: as a piano, and as the keys of a tape machine.

A terminal tells when a key goes down and repeats it while it stays down, but never when it comes up: a note is let go
when its key has not been repeated for a while.
"""

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from miao.midi.events import NOTE_OFF, NOTE_ON

PIANO = "awsedftgyhujkolp;'"  # row A the white keys from C on, row Q the black ones
FIRST_SECONDS, REPEAT_SECONDS = 0.6, 0.15  # a key rests so long before it repeats, and between repeats
ESCAPES = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}


class Piano:
    """Keys to messages, which ``put`` takes: Z and X shift by an octave, C and V by velocity, space is panic; R calls
    ``next_room``."""

    def __init__(
        self, put: Callable[[bytes], None], channel: int = 0, next_room: Callable[[], None] = lambda: None
    ) -> None:
        self._put, self._channel, self._next_room = put, channel, next_room
        self.octave, self.velocity = 4, 96
        self._down: dict[int, float] = {}  # until when, by pitch

    def press(self, key: str, now: float) -> None:
        """A key of the terminal, at a time in seconds."""
        key = key.lower()
        if key == " ":
            self._down.clear()
            self._put(b"\xff")
        elif key == "r":
            self._next_room()
        elif key in ("z", "x"):
            self.octave = min(max(self.octave + (1 if key == "x" else -1), 0), 8)
        elif key in ("c", "v"):
            self.velocity = min(max(self.velocity + (16 if key == "v" else -16), 16), 127)
        elif key in PIANO and key:
            pitch = 12 * (self.octave + 1) + PIANO.index(key)
            if pitch <= 127:
                if pitch not in self._down:
                    self._put(bytes([NOTE_ON | self._channel, pitch, self.velocity]))
                    self._down[pitch] = now + FIRST_SECONDS
                else:
                    self._down[pitch] = now + REPEAT_SECONDS

    def let_go(self, now: float) -> None:
        """What is no longer down comes up."""
        for pitch in [pitch for pitch, until in self._down.items() if until < now]:
            del self._down[pitch]
            self._put(bytes([NOTE_OFF | self._channel, pitch, 64]))


@contextmanager
def keys_of_terminal() -> Iterator[Callable[[float], str]]:
    """A function that waits some seconds for a key and gives it, or "": arrows as "left", "right", "up", "down"."""
    if not sys.stdin.isatty():
        yield _wait_only
    elif os.name == "nt":
        yield _windows_key
    else:
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            yield _unix_key
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait_only(seconds: float) -> str:
    import time

    time.sleep(seconds)
    return ""


def _unix_key(seconds: float) -> str:
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    text = os.read(sys.stdin.fileno(), 3).decode(errors="replace")
    return ESCAPES.get(text, text[:1])


def _windows_key(seconds: float) -> str:
    import msvcrt  # type: ignore[unused-ignore]  # mypy knows it on Windows alone, here and below
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if msvcrt.kbhit():  # type: ignore[attr-defined]
            key = msvcrt.getwch()  # type: ignore[attr-defined]
            arrows = {"H": "up", "P": "down", "M": "right", "K": "left"}
            return arrows.get(msvcrt.getwch(), "") if key in ("\x00", "\xe0") else key  # type: ignore[attr-defined]
        time.sleep(0.005)
    return ""
