"""What a sound bank has of drum kits beyond the standard kit, as far as they differ.

Most keys of most kits are those of the standard kit, some at another loudness: these share what is learnt and differ by
a gain. What sounds unlike anything before it becomes a voice of its own. Decided by the log-mel error of notes of two
velocities, the second at its best gain: teachers that play one sample are below 0.9 dB, others above 1.4.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from miao.arrays import Floats
from miao.bank.voices import DRUM_KEYS, N_VOICES, drum_voice
from miao.datasets.notes import Source, render, source_of
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_json
from miao.sound import spectrum

KITS = (8, 16, 24, 25, 32, 40, 48)  # room, power, electronic, TR-808, jazz, brush, orchestra
FILE = "extra.json"
_VOICES = "voices.json"  # which voices a folder of shards is for
_ALIKE_DB = 1.0
_GAINS_DB = np.arange(-15, 15.5, 0.5)
_SILENT = 1e-5


@dataclass(frozen=True)
class Extra:
    """A voice behind those of General MIDI."""

    voice: int
    source: Source
    row: int  # the voice whose nets and partials it has: its own number, or that of one it is like
    gain_db: float  # against that one


def find_extras(
    font: SoundFont, tell: Callable[[float], None] = lambda done: None, keys: Collection[int] = DRUM_KEYS
) -> list[Extra]:
    """All voices of some keys of a sound bank's kits that are not just those of the standard kit; own rows first.

    Voices are numbered from N_VOICES on, those with rows of their own first.
    """
    found: list[tuple[Source, Source, float]] = []  # a voice, what it is like (itself if like nothing), gain
    known: dict[int, list[tuple[Source, list[Floats]]]] = {}
    sources = list(_sources(keys))
    for n, (place, source) in enumerate(sources):
        tell(n / len(sources))
        mels = listened(font, source)
        if mels is None:
            continue  # the sound bank has nothing there: the standard voice plays
        likes = [(*likeness(before, mels), other) for other, before in known.get(place, [])]
        error, gain, like = min(likes, key=lambda like: like[0], default=(np.inf, 0.0, source))
        if error > _ALIKE_DB:
            gain, like = 0.0, source
            known.setdefault(place, []).append((source, mels))
        if source not in (source_of(place), like) and abs(gain) < 0.5 and like == source_of(place):
            continue  # as General MIDI has it
        if source != source_of(place):
            found.append((source, like, gain))
    own = [source for source, like, _ in found if like == source]
    numbers = {source: N_VOICES + n for n, source in enumerate(own)}
    numbers |= {source_of(voice): voice for voice in range(N_VOICES)}
    extras = [Extra(numbers[source], source, numbers[source], 0.0) for source in own]
    shared: dict[tuple[int, float], int] = {}  # one voice for all that are alike
    for source, like, gain in found:
        if source == like:
            continue
        row = numbers[like]
        number = row if abs(gain) < 0.5 else shared.setdefault((row, gain), N_VOICES + len(own) + len(shared))
        extras.append(Extra(number, source, row, gain))
    return extras


def _sources(keys: Collection[int]) -> Iterator[tuple[int, Source]]:
    """What to listen to: the General MIDI voice it would replace, and where it is; General MIDI's own first."""
    for key in keys:
        for kit in (0, *KITS):
            yield drum_voice(key), Source(kit, key=key)


def listened(font: SoundFont, source: Source) -> list[Floats] | None:
    """Log-mel spectra of some notes; None where there is silence."""
    if source.key is not None:
        notes = [(source.key, 45), (source.key, 100)]
    else:
        notes = [(48, 100), (60, 60), (60, 100), (72, 100)]
    sounds = [render(font, source, pitch, velocity, 0.8) for pitch, velocity in notes]
    if max(np.abs(sound).max(initial=0.0) for sound in sounds) < _SILENT:
        return None
    return [spectrum.log_mel(sound) for sound in sounds]


def likeness(before: list[Floats], mels: list[Floats]) -> tuple[float, float]:
    """Largest log-mel error (dB) at the gain that suits best, and that gain."""
    errors = [max(spectrum.log_mel_error(a + gain, b) for a, b in zip(before, mels, strict=True)) for gain in _GAINS_DB]
    best = int(np.argmin(errors))
    return float(errors[best]), float(_GAINS_DB[best])


def own_voices(extras: list[Extra]) -> list[Extra]:
    """The voices that have rows of their own, in their order, each once: others may sound just like them."""
    return sorted({e.voice: e for e in reversed(extras) if e.voice == e.row}.values(), key=lambda e: e.voice)


def begin(folder: Path, voices: Sequence[int]) -> None:
    """A folder for the shards of some voices, and of what kits and variations have of these: those are numbered one
    after another, so that no others can come in between later.

    Raises: DataError if it was begun for others.
    """
    make_folder(folder, DataError)
    path, before = folder / _VOICES, sorted(voices)
    if path.is_file():
        before = json.loads(path.read_text())
    elif (folder / FILE).is_file():  # of a time when only all voices had kits
        before = list(range(N_VOICES))
    if before != sorted(voices):
        begun = "all voices" if len(before) == N_VOICES else f"--voices {','.join(str(v + 1) for v in before)}"
        raise DataError(f"{folder}: was begun for {begun}; go on with these, or give another folder")
    write_json(path, before, DataError)


def save_extras(extras: list[Extra], folder: Path) -> None:
    """Write the list into a folder of shards."""
    write_json(folder / FILE, [asdict(extra) for extra in extras], DataError)


def load_extras(folder: Path) -> list[Extra]:
    """The list of a folder of shards; empty if it has none. Raises: DataError if it cannot be read."""
    if not (folder / FILE).is_file():
        return []
    try:
        rows = json.loads((folder / FILE).read_text())
        return [Extra(**row | {"source": Source(**row["source"])}) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder / FILE}: not a list of voices ({error}); delete it to have it made again") from None
