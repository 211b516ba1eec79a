"""Variations of programs, taught beside the finished nets of a bank, and what is measured of them as of taught voices.

Each sets out from its program, and is learnt from its notes with all others at once (`extras`). Then follows what
General MIDI's voices get, by the same functions: spectra by key, openings, loudness, rises, wavers, sides, courses of
held notes. What is measured is kept in the folder of their shards. A variation that is no nearer to its notes than its
program, and not near either, is left out: the program plays in its place, and `miao info` says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.folder import bank_folder, changed
from miao.bank.key_levels import KeyLevels
from miao.bank.lasting import Courses
from miao.bank.openings import Openings
from miao.bank.rises import Rises
from miao.bank.taught import TaughtKeys
from miao.bank.variations import FILE, Variations
from miao.bank.voices import N_PITCHES, N_VOICES, VoiceEmbeddings, VoiceTable
from miao.datasets.notes import Source, load_notes, load_table
from miao.datasets.soundfont import SoundFont
from miao.datasets.variations import load_variations, numbered, variations_folder
from miao.errors import DataError
from miao.files import write_arrays
from miao.training.courses import make_courses, prepare_held, prepare_held_keys
from miao.training.evenness import as_loud, off_by_sound, prepare_keys, with_even_keys
from miao.training.extras import ExtrasConfig, learn_rows, starting_programs
from miao.training.key_levels import checked_error, heard_keys, make_key_levels, prepare_bands
from miao.training.openings import gathered_openings, prepare_openings
from miao.training.rises import WAVERING, gathered_rises, prepare_rises, replaced
from miao.training.sides import gathered_sides, prepare_sides
from miao.training.wavers import gathered_wavers, prepare_wavers

NEAR_DB = 5.0  # log-mel error of checked notes up to which a variation plays in any case
CONFIG = ExtrasConfig(steps=400)
STILL = ((8, 38), (8, 61), (8, 63), (8, 80), (8, 115))
"""Bank numbers and programs 0..127 of variations that one of two nets hears no nearer once they waver (Synth Bass 3,
Brass 2, Synth Brass 4, Castanets), or whose log-mel error rises (Sine Wave); see `bench/wavers.py`."""
_LEARNT = "learnt.npz"
Tell = Callable[[float], None]


def teach_variations(name: str | Path, font: Path, notes: Path, tell: Tell, config: ExtrasConfig = CONFIG) -> None:
    """Learn the variations whose notes are in a folder (`miao data soundfont`), measure and write them.

    Raises: DataError if the folder has none.
    """
    found, shards = load_variations(notes), variations_folder(notes)
    if not found:
        raise DataError(f"{notes}: no notes of variations; make them with `miao data soundfont`")
    voices, folder = numbered(found), bank_folder(name)
    plain = Bank.load(folder, has_more=False)
    table, told = _learnt(plain, shards, voices, config, lambda done: tell(0.25 * done))
    own = Variations(
        tuple((v.source.bank, v.source.program) for v in found), tuple(v.name for v in found), table, told,
        KeyLevels.of([None] * len(found)), Openings.of([None] * len(found)), Rises.of([None] * len(found)),
        Courses.none(),
    )  # fmt: skip
    own = measured(plain, own, font, shards, voices, lambda done: tell(0.25 + 0.75 * done))
    own = with_programs(plain, own, font, voices)
    own = own.chosen(np.flatnonzero(worth(plain, own, font, voices)))
    with changed(folder, FILE) as path:
        own.save(path)


def measured(plain: Bank, own: Variations, font: Path, shards: Path, voices: Mapping[int, Source],
             tell: Tell) -> Variations:  # fmt: skip
    """The variations with spectra, openings, loudness, rises, wavers, sides and courses; ``plain`` is the bank without
    what is beyond General MIDI, ``voices`` says where they come from, by their numbers behind it."""
    rows, n = np.array(list(voices)), len(voices)

    def told(first: float, share: float, done: int) -> None:
        tell(first + share * done / n)

    teacher = SoundFont(font)
    own = replace(own, taught=TaughtKeys.of([heard_keys(teacher, source) for source in voices.values()]))
    bank = plain.with_variations(own)
    for done, _ in enumerate(prepare_bands(font, shards, bank, voices), start=1):
        told(0.0, 0.35, done)
    own = replace(own, keys=make_key_levels(bank, shards).chosen(rows))
    bank = plain.with_variations(own)
    for done, _ in enumerate(prepare_openings(font, shards, bank, voices), start=1):
        told(0.35, 0.35, done)
    own = replace(own, openings=gathered_openings(shards, N_VOICES + n).chosen(rows))
    for done, _ in enumerate(prepare_keys(font, shards, voices), start=1):
        told(0.7, 0.05, done)
    trims = with_even_keys(plain.with_variations(own), shards).trim_db[rows].copy()
    own = replace(own, table=replace(own.table, trim_db=trims.copy()))
    for voice, change in as_loud(teacher, plain.with_variations(own), voices):
        trims[voice - N_VOICES] += change
    own = replace(own, table=replace(own.table, trim_db=trims))
    bank = plain.with_variations(replace(own, rises=Rises.of([None] * n)))
    for done, _ in enumerate(prepare_rises(font, shards, bank, voices), start=1):
        told(0.75, 0.1, done)
    own = replace(own, rises=gathered_rises(shards, N_VOICES + n).chosen(rows))
    return lasting(plain, own, font, shards, voices, lambda done: tell(0.85 + 0.15 * done))


def lasting(plain: Bank, own: Variations, font: Path, shards: Path, voices: Mapping[int, Source],
            tell: Tell) -> Variations:  # fmt: skip
    """The variations with what their notes do while they are held: wavers, how those that waver rise, sides and
    courses."""
    rows, n = np.array(list(voices)), len(voices)
    own = replace(own, wavers=None)
    bank = plain.with_variations(own)
    for done, _ in enumerate(prepare_wavers(font, shards, bank, voices), start=1):
        tell(0.3 * done / n)
    still = [n for n, source in enumerate(voices.values()) if (source.bank, source.program) in STILL]
    wavers = gathered_wavers(shards, N_VOICES + n).chosen(rows)
    wavers.first[still] = -1
    own = replace(own, wavers=wavers.only(np.arange(n)))
    bank, some = plain.with_variations(own), {v: s for v, s in voices.items() if wavers.has(v - N_VOICES)}
    for done, _ in enumerate(prepare_rises(font, shards / WAVERING, bank, some), start=1):
        tell(0.3 + 0.1 * done / len(some))
    risen = gathered_rises(shards / WAVERING, N_VOICES + n, some).chosen(rows)
    for done, _ in enumerate(prepare_sides(font, shards, bank.table, voices), start=1):
        tell(0.4 + 0.1 * done / n)
    sides = gathered_sides(shards, N_VOICES + n).chosen(rows)
    own = replace(own, rises=replaced(own.rises, risen), sides=sides)
    bank = plain.with_variations(own)
    for done, _ in enumerate(prepare_held(font, shards, bank.table, voices), start=1):
        tell(0.5 + 0.3 * done / n)
    for done, _ in enumerate(prepare_held_keys(font, shards, voices), start=1):
        tell(0.8 + 0.2 * done / n)
    courses = make_courses(bank, shards, {})
    return replace(own, courses=replace(courses, row=courses.row[rows]))


def with_programs(plain: Bank, own: Variations, font: Path, voices: Mapping[int, Source]) -> Variations:
    """The variations; those that their programs come nearer to, if they are as loud, are these programs, so loud (a
    detuned organ may be nothing but another organ's stops, softer)."""
    added = plain.additions
    assert plain.embeddings is not None and added.key_levels is not None and plain.courses is not None
    teacher, n = SoundFont(font), len(voices)
    programs = np.array([source.program for source in voices.values()])
    off = [off_by_sound(teacher, plain, source.program, source) for source in voices.values()]
    table = plain.table.chosen(programs.astype(np.int16))
    trims = table.trim_db.reshape(n, -1) - np.array(off, np.float32)[:, None]
    told = VoiceEmbeddings(plain.embeddings.embeddings[programs], plain.embeddings.profiles[:, programs])
    rival = Variations(
        own.places, own.names, replace(table, trim_db=np.broadcast_to(trims, (n, N_PITCHES)).astype(np.float32)), told,
        added.key_levels.chosen(programs), (added.openings or Openings.of([None] * N_VOICES)).chosen(programs),
        (added.rises or Rises.of([None] * N_VOICES)).chosen(programs),
        replace(plain.courses, row=plain.courses.row[programs]),
        added.wavers and added.wavers.chosen(programs), plain.sides and plain.sides.chosen(programs),
        plain.taught and plain.taught.chosen(programs),
    )  # fmt: skip
    banks = [plain.with_variations(some) for some in (own, rival)]
    errors = [[checked_error(teacher, bank, voice, source) for voice, source in voices.items()] for bank in banks]
    return Variations.joined([own, rival]).chosen(np.argmin(errors, axis=0) * n + np.arange(n))


def worth(plain: Bank, own: Variations, font: Path, voices: Mapping[int, Source]) -> list[bool]:
    """Which variations are near their notes, or nearer than the programs that would play in their place."""
    teacher, bank = SoundFont(font), plain.with_variations(own)
    kept = []
    for voice, source in voices.items():
        error = checked_error(teacher, bank, voice, source)
        kept.append(error <= NEAR_DB or error < checked_error(teacher, plain, source.program, source))
    return kept


def _learnt(plain: Bank, shards: Path, voices: Mapping[int, Source], config: ExtrasConfig,
            tell: Tell) -> tuple[VoiceTable, VoiceEmbeddings]:  # fmt: skip
    """Voice table and what nets are told of the variations; learnt once for the same nets, notes and settings."""
    table, path = load_table(shards, list(voices)), shards / _LEARNT
    sets = [load_notes(shards, {voice}) for voice in voices]
    about = np.array(f"{plain.nets_checksum} {config} {[len(some) for some in sets]}")
    if path.is_file() and str((kept := np.load(path))["about"]) == str(about):
        return replace(table, trim_db=kept["trim_db"]), VoiceEmbeddings(kept["embeddings"], kept["profiles"])
    start = starting_programs(plain, [source.program for source in voices.values()])
    rows = learn_rows(plain, sets, start, config, lambda step, _: tell(step / config.steps))
    told = rows.embeddings
    arrays = {"embeddings": told.embeddings, "profiles": told.profiles, "trim_db": rows.trim_db, "about": about}
    write_arrays(path, arrays, DataError)
    return replace(table, trim_db=rows.trim_db), told
