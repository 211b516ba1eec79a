"""Learnt voices that a bank plays by default in place of programs, as files in its folder.

What the bank's nets were taught of such a program stays beside it, as its variation 1 (bank select MSB 1).
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.arrays import Records
from miao.bank.arrays import read_arrays
from miao.bank.kits import GENERAL_MIDI, KITS_FILE, Kits, MoreVoices
from miao.bank.learnt_voice import LearntVoice
from miao.bank.taught import TaughtKeys
from miao.bank.variations import FILE as VARIATIONS_FILE
from miao.bank.variations import Variations
from miao.bank.voices import LEARNT_PITCHES, N_PROGRAMS, N_VOICES
from miao.errors import BankError

PACES = 0.25, 4.0  # of releases
AS_TAUGHT = 1  # the variation that a program becomes when a learnt voice takes its place
_FILES = "default_???.safetensors"


def default_path(folder: Path, program: int) -> Path:
    """Where the learnt voice of a program 0..127 is, if there is one."""
    return folder / _FILES.replace("???", f"{program + 1:03d}")


def default_voices(folder: Path, programs: Collection[int] | None = None) -> list[LearntVoice]:
    """The learnt voices in a bank's folder, of all or of some programs 0..127. Raises: BankError if one is damaged or
    says no program."""
    paths = sorted(folder.glob(_FILES))
    if programs is not None:
        paths = [path for path in paths if path in {default_path(folder, program) for program in programs}]
    voices = {path: LearntVoice.load(path) for path in paths}
    for path, voice in voices.items():
        _program(path, voice.about)
    return list(voices.values())


def program_of(voice: LearntVoice) -> int:
    """The program 0..127 in whose place a learnt voice plays."""
    return int(voice.about["program"]) - 1


def lasts(voice: LearntVoice) -> bool:
    """Whether held notes of a learnt voice stay as loud as they are."""
    return voice.about.get("lasts") == "yes"


def release_pace(voice: LearntVoice) -> float:
    """How many times as long as its nets write them the releases of a learnt voice last."""
    said = voice.about.get("release", "1")
    pace = float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else 0.0
    if not PACES[0] <= pace <= PACES[1]:
        raise BankError(f'voice "{voice.name}": its release is "{said}"; it must be {PACES[0]:g} to {PACES[1]:g}')
    return pace


def keys_of(voice: LearntVoice, taught: TaughtKeys) -> range | None:
    """The keys that nets were taught of a learnt voice's program, and those that were recorded of it; None, all keys,
    where it is no program's."""
    if not {"program", "lowest", "highest"} <= voice.about.keys():
        return None
    own = taught.keys(program_of(voice))
    lowest, highest = min(own[0], int(voice.about["lowest"])), max(own[-1], int(voice.about["highest"]))
    return range(max(lowest, LEARNT_PITCHES[0]), min(highest, LEARNT_PITCHES[-1]) + 1)


def default_programs(folder: Path) -> list[int]:
    """The programs 0..127 that learnt voices of a bank's folder play. Raises: BankError."""
    return [_program(path, read_arrays(path)[1]) for path in sorted(folder.glob(_FILES))]


def kits_with(kits: Kits, programs: Iterable[int], first: int) -> Kits:
    """Kits and variations with learnt voices, numbered from ``first`` on, in the place of programs."""
    places = {(0, program): first + n for n, program in enumerate(programs)}
    taught = {(AS_TAUGHT, program): program for _, program in places}
    return replace(kits, programs=kits.programs | places | taught)


def kits_of(folder: Path) -> Kits:
    """The kits and variations of the bank in a folder, without its nets. Raises: BankError."""
    kits = MoreVoices.load(folder / KITS_FILE).kits if (folder / KITS_FILE).is_file() else GENERAL_MIDI
    if (folder / VARIATIONS_FILE).is_file():
        kits = Variations.load(folder / VARIATIONS_FILE).numbered(kits, N_VOICES)
    return kits_with(kits, default_programs(folder), N_VOICES)  # which voices they are nobody asks here


def learnt_programs(kits: Kits, notes: Records) -> list[int]:
    """The programs 0..127 of a score's notes that learnt voices play by default, where `kits_of` gave the kits."""
    played = np.unique(notes[["program", "bank"]][~notes["is_drum"]])
    found = {int(n["program"]) for n in played if (learnt := kits.programs.get((0, int(n["program"])))) is not None
             and kits.voice(int(n["program"]), 60, is_drum=False, bank=int(n["bank"])) == learnt}  # fmt: skip
    return sorted(found)


def _program(path: Path, about: dict[str, str]) -> int:
    said = about.get("program", "")
    if not said.isdecimal() or not 1 <= int(said) <= N_PROGRAMS:
        raise BankError(f'{path}: its program is "{said}"; it must be 1 to {N_PROGRAMS}')
    return int(said) - 1
