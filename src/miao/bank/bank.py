"""Banks: voices and the nets that play them, as folders that ONNX Runtime and the engine can use."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Floats, Integers, distinct
from miao.bank import tokens as tk
from miao.bank.additions import NOTHING_ADDED, Additions
from miao.bank.defaults import default_voices, keys_of, kits_with, lasts, program_of, release_pace
from miao.bank.drums import FILE as DRUMS_FILE
from miao.bank.drums import DrumCorrections, OwnCorrections
from miao.bank.folder import bank_folder, read_config
from miao.bank.key_levels import KeyLevels
from miao.bank.kits import GENERAL_MIDI, KITS_FILE, Kits, MoreVoices
from miao.bank.lasting import Courses
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import set_out
from miao.bank.nets import KIND_NAMES, Decoder, Nets, OnnxNets, Written
from miao.bank.openings import Openings
from miao.bank.rises import Rises
from miao.bank.sides import FILE as SIDES_FILE
from miao.bank.sides import Sides
from miao.bank.taught import FILE as TAUGHT_FILE
from miao.bank.taught import TaughtKeys
from miao.bank.variations import FILE as VARIATIONS_FILE
from miao.bank.variations import Variations
from miao.bank.voices import N_PROGRAMS, VoiceEmbeddings, VoiceTable, kit_rows
from miao.bank.wavers import Wavers
from miao.config import check_whole
from miao.errors import BankError

_OF_A_NOTE = ("pitch", "velocity", "index")


@dataclass(frozen=True, eq=False)
class Bank:
    """Voices and the nets that play them, from a folder: config.toml, tables in safetensors and ONNX graphs."""

    name: str
    folder: Path
    table: VoiceTable
    decode: Decoder
    encode: Callable[[Floats], Floats] | None  # [B, 5, T, N] -> context [B, L, D]; None if notes sound alike in any
    context_width: int
    embeddings: VoiceEmbeddings | None = None  # None where decode knows its voices by itself
    nets: Nets | None = None
    defaults: tuple[LearntVoice, ...] = ()  # that play in place of programs, behind all others of the bank
    added: tuple[str, ...] = ()  # names of voices behind those of the bank
    own_kits: frozenset[int] = frozenset()  # those of learnt voices that are drum kits
    paces: Mapping[int, float] = field(default_factory=dict)  # of learnt voices' releases; see `release_pace`
    courses: Courses | None = None  # of notes that are held for long; None where decode writes them to their end
    kits: Kits = GENERAL_MIDI  # which voice plays which note
    additions: Additions = NOTHING_ADDED  # to what nets write of its own voices
    sides: Sides | None = None  # of voices whose partials differ between the sides
    taught: TaughtKeys | None = None  # of all voices; None where decode plays any key by itself

    @staticmethod
    def load(
        name: str | Path = "gm", n_threads: int | None = None, *, has_more: bool = True,
        programs: Collection[int] | None = None,
    ) -> "Bank":  # fmt: skip
        """A bank by name, or from a folder; if not ``has_more`` only its voices of General MIDI, with their key levels.

        Whoever knows which ``programs`` 0..127 will be asked for saves what learnt voices of others take to load.

        Raises: BankError.
        """
        for program in programs or ():
            check_whole("program", program, 0, N_PROGRAMS - 1)
        bank = Bank._taught(name, n_threads, has_more=has_more)
        if not has_more:
            return bank
        if (bank.folder / VARIATIONS_FILE).is_file():
            bank = bank.with_variations(Variations.load(bank.folder / VARIATIONS_FILE))
        return bank.with_defaults(default_voices(bank.folder, programs))

    @staticmethod
    def _taught(name: str | Path, n_threads: int | None, *, has_more: bool) -> "Bank":
        """The bank's own nets and voices, with or without its kits. What it is made of is let go when more is added,
        as nothing else holds it."""
        folder = bank_folder(name)
        config = read_config(folder)
        embeddings = VoiceEmbeddings.load(folder / "embeddings.safetensors")
        width = embeddings.embeddings.shape[2]
        nets = OnnxNets(folder, width, config.context_width, config.uses_context, n_threads)
        table = VoiceTable.load(folder / "voices.safetensors")
        if len(table.kind) != len(embeddings.embeddings):
            raise BankError(f"{folder}: voices.safetensors has {len(table.kind)} voices, embeddings.safetensors "
                            f"{len(embeddings.embeddings)}")  # fmt: skip
        kits, drums, more = GENERAL_MIDI, None, folder / KITS_FILE
        if has_more and more.is_file():
            voices = MoreVoices.load(more)
            kits = voices.kits
            table, embeddings, drums = voices.added_to(table, embeddings)
        if has_more and (folder / DRUMS_FILE).is_file():
            drums = _with_own_drums(drums, folder / DRUMS_FILE, embeddings)
        additions = Additions.load(folder, embeddings, drums)
        path, rows = folder / TAUGHT_FILE, embeddings.rows()
        taught = (TaughtKeys.load(path) if path.is_file() else TaughtKeys.of([])).chosen(rows)
        decode = _decoder(nets, embeddings, taught, additions, ())
        context, sides = nets.encode if config.uses_context else None, folder / SIDES_FILE
        long = folder / "courses.safetensors"
        courses = Courses.load(long) if long.is_file() else Courses.none()
        return Bank(
            str(name), folder, table, decode, context, config.context_width, embeddings, nets,
            courses=courses, kits=kits, additions=additions,
            sides=Sides.load(sides).chosen(rows) if sides.is_file() else None, taught=taught,
        )  # fmt: skip

    def voice(self, program: int, pitch: int, *, is_drum: bool, bank: int = 0) -> int:
        """Voice number of a note, see `Kits.voice`."""
        return self.kits.voice(program, pitch, is_drum=is_drum, bank=bank)

    def repeats_from(self, voice: int) -> float:
        """The sustain chunk from which notes of a voice repeat themselves; infinite if nets write them to their end."""
        return float("inf") if self.courses is None else float(self.courses.starts_at(voice))

    def release_pace(self, voice: int) -> float:
        """How many times as long as nets write them the releases of a voice last."""
        return self.paces.get(voice, 1.0)

    def taught_pitch(self, voice: int, pitch: float) -> float:
        """The pitch nearest to one that a voice was taught."""
        return pitch if self.taught is None else float(self.taught.nearest(voice, np.asarray(pitch, np.float64)))

    def with_voices(self, voices: Sequence[LearntVoice]) -> "Bank":
        """The bank with learnt voices behind its own: the first has the number that the bank had voices.

        Raises: BankError if a voice was learnt for other nets.
        """
        if not voices:
            return self
        return replace(self._with(voices), added=tuple(voice.name for voice in voices))

    def with_variations(self, more: Variations) -> "Bank":
        """The bank with variations of its programs, behind all it has."""
        assert self.nets is not None and self.embeddings is not None and self.taught is not None
        assert not self.defaults and not self.added
        sizes = [len(self.table.kind), len(more.places)]
        embeddings = VoiceEmbeddings.joined([self.embeddings, more.embeddings])
        own, theirs = self.additions, Additions(None, more.keys, more.openings, more.rises, more.wavers)
        if own.wavers is not None and theirs.wavers is not None and not own.wavers.fits(theirs.wavers):
            raise BankError(f"{self.folder / VARIATIONS_FILE}: notes of variations waver for another time than others")
        additions, taught = own.joined(theirs, sizes), TaughtKeys.joined([self.taught, more.taught_keys])
        return replace(
            self,
            table=VoiceTable.joined([self.table, more.table]),
            decode=_decoder(self.nets, embeddings, taught, additions, ()),
            embeddings=embeddings,
            additions=additions,
            courses=None if self.courses is None else Courses.joined([self.courses, more.courses], sizes),
            kits=more.numbered(self.kits, sizes[0]),
            sides=Sides.joined([self.sides, more.sides], sizes),
            taught=taught,
        )

    def with_defaults(self, voices: Sequence[LearntVoice]) -> "Bank":
        """The bank with learnt voices in place of programs, which become variations (`bank.defaults`).

        Raises: BankError if a voice was learnt for other nets.
        """
        if not voices:
            return self
        assert not self.defaults
        programs, n_voices = [program_of(voice) for voice in voices], len(self.table.kind)
        kits = kits_with(self.kits, programs, n_voices)
        bank = self._with(voices)
        turned = [
            program if v.sides is None else n_voices + n
            for n, (program, v) in enumerate(zip(programs, voices, strict=True))
        ]
        sides = None if bank.sides is None else bank.sides.chosen(np.array([*range(n_voices), *turned]))
        return replace(bank, defaults=tuple(voices), kits=kits, sides=sides)

    def _with(self, voices: Sequence[LearntVoice]) -> "Bank":
        """The bank with learnt voices behind all it has."""
        if self.nets is None or self.embeddings is None or self.taught is None or self.added:
            raise BankError(f'bank "{self.name}" cannot be given voices')
        for voice in voices:
            voice.check(self.name, self.nets_checksum)
            if voice.embeddings.embeddings.shape[2] != self.embeddings.embeddings.shape[2]:
                raise BankError(f'voice "{voice.name}" has embeddings of another width than the bank {self.name}')
        embeddings = VoiceEmbeddings.joined([self.embeddings, *(voice.embeddings for voice in voices)])
        sizes = [self.embeddings.n_voices, *(1 for _ in voices)]
        keys = KeyLevels.joined([self.additions.key_levels, *(voice.key_levels for voice in voices)], sizes)
        additions = replace(self.additions, key_levels=keys)
        learnt, first = (*self.defaults, *voices), len(self.table.kind)
        played = TaughtKeys.of([keys_of(voice, self.taught) for voice in voices])
        taught = TaughtKeys.joined([self.taught, played])
        own = {first + n: voice.course for n, voice in enumerate(voices) if lasts(voice) or voice.course is not None}
        return replace(
            self,
            courses=None if self.courses is None else self.courses.with_own(own),
            table=VoiceTable.joined(
                [self.table, *(voice.table.as_loud_beyond(played.keys(n)) for n, voice in enumerate(voices))]
            ),
            decode=_decoder(self.nets, embeddings, taught, additions, learnt),
            embeddings=embeddings,
            additions=additions,
            paces={**self.paces} | {first + n: release_pace(voice) for n, voice in enumerate(voices)},
            taught=taught,
            sides=Sides.joined([self.sides, *(voice.sides for voice in voices)], sizes),
            own_kits=self.own_kits | {first + n for n, voice in enumerate(voices) if voice.kit is not None},
        )

    def with_key_levels(self, levels: KeyLevels | None) -> "Bank":
        """The bank with other key levels; with None its voices sound as its nets write them and nothing is added as
        notes open, nor while they are held."""
        if levels is None:
            return self._with_additions(Additions(self.additions.drums))
        return self._with_additions(replace(self.additions, key_levels=levels))

    def with_openings(self, openings: Openings | None, rises: Rises | None = None) -> "Bank":
        """The bank with other openings of notes and other rises, or none."""
        return self._with_additions(replace(self.additions, openings=openings, rises=rises))

    def with_wavers(self, wavers: Wavers | None) -> "Bank":
        """The bank with other wavers of held notes, or none."""
        return self._with_additions(replace(self.additions, wavers=wavers))

    def with_own_drums(self, own: OwnCorrections) -> "Bank":
        """The bank with other corrections of some drums."""
        assert self.embeddings is not None
        drums = self.additions.drums or DrumCorrections.none(self.embeddings.n_voices)
        return self._with_additions(replace(self.additions, drums=drums.replaced(own, self.embeddings.rows())))

    def _with_additions(self, additions: Additions) -> "Bank":
        assert self.nets is not None and self.embeddings is not None and self.taught is not None and not self.added
        decode = _decoder(self.nets, self.embeddings, self.taught, additions, self.defaults)
        return replace(self, decode=decode, additions=additions)

    @cached_property
    def nets_checksum(self) -> str:
        """SHA-256 over the nets alone, the first 12 digits: learnt voices fit the nets that they were learnt for."""
        return _checksum(self.folder / f"{name}.onnx" for name in KIND_NAMES)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the bank's files, the first 12 digits."""
        return _checksum(p for p in sorted(self.folder.glob("*")) if p.suffix in (".onnx", ".safetensors"))


def _checksum(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _with_own_drums(drums: DrumCorrections | None, path: Path, embeddings: VoiceEmbeddings) -> DrumCorrections:
    """Corrections with those of a file, which a voice that is another one at another loudness has, too."""
    own, n_voices = OwnCorrections.load(path), embeddings.n_voices
    if max(own.voice.tolist(), default=0) >= n_voices:
        raise BankError(f"{path}: names voices that are not there; there are {n_voices}")
    return (drums or DrumCorrections.none(n_voices)).replaced(own, embeddings.rows())


def _decoder(
    nets: Nets, embeddings: VoiceEmbeddings, taught: TaughtKeys, additions: Additions, learnt: Sequence[LearntVoice]
) -> Decoder:
    """The nets, told of the voices; the last voices are learnt ones and may have corrections and recorded notes."""
    first = embeddings.n_voices - len(learnt)

    def decode(kind: int, *, voice: Integers, **inputs: Any) -> Written:
        played = inputs["pitch"]
        inputs["pitch"] = taught.nearest(voice, played).astype(np.float32)
        inputs["embedding"], inputs["profile"] = embeddings.at(kind, voice, inputs["pitch"])
        if kind == tk.ATTACK:  # sets out from nothing
            inputs.pop("previous", None)
        reached = inputs["previous"] if kind == tk.RELEASE else None
        present = distinct(voice[voice >= first]) if learnt else ()
        # what was learnt of a voice beyond the bank's keys counts there, unless its keys were made even within them
        own_rows = [
            (own, rows, (played if own.gains is None else inputs["pitch"])[rows])
            for own, rows in ((learnt[n - first], np.flatnonzero(voice == n)) for n in present)
        ]
        for own, rows, pitch in own_rows:
            if own.kit is not None:
                told = own.kit.at(kind, pitch)
                for name, values in zip(("embedding", "profile"), told, strict=True):
                    inputs[name] = inputs[name].copy()
                    inputs[name][rows] = values
            if "previous" in inputs and any(part is not None for part in (own.shift, own.gains, own.waver)):
                inputs["previous"] = inputs["previous"].copy()
                inputs["previous"][rows] = _as_written(own, kind, _of_notes(inputs, rows, pitch))
        struck = voice
        for own, rows, pitch in own_rows:
            if own.kit is not None:  # its keys are these drums, too
                struck = np.array(struck)
                struck[rows] = N_PROGRAMS + kit_rows(pitch)
        if "previous" in inputs:
            inputs["previous"] = additions.taken_off(kind, inputs["previous"], voice, struck, inputs)
        levels, spread = nets.write(kind, inputs)
        levels = additions.added(kind, levels, voice, struck, inputs)
        for own, rows, pitch in own_rows:
            levels[rows] = _as_sounding(own, kind, levels[rows], _of_notes(inputs, rows, pitch))
        if reached is not None:  # what leads a learnt voice sets out from there by itself
            sets_out = np.asarray(inputs["index"]) == 0
            for own, rows, _ in own_rows:
                sets_out[rows] &= own.recorded is None and own.surface is None
            levels[sets_out] = set_out(levels[sets_out], reached[sets_out])
        return levels, spread

    return decode


def _of_notes(inputs: dict[str, Any], rows: Integers, pitch: Floats) -> dict[str, Any]:
    """What is known of some notes, which have these pitches."""
    known = (*_OF_A_NOTE, "age", "previous")
    return {name: inputs[name][rows] for name in known if name in inputs} | {"pitch": pitch}


def _as_sounding(voice: LearntVoice, kind: int, levels: Floats, inputs: dict[str, Any]) -> Floats:
    """Levels of chunks of a learnt voice, [B, a, C], with what it adds itself."""
    note = {name: inputs[name] for name in _OF_A_NOTE}
    if voice.correction is not None:
        levels = voice.correction.applied(kind, levels, **note)
    for lead in (voice.recorded, voice.surface):
        if lead is not None:
            levels = lead.led(kind, levels, **note, previous=inputs.get("previous"))
    if voice.shift is not None:  # moves what recorded notes lead, too, where a voice set out from such a one
        levels = voice.shift.added(kind, levels, **note, age=inputs["age"])
    if voice.waver is not None:
        levels = voice.waver.added(kind, levels, inputs["pitch"], inputs["age"])
    if voice.gains is not None:
        levels = voice.gains.added(levels, inputs["pitch"], inputs["velocity"])
    return levels


def _as_written(voice: LearntVoice, kind: int, inputs: dict[str, Any]) -> Floats:
    """The tokens before chunks of a learnt voice, [B, C], without what is added behind its nets."""
    previous: Floats = inputs["previous"]
    if voice.gains is not None:
        previous = voice.gains.taken_off(previous, inputs["pitch"], inputs["velocity"])
    if voice.waver is not None:
        previous = voice.waver.taken_off(kind, previous, *(inputs[name] for name in ("pitch", "index", "age")))
    if voice.shift is not None:
        note = {name: inputs[name] for name in _OF_A_NOTE}
        previous = voice.shift.taken_off(kind, previous, **note, age=inputs["age"])
    return previous
