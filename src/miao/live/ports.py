"""MIDI keyboards: found by name, heard as they play, and looked for again when their cable has been out.

A port of our own, for other programs to play on, is opened where the system has such a thing (not on Windows).
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from miao.errors import MiaoError, needs
from miao.live.instrument import Instrument

LOOK_SECONDS = 0.4
OWN_PORT = "miao"
_NOBODYS = ("midi through", "miao")  # ports that are no keyboards


def ports(api: int | None = None) -> list[str]:
    """The names of the keyboards that are plugged in; none where there is no MIDI system."""
    midi = _input(api)
    return [] if midi is None else _keyboards_of(midi)


class Keyboards:
    """Ports whose names hold one of some words (all where no words are given), into an instrument, until `close`."""

    def __init__(
        self, instrument: Instrument, wanted: Sequence[str] = (), own_port: bool = True, api: int | None = None
    ) -> None:
        self._instrument, self._wanted, self._api = instrument, [word.lower() for word in wanted], api
        self._open: dict[str, tuple[int, Any]] = {}  # by port: source, and rtmidi's object
        self._n_sources = 0
        self._is_over = threading.Event()
        self.own: Any = None
        self._thread = threading.Thread(target=self._watch, name="miao ports", daemon=True)
        self._lister = _input(api)
        if self._lister is None:
            return
        if own_port and (midi := _input(api)) is not None:
            with suppress(Exception):  # a system without virtual ports
                midi.open_virtual_port(OWN_PORT)
                self._listen(midi)
                self.own = midi
        self.look()
        self._thread.start()

    @property
    def names(self) -> list[str]:
        """The ports that are heard."""
        return list(self._open)

    def look(self) -> None:
        """Opens what has been plugged in, and lets go what is gone."""
        there = [name for name in _keyboards_of(self._lister) if self._is_wanted(name)]
        for name in [name for name in self._open if name not in there]:
            source, midi = self._open.pop(name)
            midi.close_port()
            midi.delete()
            self._instrument.put(b"", source)
        for name in there:
            if name in self._open or (midi := _input(self._api)) is None:
                continue
            with suppress(Exception):  # gone again, or another program's alone
                midi.open_port(midi.get_ports().index(name), OWN_PORT)
                self._open[name] = (self._listen(midi), midi)

    def close(self) -> None:
        """Listen no more."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        for midi in (*(midi for _, midi in self._open.values()), self.own, self._lister):
            if midi is not None:
                midi.delete()
        self._open.clear()

    def _listen(self, midi: Any) -> int:
        source = self._n_sources = self._n_sources + 1
        midi.ignore_types(sysex=False, timing=True, active_sense=False)
        midi.set_callback(lambda event, _: self._instrument.put(bytes(event[0]), source))
        return source

    def _is_wanted(self, name: str) -> bool:
        return not self._wanted or any(word in name.lower() for word in self._wanted)

    def _watch(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self.look()


def _keyboards_of(midi: Any) -> list[str]:
    return [name for name in midi.get_ports() if not _is_nobodys(name)]


def _is_nobodys(name: str) -> bool:
    return any(name.lower().startswith(word) for word in _NOBODYS)


def _input(api: int | None) -> Any:
    """An input of the MIDI system; None where there is no such system."""
    needs("live", "rtmidi")
    import rtmidi

    try:
        return rtmidi.MidiIn(rtmidi.API_UNSPECIFIED if api is None else api, name=OWN_PORT)
    except Exception:  # no sequencer in the kernel, no server: rtmidi has an error for each
        return None


def check_wanted(wanted: Sequence[str]) -> None:
    """Raises: MiaoError if a keyboard that was asked for is not there now."""
    known = ports()
    for word in wanted:
        if not any(word.lower() in name.lower() for name in known):
            raise MiaoError(f'no keyboard "{word}"; there are {", ".join(known) or "none"}')
