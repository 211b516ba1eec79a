"""What a sound bank has of programs beside General MIDI's: variations, in banks of their own.

GS numbers its variations 8, 16 and so on; MuseScore General has more in banks that are its own. Banks in which the same
sounds only listen to another controller are left out, and the sections of a string orchestra are, too.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from miao.bank.voices import N_PROGRAMS, N_VOICES
from miao.datasets.kits import likeness, listened
from miao.datasets.notes import Source
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import write_json

BANKS = (8, 16, 20)
_SECTIONS = range(44, 50)  # programs of strings that play together
FOLDER = "variations"  # beside the shards of General MIDI's voices
FILE = "variations.json"
_ALIKE_DB, _AS_LOUD_DB = 1.0, 0.5  # what is no further from its program than that is that program


@dataclass(frozen=True)
class Variation:
    """A program of another bank of a sound bank, and what it is called there."""

    source: Source
    name: str


def find_variations(
    font: SoundFont, tell: Callable[[float], None] = lambda done: None, of: Collection[int] = range(N_PROGRAMS)
) -> list[Variation]:
    """The variations of some programs of a sound bank that sound unlike these, in the order of `BANKS`, then by
    program."""
    found = []
    for n, bank in enumerate(BANKS):
        tell(n / len(BANKS))
        programs = [program for program in sorted(of) if bank != 20 or program not in _SECTIONS]
        places = [Source(program, bank) for program in programs if font.has(program, bank)]
        found += [Variation(source, font.name(source.program, bank)) for source in places if _differs(font, source)]
    return found


def numbered(variations: Sequence[Variation]) -> dict[int, Source]:
    """Where variations come from, by the numbers that they have behind the voices of General MIDI alone: those of
    their shards."""
    return {N_VOICES + n: variation.source for n, variation in enumerate(variations)}


def variations_folder(notes: Path) -> Path:
    """Where the shards of variations are, and what is measured of them: in a folder of shards."""
    return notes / FOLDER


def save_variations(variations: Sequence[Variation], notes: Path) -> None:
    """Write the list into a folder of shards."""
    variations_folder(notes).mkdir(parents=True, exist_ok=True)
    write_json(variations_folder(notes) / FILE, [asdict(variation) for variation in variations], DataError)


def load_variations(notes: Path) -> list[Variation] | None:
    """The list of a folder of shards; None if it has none. Raises: DataError if it cannot be read."""
    path = variations_folder(notes) / FILE
    if not path.is_file():
        return None
    try:
        return [Variation(Source(**row["source"]), str(row["name"])) for row in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not a list of variations ({error}); delete it to have it made again") from None


def _differs(font: SoundFont, source: Source) -> bool:
    own, plain = (listened(font, some) for some in (source, Source(source.program)))
    if own is None or plain is None:
        return own is not None
    error, gain = likeness(plain, own)
    return error > _ALIKE_DB or abs(gain) > _AS_LOUD_DB
