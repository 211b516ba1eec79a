"""What a bank gets after its nets are trained: kits, each key's spectrum and loudness, notes that last.

None of it needs the nets to be trained again, and all of it is measured on the same sound bank: the drums of kits,
learnt beside the nets (`extras`), which keys there are and what each has more or less of (`key_levels`), what drums
still lack as they are heard (`by_ear`), how loud each key is (`evenness`), how notes open and rise (`openings`,
`rises`), how held notes waver (`wavers`), how far partials are ahead on one side (`sides`) and what notes do in the end
(`courses`). Each step writes its file into the bank's folder and can be run again by itself; what comes after it builds
on it. What a folder of notes has no notes of, is left out.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.defaults import default_programs
from miao.bank.drums import FILE as DRUMS_FILE
from miao.bank.folder import bank_folder, changed
from miao.bank.key_levels import FILE as KEYS_FILE
from miao.bank.kits import KITS_FILE, Kits, MoreVoices
from miao.bank.openings import FILE as OPENINGS_FILE
from miao.bank.rises import FILE as RISES_FILE
from miao.bank.sides import FILE as SIDES_FILE
from miao.bank.taught import FILE as TAUGHT_FILE
from miao.bank.taught import TaughtKeys
from miao.bank.voices import N_PROGRAMS, N_VOICES, VoiceTable
from miao.bank.wavers import FILE as WAVERS_FILE
from miao.datasets.kits import Extra, load_extras, own_voices
from miao.datasets.notes import NoteData, Source, load_notes, load_table, source_of
from miao.datasets.soundfont import SoundFont
from miao.datasets.variations import load_variations
from miao.errors import BankError, DataError
from miao.files import write_json
from miao.training.by_ear import EarConfig, gathered, prepare_ear
from miao.training.courses import make_courses, prepare_held, prepare_held_keys
from miao.training.evenness import as_loud, prepare_keys, with_even_keys
from miao.training.extras import ExtrasConfig, LearntRows, learn_rows, starting_drums
from miao.training.key_levels import heard_keys, make_key_levels, prepare_bands
from miao.training.openings import gathered_openings, prepare_openings
from miao.training.rises import WAVERING, gathered_rises, prepare_rises, replaced
from miao.training.sides import gathered_sides, prepare_sides
from miao.training.variations import teach_variations
from miao.training.wavers import STILL, gathered_wavers, prepare_wavers

Tell = Callable[[float], None]
Step = Callable[[str | Path, Path, Path, Tell], None]  # of a bank, a sound bank and the notes of it
_DONE_FILE = "finished.json"  # the steps that are done; an exported bank has none


def taught_keys(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write which keys of a bank's programs the sound bank has."""
    folder, programs, teacher = bank_folder(name), _programs(notes), SoundFont(font)
    found: list[range | None] = [None] * N_PROGRAMS
    for n, (voice, source) in enumerate(programs.items(), start=1):
        found[voice] = heard_keys(teacher, source)
        tell(n / len(programs))
    with changed(folder, TAUGHT_FILE) as path:
        TaughtKeys.of(found).save(path)


def key_spectra(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write what the keys of a bank's voices have more or less of than its nets say, drums and kits too."""
    folder = bank_folder(name)
    bank = Bank.load(folder)
    voices = sources(notes) | _own(notes, bank)
    for n, _ in enumerate(prepare_bands(font, notes, bank, voices), start=1):
        tell(n / len(voices))
    levels = make_key_levels(bank, notes)
    with changed(folder, KEYS_FILE) as path:
        levels.save(path)


def drums_by_ear(name: str | Path, font: Path, notes: Path, tell: Tell, config: EarConfig | None = None) -> None:
    """Write the corrections of a bank's drums, of its kits' too, that bring them nearer as they are heard."""
    folder = bank_folder(name)
    with changed(folder, DRUMS_FILE) as path:
        path.unlink(missing_ok=True)
    bank = Bank.load(folder)
    drums = {v: source for v, source in sources(notes).items() if source.is_drum} | _own(notes, bank)
    for n, _ in enumerate(prepare_ear(font, notes, bank, drums, config or EarConfig()), start=1):
        tell(n / len(drums))
    corrections = gathered(notes, drums)
    with changed(folder, DRUMS_FILE) as path:
        corrections.save(path)


def openings(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write how the notes of a bank's programs open, and how those of all its voices rise, where that brings them
    nearer."""
    folder = bank_folder(name)
    voices, programs = sources(notes), _programs(notes)
    bank = Bank.load(folder).with_wavers(None)
    for n, _ in enumerate(prepare_openings(font, notes, bank, programs), start=1):
        tell(0.4 * n / len(programs))
    with changed(folder, OPENINGS_FILE) as path:
        gathered_openings(notes, N_PROGRAMS).save(path)
    bank = _still(Bank.load(folder))
    for n, _ in enumerate(prepare_rises(font, notes, bank, voices), start=1):
        tell(0.4 + 0.6 * n / len(voices))
    with changed(folder, RISES_FILE) as path:
        gathered_rises(notes, N_VOICES).save(path)


def wavers(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write how held notes of a bank's programs waver, where that brings them nearer and no learnt voice plays them,
    and how those that do rise."""
    folder = bank_folder(name)
    others = {*STILL, *default_programs(folder)}
    programs = {voice: source for voice, source in _programs(notes).items() if voice not in others}
    still = _still(_plain(folder))
    for n, _ in enumerate(prepare_rises(font, notes, still, programs), start=1):  # most are there
        tell(0.2 * n / len(programs))
    still = still.with_openings(still.additions.openings, gathered_rises(notes, N_VOICES))
    for n, _ in enumerate(prepare_wavers(font, notes, still, programs), start=1):
        tell(0.2 + 0.4 * n / len(programs))
    with changed(folder, WAVERS_FILE) as path:
        gathered_wavers(notes, N_PROGRAMS).save(path)
    bank = still.with_wavers(_plain(folder).additions.wavers)
    wavers = bank.additions.wavers
    some = {voice: source for voice, source in programs.items() if wavers and wavers.has(voice)}
    for n, _ in enumerate(prepare_rises(font, notes / WAVERING, bank, some), start=1):
        tell(0.6 + 0.4 * n / len(some))
    rises = replaced(_plain(folder).additions.rises, gathered_rises(notes / WAVERING, N_VOICES, some))
    with changed(folder, RISES_FILE) as path:
        rises.save(path)


def sides(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write how far partials of a bank's programs are ahead on the right."""
    folder, programs = bank_folder(name), _programs(notes)
    for n, _ in enumerate(prepare_sides(font, notes, _plain(folder).table, programs), start=1):
        tell(n / len(programs))
    with changed(folder, SIDES_FILE) as path:
        gathered_sides(notes, N_PROGRAMS).save(path)


def even_keys(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Set the trims of a bank's programs by key."""
    folder, programs = bank_folder(name), _programs(notes)
    for n, _ in enumerate(prepare_keys(font, notes, programs), start=1):
        tell(n / len(programs))
    table = with_even_keys(_plain(folder), notes)
    with changed(folder, "voices.safetensors") as path:
        table.save(path)
    trims = table.trim_db.copy()
    for voice, change in as_loud(SoundFont(font), Bank.load(folder), sources(notes)):
        trims[voice] += change
    with changed(folder, "voices.safetensors") as path:
        replace(table, trim_db=trims).save(path)


def lasting_notes(name: str | Path, font: Path, notes: Path, tell: Tell) -> None:
    """Write the courses of a bank's held notes."""
    folder, voices = bank_folder(name), _programs(notes)
    bank = Bank.load(folder)
    for n, _ in enumerate(prepare_held(font, notes, bank.table, voices), start=1):
        tell(0.7 * n / len(voices))
    for n, _ in enumerate(prepare_held_keys(font, notes, voices), start=1):
        tell(0.7 + 0.3 * n / len(voices))
    courses = make_courses(bank, notes, {})
    with changed(folder, "courses.safetensors") as path:
        courses.save(path)


def more_voices(name: str | Path, notes: Path, tell: Tell, config: ExtrasConfig | None = None) -> None:
    """Learn the drums of kits whose notes are in a folder (`miao data soundfont`) and write them.

    Raises: DataError if the folder has none.
    """
    folder, extras = bank_folder(name), load_extras(notes)
    own = own_voices(extras)
    if not own:
        raise DataError(f"{notes}: no notes of kits; make them with `miao data soundfont`")
    bank, config = _plain(folder), config or ExtrasConfig()
    sets = _sets(notes, own)
    learnt = learn_rows(bank, sets, starting_drums(bank, sets), config, lambda n, _: tell(n / config.steps))
    table = load_table(notes, [e.voice for e in own])
    gather_voices(extras, own, replace(table, trim_db=learnt.trim_db), learnt, folder)


def gather_voices(extras: list[Extra], own: list[Extra], table: VoiceTable, learnt: LearntRows, folder: Path) -> None:
    """Write what was learnt of drums, and which keys of which kits they play, into a bank's folder."""
    assert learnt.attack is not None and learnt.sustain is not None
    shared = sorted({e.voice: e for e in extras if e.voice != e.row}.values(), key=lambda e: e.voice)
    shared = [e for e in shared if e.voice >= own[0].voice + len(own)]
    kits = Kits({(e.source.program, e.source.key): e.voice for e in extras if e.source.key is not None}, {})
    more = MoreVoices(
        kits, table, learnt.embeddings, learnt.attack, learnt.sustain, np.array([e.row for e in shared], np.int16),
        np.array([e.gain_db for e in shared], np.float32),
    )  # fmt: skip
    with changed(folder, KITS_FILE) as path:
        more.save(path)


def _kits(name: str | Path, _font: Path, notes: Path, tell: Tell) -> None:
    more_voices(name, notes, tell)


STEPS: dict[str, tuple[str, Step]] = {
    "kits": ("kits", _kits),
    "taught": ("keys that there are", taught_keys),
    "spectra": ("spectra of keys", key_spectra),
    "drums": ("drums by ear", drums_by_ear),
    "keys": ("even keys", even_keys),
    "openings": ("how notes open", openings),
    "wavers": ("how notes waver", wavers),
    "sides": ("sides of partials", sides),
    "lasting": ("notes that last", lasting_notes),
    "variations": ("variations", teach_variations),
}
"""All steps by name, in order: what each gives, and the function that does it."""


def left(name: str | Path, notes: Path) -> list[str]:
    """The steps that a bank still lacks; those of kits and variations only if there are notes of some.

    Raises: DataError if there are no notes at all.
    """
    sources(notes)
    over = set(_steps_done(bank_folder(name)))
    if not own_voices(load_extras(notes)):
        over.add("kits")
    if not load_variations(notes):
        over.add("variations")
    return [step for step in STEPS if step not in over]


def done(name: str | Path, step: str) -> None:
    """Write down in a bank's folder that a step is done."""
    folder = bank_folder(name)
    write_json(folder / _DONE_FILE, sorted({*_steps_done(folder), step}), BankError)


def _steps_done(folder: Path) -> list[str]:
    path = folder / _DONE_FILE
    found: list[str] = json.loads(path.read_text()) if path.is_file() else []
    return found


def sources(notes: Path) -> dict[int, Source]:
    """Where the voices of General MIDI come from whose notes are in a folder, by their numbers.

    Raises: DataError if there are none.
    """
    found = {voice: source_of(voice) for voice in range(N_VOICES) if any(notes.glob(f"voice_{voice:03d}.?.npz"))}
    if not found:
        raise DataError(f"{notes}: holds no notes; make them with `miao data soundfont FILE.sf2 -o {notes}`")
    return found


def _programs(notes: Path) -> dict[int, Source]:
    return {voice: source for voice, source in sources(notes).items() if not source.is_drum}


def _plain(folder: Path) -> Bank:
    """A bank's voices of General MIDI alone."""
    return Bank.load(folder, has_more=False)


def _still(bank: Bank) -> Bank:
    """A bank whose notes neither rise nor waver in their own ways."""
    return bank.with_wavers(None).with_openings(bank.additions.openings)


def _own(notes: Path, bank: Bank) -> dict[int, Source]:
    """The drums of a folder's kits that the bank has, by their numbers."""
    known = bank.kits.keys
    return {
        extra.voice: extra.source
        for extra in own_voices(load_extras(notes))
        if extra.source.key is not None and known.get((extra.source.program, extra.source.key)) == extra.voice
    }


def _sets(notes: Path, extras: list[Extra]) -> list[list[NoteData]]:
    voices = [e.voice for e in extras]
    every = load_notes(notes, set(voices))
    return [[note for note in every if note.voice == voice] for voice in voices]
