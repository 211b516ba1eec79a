"""A learnt voice as the default of a program (`bank.defaults`): over the whole keyboard, even, as loud as the program.

A voice learnt from recordings knows the pitches and strengths that were recorded. Here it is made to play all of them:
beyond the outermost recorded pitches what was learnt fades within an octave, until the program as the teacher taught it
is left; and each key is as loud at each strength as `key_gains` says: even, and in balance with the other programs.

It is learnt from single notes (`learn_default`), or from music (`default_from_music`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Numbers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.defaults import PACES
from miao.bank.key_levels import KeyLevels
from miao.bank.lasting import CHUNK_SECONDS, FIRST_CHUNK, KNOT_SECONDS, OwnCourse, as_offsets
from miao.bank.learnt_voice import Correction, LearntVoice
from miao.bank.level_shift import LevelShift
from miao.bank.surface import FADE_SEMITONES
from miao.bank.voices import N_PITCHES, PITCH_NODES, SEMITONES_A_NODE, VoiceEmbeddings
from miao.bank.waver import Waver
from miao.datasets.notes import PITCHES
from miao.datasets.samples import Recording, note_hz
from miao.datasets.single_note import without_rumble, without_steady_rumble
from miao.datasets.voice_notes import voice_notes
from miao.midi.general_midi import program_name
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.balance import in_balance
from miao.training.brightness import as_bright
from miao.training.by_sound import surface_voice
from miao.training.common_tone import common_tone
from miao.training.courses import held_chunks
from miao.training.dampers import release_pace
from miao.training.key_gains import even_voice, played_db, recorded_dynamics, smooth
from miao.training.new_voice import held_out_pitches, loudness_gain, program_copy
from miao.training.sides import recorded_sides
from miao.training.surface import LEAST_FALL_DB, as_loud
from miao.training.wavering import wavering

_DYING_VELOCITY, _SMOOTH_NODES = 90.0, 1.5
_LET_GO = 0.1  # of the notes, at least, if they are to tell how strings that die away are damped
_MANY = 100  # notes, which can tell whether a surface that averages is nearer
_MOST_RAISED = 0.98  # quantile of all that is raised


@dataclass(frozen=True)
class Range:
    """The recorded pitches, lowest and highest."""

    low: int
    high: int

    def share(self, pitch: Numbers) -> Floats:
        """How much of what was learnt counts at pitches: 1 within the range, 0 beyond the fade."""
        beyond = np.maximum(self.low - np.asarray(pitch, np.float64), np.asarray(pitch, np.float64) - self.high)
        share: Floats = np.clip(1 - np.maximum(beyond, 0) / FADE_SEMITONES, 0, 1).astype(np.float32)
        return share


def over_the_keyboard(
    bank: Bank, voice: LearntVoice, program: int, recorded: Range, *, lasts: bool,
    dynamics: tuple[Integers, Doubles] | None = None, heard: Doubles | None = None,
) -> LearntVoice:  # fmt: skip
    """The voice as a default of a program; ``lasts`` says whether held notes are to stay as loud as they are, and
    ``dynamics`` how loud strokes are (`key_gains.recorded_dynamics`); without them as the program's. Registers are as
    ``heard`` (`key_gains.even_voice`), or as the program's.

    The voice must have partials of the program's kind. Raises: ValueError if not.
    """
    assert bank.embeddings is not None
    if int(voice.table.kind[0]) != int(bank.table.kind[program]):
        raise ValueError(f"{voice.name}: its partials are of another kind than those of program {program + 1}")
    node = recorded.share(np.arange(PITCH_NODES) * SEMITONES_A_NODE)[:, None]  # [nodes, 1]
    key = recorded.share(np.arange(N_PITCHES))
    old = bank.embeddings
    embeddings = VoiceEmbeddings(
        _mixed(node, voice.embeddings.embeddings, old.embeddings[program : program + 1]),
        _mixed(node, voice.embeddings.profiles, old.profiles[:, program : program + 1]),
    )
    correction = voice.correction
    if correction is not None:
        levels = tuple((node * level.astype(np.float32)).astype(np.float16) for level in correction.levels)
        correction = Correction(levels, correction.middle_velocity, correction.release_seconds)
    own, theirs = voice.table, bank.table
    table = replace(
        own,
        tune_cents=(key * own.tune_cents + (1 - key) * theirs.tune_cents[program]).astype(np.float32),
        stretch=(key * own.stretch + (1 - key) * theirs.stretch[program]).astype(np.float32),
        balance=np.rint(key[:, None] * own.balance + (1 - key)[:, None] * theirs.balance[program]).astype(np.int8),
        is_wide=np.where(key > 0.5, own.is_wide, theirs.is_wide[program]).astype(np.uint8),
        trim_db=np.zeros((1, N_PITCHES), np.float32),
    )
    # a shift was learnt on top of the program's key levels, notes were without them
    keys = _fading_keys(bank, program, key) if voice.shift is None else voice.key_levels
    spread = replace(voice, table=table, embeddings=embeddings, correction=correction, key_levels=keys)
    about = voice.about | {
        "program": str(program + 1), "lowest": str(recorded.low), "highest": str(recorded.high),
        "lasts": "yes" if lasts else "no",
    }  # fmt: skip
    even = even_voice(bank, replace(spread, about=about), program, dynamics, heard)
    return even if lasts or even.course is not None else replace(even, course=dying_course(bank, even))


def dying_course(bank: Bank, voice: LearntVoice) -> OwnCourse:
    """The course of a voice whose notes die away: beyond what was learnt each cell falls on as fast as it fell
    before, smooth over pitches, and by 1.5 dB a second at least."""
    pitches = np.clip(SEMITONES_A_NODE * np.arange(PITCH_NODES), PITCHES[0], PITCHES[-1])
    chunks = held_chunks(bank.with_voices([voice]), len(bank.table.kind), pitches, _DYING_VELOCITY, FIRST_CHUNK)
    before, after = (chunks[n].mean(axis=1) for n in (FIRST_CHUNK - 2, FIRST_CHUNK))  # [nodes, C]
    falls = (after - before) / 2 / CHUNK_SECONDS  # levels a second
    falls = np.stack([smooth(cell, _SMOOTH_NODES) for cell in falls.T], axis=1)
    falls = np.minimum(falls, -LEAST_FALL_DB / tk.LEVEL_STEP_DB)
    falls[:, tk.PITCH_CELL] = 0
    since = np.maximum(KNOT_SECONDS - tk.ATTACK_SECONDS - (FIRST_CHUNK - 0.5) * CHUNK_SECONDS, 0)
    return OwnCourse(as_offsets(falls[:, None] * since[None, :, None]))


def cut_below(recordings: Sequence[Recording], *, lasts: bool) -> list[Recording]:
    """Recordings without what lies below their notes, which would be learnt as the instrument's: where notes last all
    of it, else what stays as loud while they die away, if most of them have such a rumble."""
    if lasts:
        return [replace(r, sound=without_rumble(r.sound, note_hz(r))) for r in recordings]
    cut = [without_steady_rumble(r.sound, note_hz(r), r.hold_seconds) for r in recordings]
    is_cut = [sound is not r.sound for sound, r in zip(cut, recordings, strict=True)]
    if np.mean(is_cut) < 0.5:
        return list(recordings)
    return [replace(r, sound=sound) for sound, r in zip(cut, recordings, strict=True)]


def _ringing(recordings: list[Recording]) -> list[Recording]:
    """Of strings few of which were let go none were: those beat, and are held to their ends as the others are."""
    if np.mean([r.is_released for r in recordings]) >= _LET_GO:
        return recordings
    return [replace(r, is_released=False, hold_seconds=r.sound.shape[1] / SAMPLE_RATE) for r in recordings]


def _mixed(share: Floats, learnt: NDArray[np.float16], program: NDArray[np.float16]) -> NDArray[np.float16]:
    """Node tables [..., nodes, W], learnt ones as far as they count."""
    mixed = share * learnt.astype(np.float32) + (1 - share) * program.astype(np.float32)
    return mixed.astype(np.float16)


def _fading_keys(bank: Bank, program: int, share: Floats) -> KeyLevels | None:
    """The program's key levels as far as it leads; None if it leads nowhere."""
    keys = None if bank.additions.key_levels is None else bank.additions.key_levels.alone(program)
    if keys is None:
        return None
    pitches = int(keys.lowest[0]) + np.arange(len(keys.levels))
    levels = np.rint(keys.levels * (1 - share[pitches])[:, None, None]).astype(np.int8)
    return replace(keys, levels=levels) if levels.any() else None


def learn_default(
    bank: Bank, recordings: Sequence[Recording], program: int, about: dict[str, str], *, lasts: bool,
    wavers: bool = False, release_seconds: float | None = None, holds_out: bool = True, keeps_tuning: bool = False,
    own_sides: bool = True,
) -> LearntVoice:  # fmt: skip
    """A default voice of a program from recordings, of which every fifth pitch is left to measure it by, or from all.

    Its recorded notes lead it by what they have in common (`training.surface`); the nets are told of the program. It is
    in tune, whatever its players were, unless it ``keeps_tuning``, as a piano's tuner stretches it. Its partials have
    phases of their ``own_sides``, or the program's. If held notes are to waver, that is measured on some of them
    (`training.wavering`). How notes end is the program's, but if they are known to fall by 60 dB in ``release_seconds``
    they take as long. Raises: BankError, ValueError.
    """
    assert bank.embeddings is not None
    held_out = held_out_pitches([r.pitch for r in recordings]) if holds_out else set()
    some = sorted((r for r in recordings if r.pitch not in held_out), key=lambda r: (r.pitch, r.velocity))
    some = some if lasts else _ringing(some)
    dynamics = recorded_dynamics(some)
    gain = np.float32(10 ** (loudness_gain(bank, some, program) / 20))
    some = [replace(r, sound=r.sound * gain) for r in some]
    some = cut_below(some, lasts=lasts)
    data = voice_notes(some, int(bank.table.kind[program]))
    about = about | {
        "bank": bank.name, "nets": bank.nets_checksum, "n_notes": str(len(some)),
        "set_out_from": f"program {program + 1}, {program_name(program, False)}",
    }  # fmt: skip
    own = slice(program, program + 1)
    embeddings = VoiceEmbeddings(bank.embeddings.embeddings[own], bank.embeddings.profiles[:, own])
    table = data.table()
    table = table if keeps_tuning else replace(table, tune_cents=np.zeros_like(table.tune_cents))
    voice = LearntVoice(table, embeddings, None, about)
    voice = surface_voice(bank, voice, data, some, program, lasts=lasts, tries_averages=len(some) > _MANY)
    voice = as_bright(bank, voice, data, some)
    assert voice.surface is not None
    heard = played_db(bank.with_voices([voice]), len(bank.table.kind))
    voice = replace(voice, surface=as_loud(voice.table, voice.surface))
    pitches = [r.pitch for r in some]
    recorded = Range(min(pitches), max(pitches))
    voice = over_the_keyboard(bank, voice, program, recorded, lasts=lasts, dynamics=dynamics, heard=heard)
    if release_seconds is not None:
        pace = release_pace(bank, program, release_seconds, np.arange(recorded.low, recorded.high + 1))
        voice = replace(voice, about=voice.about | {"release": f"{np.clip(pace, *PACES):.2f}"})
    voice = replace(voice, sides=recorded_sides(some, data.fits)) if own_sides else voice
    return in_balance(bank, wavering(bank, voice, some) if wavers else voice, program)


def default_from_music(
    bank: Bank, shift: LevelShift, program: int, recorded: Range, lengths: Reals, about: dict[str, str],
    waver: Waver | None = None,
) -> LearntVoice:  # fmt: skip
    """A default voice of a program that lasts, from what music says of its levels (`training.music_voice`).

    The program leads, with the tone that all notes have in common (`training.common_tone`) within the pitches that were
    played; ``lengths`` are those of the notes, seconds. How notes begin, go on and end stays the program's; how they
    waver is what ``waver`` says. Strokes rise as the program's. Raises: BankError, ValueError.
    """
    about = about | {
        "bank": bank.name, "nets": bank.nets_checksum,
        "set_out_from": f"program {program + 1}, {program_name(program, False)}",
    }  # fmt: skip
    nodes = np.arange(PITCH_NODES) * SEMITONES_A_NODE
    tone = common_tone(shift, bank.table, program, lengths, (nodes >= recorded.low) & (nodes <= recorded.high))
    voice = replace(program_copy(bank, program, 0.0, about), shift=_within(tone, recorded), waver=waver)
    return in_balance(bank, over_the_keyboard(bank, voice, program, recorded, lasts=True), program)


def _within(shift: LevelShift, recorded: Range) -> LevelShift:
    """A shift of no single keys that fades beyond the pitches."""
    held = shift.held.astype(np.float32)
    share = recorded.share(np.arange(held.shape[2]) * SEMITONES_A_NODE)
    # levels end at the top of their scale: what is raised most stays where it was, how loud keys are is set elsewhere
    held[:, 0] -= max(float(np.quantile(held[:, 0, share == 1], _MOST_RAISED)), 0.0)
    return replace(shift, held=(held * share[:, None]).astype(np.float16))
