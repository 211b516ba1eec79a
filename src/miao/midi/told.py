"""What will not sound as a file asks, in a musician's words.

A line stands only where something is asked for: a controller that rests where it changes nothing, or that the standards
leave without a meaning, is none. Sounds (kits, variations, drum keys) are a bank's matter: see `missing_sounds`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from miao.arrays import Records
from miao.midi.general_midi import GM_DRUM_KITS, GM_DRUMS, program_name


class Controller(NamedTuple):
    """A controller that is not played."""

    name: str
    rest: int | None  # the value that changes nothing; None: the first one is taken for it
    loss: str = ""  # what is lost
    is_switch: bool = False  # below 64 it is off


# by their numbers in MIDI 1.0 and RP-021 (sound controllers); those without a meaning are not here
CONTROLLERS = {
    2: Controller("breath controller", None, "the dynamics of held notes that it draws are lost"),
    4: Controller("foot controller", None),
    8: Controller("balance", 64),
    12: Controller("effect control 1", 0), 13: Controller("effect control 2", 0),
    68: Controller("legato pedal", 0, "", True), 69: Controller("hold 2 pedal", 0, "", True),
    70: Controller("sound variation", 64), 71: Controller("resonance", 64),
    76: Controller("vibrato rate", 64), 77: Controller("vibrato depth", 64), 78: Controller("vibrato delay", 64),
    92: Controller("tremolo depth", 0), 94: Controller("celeste depth, or the send to a third effect", 0),
    95: Controller("phaser depth", 0),
}  # fmt: skip
NRPNS = {  # of GS and XG, by their MSB and LSB; 64 changes nothing
    (1, 8): "vibrato rate", (1, 9): "vibrato depth", (1, 10): "vibrato delay", (1, 33): "resonance",
    (1, 36): "the lowest frequency (high-pass)", (1, 48): "bass of the equalizer", (1, 49): "treble of the equalizer",
}  # fmt: skip
DRUM_NRPNS = {
    20: "filter", 21: "resonance", 22: "attack time", 23: "decay time", 30: "chorus send", 31: "variation send",
}  # fmt: skip


SFX_KITS = 126  # XG's bank MSB for drum kits of sound effects; elsewhere it chooses no drums


class Told:
    """Counts, while events go by, what is asked for and not done."""

    def __init__(self) -> None:
        self._sentences: Counter[str] = Counter()
        self._n_events: Counter[int] = Counter()  # by controller
        self._rests: dict[tuple[int, int], int] = {}  # (controller, lane) -> the value that changes nothing
        self._moved: set[int] = set()

    def say(self, sentence: str) -> None:
        self._sentences[sentence] += 1

    def controller(self, number: int, lane: int, value: int) -> None:
        """A controller that is not played has a value."""
        about = CONTROLLERS.get(number)
        if about is None:
            return
        self._n_events[number] += 1
        rest = about.rest if about.rest is not None else self._rests.setdefault((number, lane), value)
        if value >= 64 if about.is_switch else value != rest:
            self._moved.add(number)

    def nrpn(self, parameter: tuple[int, int], value: int) -> None:
        """A non-registered parameter that is not played has a value."""
        msb, lsb = parameter
        if msb in DRUM_NRPNS:
            if value != (0 if msb >= 30 else 64):
                self.say(f"{DRUM_NRPNS[msb]} of drum key {lsb} (NRPN {msb}/{lsb})")
        elif parameter not in NRPNS:
            self.say(f"a setting of one maker's instruments (NRPN {msb}/{lsb})")
        elif value != 64:
            self.say(f"{NRPNS[parameter]} (NRPN {msb}/{lsb})")

    def lines(self) -> tuple[str, ...]:
        """What to tell, a line each."""
        lines = []
        for number in sorted(self._moved):
            about = CONTROLLERS[number]
            lines.append(
                f"{about.name} (CC {number}), {_events(self._n_events[number])}" + f": {about.loss}" * bool(about.loss)
            )
        return (*lines, *(f"{what}, {_events(n)}" for what, n in sorted(self._sentences.items())))

    def add(self, other: "Told") -> None:
        """Counts what another has counted, too."""
        self._sentences += other._sentences
        self._n_events += other._n_events
        self._moved |= other._moved


def _events(n: int) -> str:
    return f"{n:,} event{'s' * (n > 1)}"


class Offer(Protocol):
    """What a bank says of the sounds that it has."""

    def kit_of(self, kit: int, bank: int) -> int:
        """The number of the kit that plays where this one is asked for: itself if it is there."""
        ...

    def has_drum(self, kit: int, key: int) -> bool:
        """Whether a kit has a sound on this key."""
        ...

    def has_variation(self, program: int, bank: int) -> bool:
        """Whether this bank number (128 x MSB + LSB) of a program is more than its General MIDI sound."""
        ...


class Played(Protocol):
    """A track, as far as sounds go."""

    @property
    def notes(self) -> Records: ...  # notes.NOTE


def missing_sounds(tracks: Iterable[Played], offer: Offer) -> tuple[str, ...]:
    """What of the sounds that notes ask for a bank does not have, and what plays instead; a line each.

    Keys that a kit lacks are silent, as General MIDI 2 says.
    """
    parts = [track.notes[["program", "bank", "is_drum", "pitch"]] for track in tracks]
    if not parts:
        return ()
    asked, counts = np.unique(np.concatenate(parts), return_counts=True)
    kits: Counter[tuple[int, bool, int]] = Counter()  # what is asked for, whether of sound effects, what plays
    keys: Counter[tuple[int, int]] = Counter()
    banks: Counter[tuple[int, int]] = Counter()
    for (program, bank, is_drum, pitch), n in zip(asked.tolist(), counts.tolist(), strict=True):
        if not is_drum:
            if bank and not is_the_same(bank) and not offer.has_variation(program, bank):
                banks[bank, program] += n
            continue
        played = offer.kit_of(program, bank)
        if played != program or bank >> 7 == SFX_KITS:
            kits[program, bank >> 7 == SFX_KITS, played] += n
        if not offer.has_drum(played, pitch):
            keys[played, pitch] += n
    lines = [
        f"{f'XG SFX Kit {kit + 1}' if is_effects else program_name(kit, is_drum=True)} (program {kit + 1}): "
        f"not in this bank, {program_name(played, is_drum=True)} plays instead, {_notes(n)}"
        for (kit, is_effects, played), n in sorted(kits.items())
    ]
    lines += [
        f"drum key {key}{_called(key)}: not in {program_name(kit, is_drum=True)}, silent, {_notes(n)}"
        for (kit, key), n in sorted(keys.items())
    ]
    return (*lines, *(_bank_line(bank, program, n) for (bank, program), n in sorted(banks.items())))


def is_the_same(bank: int) -> bool:
    """Whether a bank number asks for General MIDI's own sounds: GM2's bank 121/0, and MSB 0 with an LSB of GS, which
    only chooses the module whose sounds are meant (1: SC-55, 2: SC-88, 3: SC-88Pro, 4: SC-8850).
    """
    return bank == 121 * 128 or bank < 5


def _bank_line(bank: int, program: int, n: int) -> str:
    msb, lsb = bank >> 7, bank & 127
    what = f"bank {msb}/{lsb}"
    if msb == 64:
        what = f"XG's effects bank (64/{lsb})"
    elif msb in (126, 127):
        what = f"bank {msb}, the sounds of the MT-32," if msb == 127 else "bank 126"
    elif msb == 121:
        what = f"GM2 variation {lsb}"
    elif msb == 0:
        what = f"XG's variation {lsb}"
    elif lsb < 5:
        what = f"variation {msb}"
    return f"{what} of program {program + 1}: not in this bank, {program_name(program)} plays instead, {_notes(n)}"


def _called(key: int) -> str:
    return f" ({GM_DRUMS[key]})" if key in GM_DRUMS else ""


def _notes(n: int) -> str:
    return f"{n:,} note{'s' * (n > 1)}"


__all__ = ["CONTROLLERS", "GM_DRUM_KITS", "Offer", "Told", "is_the_same", "missing_sounds"]
