"""From recordings to a finished voice: what to set out from, how loud, learning, and what the result is worth.

Worth is measured on notes of pitches that were held out (every fifth one), as log-mel error against the recordings,
beside the voice of the bank that the new one set out from, beside a plain sampler that has the same notes, and beside
the same notes encoded. Four voices are compared so: the one learnt; the same, led by the measured notes
themselves (`bank.recorded_notes`), which is closer where recordings are dense; one led by what these notes have
in common (`bank.surface`), which is closer where neighbours differ; and the program set out from, at its best gain.
The closest of them is kept, so that no voice is worse than where it began. Unless told to keep held-out notes, it then
learns from all notes; or, where there are many, from as many as say it, drawn evenly over pitches and strengths.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import Floats
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.recorded_notes import RecordedNotes
from miao.bank.voices import HARMONIC, MODES, N_PITCHES, N_PROGRAMS, VoiceEmbeddings, VoiceTable
from miao.datasets.samples import Recording
from miao.datasets.voice_notes import VoiceNotes, choose_kind, voice_notes
from miao.measuring.roundtrip import encoded_bank
from miao.midi.general_midi import program_name
from miao.sound import spectrum
from miao.sound.audio import Audio
from miao.sound.loudness import energy_db
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.brightness import as_bright
from miao.training.by_sound import left_out_error, played, surface_voice
from miao.training.learn import LearnConfig, learn

HELD_OUT_EVERY, HELD_OUT_FROM = 5, 2  # of the pitches, lowest first
GAINS_DB = np.arange(-12, 12.5, 0.5)  # among which the old voice is given its best
_MOST_TRIM_DB = 9.0
_LISTEN_SECONDS = 2.5
_ALIKE_SECONDS, _ASKED_TWICE = 1.5, 32  # of notes, by which the program most alike is found, and programs
LEARNT, LED, PROGRAM = "learnt", "led by the recorded notes", "the program it set out from"
COMMON = "led by what the recorded notes have in common"
MOST_RECORDED = 128  # notes in a voice's file, 20 to 30 kB each
MOST_LEARNT = 128  # notes that a voice is learnt from: more of them are nearer by less than 0.03 dB
_MOST_ASKED = 48  # notes, whether partials are modes
SLOPE_VELOCITIES = (48, 112)
_SETTLED_SECONDS, _DYING_DB = 0.3, 3.0
_SAMPLER_RELEASE_SECONDS = 0.3  # in which a sampler lets a note fall by 60 dB


@dataclass(frozen=True)
class Scores:
    """Mean log-mel errors (dB) of held-out notes against the recordings."""

    n_notes: int  # held out
    before: float  # the voice of the bank that the new one set out from, at the loudness all recordings were set to
    before_aligned: float  # the same with the constant gain that suits it best
    before_gain_db: float  # that gain
    after: float  # the voice that is kept, as it is
    learnt: float  # what the nets were taught, without recorded notes
    led: float  # the same, led by them
    common: float  # led by what they have in common
    sampler: float  # the nearest of the notes learnt from, played faster or slower
    encoded: float  # the recordings measured into tokens and played back: as good as tokens can be


@dataclass(frozen=True)
class NewVoice:
    """What `new_voice` made."""

    voice: LearntVoice
    start: int  # the program it set out from
    scores: Scores | None  # None where there were too few pitches to hold any out
    kept: str  # which of LEARNT, LED, COMMON and PROGRAM the voice is
    seconds: float
    listening: dict[str, Audio]  # held-out notes: recorded, before, after


def held_out_pitches(pitches: Sequence[int]) -> set[int]:
    """Every fifth of the pitches that there are, from the third lowest on; none if there are fewer than five."""
    known = sorted(set(pitches))
    return set(known[HELD_OUT_FROM::HELD_OUT_EVERY]) if len(known) >= HELD_OUT_EVERY else set()


def closest_program(bank: Bank, recordings: Sequence[Recording]) -> int:
    """The program of the bank that sounds most like some of the recordings, all set to the same energy."""
    chosen = sorted(recordings, key=lambda r: (r.pitch, r.velocity))
    chosen = [chosen[int(share * len(chosen))] for share in (0.1, 0.35, 0.6, 0.85)]
    n = int(_ALIKE_SECONDS * SAMPLE_RATE)
    chosen = [replace(r, sound=r.sound[:, :n], hold_seconds=min(r.hold_seconds, _ALIKE_SECONDS)) for r in chosen]
    errors, programs = np.zeros(N_PROGRAMS), np.arange(N_PROGRAMS)
    for some in (chosen[1:3], chosen[::3]):  # two notes tell which are worth two more
        for program in programs.tolist():
            for recording in some:
                sound = played(bank, recording, program)[:, : recording.sound.shape[1]]
                mel = spectrum.log_mel(sound) + energy_db(recording.sound) - energy_db(sound)
                errors[program] += spectrum.log_mel_error(recording.mel, mel) / len(chosen)
        programs = programs[np.argsort(errors[programs], kind="stable")[:_ASKED_TWICE]]
    return int(programs[0])


def drawn(recordings: Sequence[Recording], most: int) -> list[int]:
    """Which of some recordings are learnt from if there are more than so many: one of each pitch and strength, then a
    second one; evenly over pitches and strengths where not all of a round have room."""
    order = sorted(range(len(recordings)), key=lambda i: (recordings[i].pitch, recordings[i].velocity))
    taken: Counter[tuple[int, int]] = Counter()
    rounds: dict[int, list[int]] = {}
    for i in order:
        key = recordings[i].pitch, recordings[i].velocity
        rounds.setdefault(taken[key], []).append(i)
        taken[key] += 1
    chosen: list[int] = []
    for among in rounds.values():
        n = min(len(among), most - len(chosen))
        chosen += [among[int(k)] for k in np.linspace(0, len(among) - 1, n).round()]
    return sorted(chosen)


def loudness_gain(bank: Bank, recordings: Sequence[Recording], program: int) -> float:
    """The gain (dB) that makes recordings as loud as a program of the bank, median over up to 24 notes. One for all:
    how much louder some notes are than others belongs to the voice."""
    some = recordings[:: max(len(recordings) // 24, 1)]
    return float(np.median([energy_db(played(bank, r, program)) - energy_db(r.sound) for r in some]))


def new_voice(
    bank: Bank,
    recordings: Sequence[Recording],
    name: str,
    about: dict[str, str],
    *,
    like: int | None = None,
    keep_held_out: bool = False,
    config: LearnConfig | None = None,
    tell: Callable[[float], None] = lambda done: None,
) -> NewVoice:
    """Learn a voice from recordings. ``like`` is the program to set out from; by default the one most alike.

    Raises: BankError if voices cannot be learnt for the bank.
    """
    began, config = time.perf_counter(), config or LearnConfig()
    start = closest_program(bank, recordings) if like is None else like
    gain = np.float32(10 ** (loudness_gain(bank, recordings, start) / 20))
    recordings = [replace(r, sound=r.sound * gain) for r in recordings]
    held_out = held_out_pitches([r.pitch for r in recordings])
    judges = [r for r in recordings if r.pitch in held_out]
    others = [r for r in recordings if r.pitch not in held_out]
    recordings = [others[i] for i in drawn(others, MOST_LEARNT)]
    train = list(range(len(recordings)))
    recordings += [judges[i] for i in drawn(judges, MOST_LEARNT // (HELD_OUT_EVERY - 1))]
    everything = list(range(len(recordings)))
    data = _measured(bank, recordings, train, start)
    tell(0.2)
    scores, listening, kept = None, {}, LEARNT
    about = about | {"name": name, "bank": bank.name, "nets": bank.nets_checksum}
    about["set_out_from"] = f"program {start + 1}, {program_name(start, False)}"
    about["n_notes"] = str(len(train if keep_held_out else everything))
    voice = _learnt(bank, recordings, data, train, start, config, about, lambda d: tell(0.2 + 0.6 * d))
    if judges:
        led = _led(bank, recordings, data, train, start, voice)
        common = _common(bank, recordings, data, train, start, voice)
        tests = data.chosen(everything[len(train) :])
        scores = _scores(bank, (voice, led, common), judges, recordings[len(train) :], tests, start, others)
        kept = min((scores.learnt, LEARNT), (scores.led, LED), (scores.common, COMMON),
                   (scores.before_aligned, PROGRAM))[1]  # fmt: skip
        voices = {LEARNT: voice, LED: led, COMMON: common,
                  PROGRAM: program_copy(bank, start, scores.before_gain_db, about)}  # fmt: skip
        listening = _listening(bank, bank.with_voices([voices[kept]]), judges, start)
        about |= {"held_out_before_db": f"{scores.before_aligned:.2f}", "held_out_db": f"{scores.after:.2f}",
                  "held_out_encoded_db": f"{scores.encoded:.2f}", "n_held_out": str(scores.n_notes),
                  "held_out_sampler_db": f"{scores.sampler:.2f}"}  # fmt: skip
        if keep_held_out or kept == PROGRAM:
            voice = voices[kept]
        elif kept == LEARNT:
            voice = _learnt(bank, recordings, data, everything, start, config, about, lambda d: tell(0.8 + 0.2 * d))
        else:  # notes lead; what nets were told counts where there are none
            table = data.chosen(everything).table()
            voice = (_led if kept == LED else _common)(
                bank, recordings, data, everything, start, replace(voice, table=table)
            )
    tell(1.0)
    voice = replace(voice, about=about | {"kept": kept})
    return NewVoice(voice, start, scores, kept, time.perf_counter() - began, listening)


def _measured(bank: Bank, recordings: Sequence[Recording], train: list[int], start: int) -> VoiceNotes:
    """Recordings measured under the kind of partial ratios that suits them. Of notes that die away partials lie apart
    by a little and lose each other's names, so that a round trip does not tell: pitches left out, of those that are
    learnt from, say whether they are modes."""
    assert bank.embeddings is not None
    learnt = [recordings[i] for i in train]
    which = drawn(learnt, _MOST_ASKED)
    asked = [learnt[i] for i in which]
    some = voice_notes(asked, choose_kind(recordings))
    if not _lasts(some):
        rival = voice_notes(asked, HARMONIC if some.kind == MODES else MODES)
        own, errors = slice(start, start + 1), []
        embeddings = VoiceEmbeddings(bank.embeddings.embeddings[own], bank.embeddings.profiles[:, own])
        about = {"name": "left out", "bank": bank.name, "nets": bank.nets_checksum}
        for one in (some, rival):
            voice = LearntVoice(one.table(), embeddings, None, about)
            errors.append(left_out_error(bank, voice, one, asked, start, lasts=False))
        some = rival if errors[1] < errors[0] else some
    if some.kind == MODES:  # which all notes have in common
        return voice_notes(recordings, MODES)
    left = [i for i in range(len(recordings)) if i not in {train[k] for k in which}]
    more = voice_notes([recordings[i] for i in left], some.kind)
    places = np.argsort([*(train[k] for k in which), *left]).tolist()
    return VoiceNotes(
        some.notes + more.notes, some.is_released + more.is_released, some.fits + more.fits, some.kind
    ).chosen(places)


def program_copy(bank: Bank, program: int, gain_db: float, about: dict[str, str]) -> LearntVoice:
    """A program of the bank as a voice of its own, louder by a gain; how its notes open (`bank.openings`) is left to
    the program, as what is learnt has a beginning of its own."""
    assert bank.embeddings is not None
    own = slice(program, program + 1)
    fields = {name: getattr(bank.table, name)[own] for name in VoiceTable.__dataclass_fields__ if name != "modes"}
    row = int(bank.table.mode_row[program])
    modes = bank.table.modes[row : row + 1] if row >= 0 else bank.table.modes[:0]
    fields |= {"mode_row": np.array([0 if row >= 0 else -1], np.int16), "modes": modes,
               "trim_db": fields["trim_db"] + np.float32(gain_db)}  # fmt: skip
    embeddings = VoiceEmbeddings(bank.embeddings.embeddings[own], bank.embeddings.profiles[:, own])
    keys = None if bank.additions.key_levels is None else bank.additions.key_levels.alone(program)
    return LearntVoice(VoiceTable(**fields), embeddings, None, about, key_levels=keys)


def _learnt(bank: Bank, recordings: Sequence[Recording], data: VoiceNotes, which: list[int], start: int,
            config: LearnConfig, about: dict[str, str], tell: Callable[[float], None]) -> LearntVoice:  # fmt: skip
    """A voice from some of the notes, its trim set so that half of them come out louder than they were recorded."""
    chosen = data.chosen(which)
    voice = LearntVoice(chosen.table(), *learn(bank, chosen, start, config, tell), about)
    return _trimmed(bank, voice, [recordings[i] for i in which])


def _led(bank: Bank, recordings: Sequence[Recording], data: VoiceNotes, which: list[int], start: int,
         voice: LearntVoice) -> LearntVoice:  # fmt: skip
    """The voice, led by some of the notes as they were measured; at strengths that were not recorded as much louder or
    softer as the program set out from."""
    some = [which[i] for i in drawn([recordings[i] for i in which], MOST_RECORDED)]
    middle = recordings[some[len(some) // 2]]
    soft, loud = (energy_db(played(bank, replace(middle, velocity=v), start)) for v in SLOPE_VELOCITIES)
    slope = (loud - soft) / tk.LEVEL_STEP_DB / (np.ptp(SLOPE_VELOCITIES) / 127)
    notes = [data.notes[i] for i in some]
    recorded = RecordedNotes.of(
        [n.pitch for n in notes], [n.velocity for n in notes], [n.tokens for n in notes],
        [data.is_released[i] for i in some], float(slope),
    )  # fmt: skip
    return _trimmed(bank, replace(voice, recorded=recorded), [recordings[i] for i in which])


def _common(bank: Bank, recordings: Sequence[Recording], data: VoiceNotes, which: list[int], start: int,
            voice: LearntVoice) -> LearntVoice:  # fmt: skip
    """A voice led by what some of the notes have in common. Where they say nothing, of how notes end or beyond the
    recorded keys, it plays as the program does that it set out from, or, if that has partials of another kind, as
    ``voice`` does."""
    chosen = data.chosen(which)
    if chosen.kind == int(bank.table.kind[start]):
        voice = replace(program_copy(bank, start, 0.0, voice.about), table=chosen.table(), key_levels=None)
    some = [recordings[i] for i in which]
    voice = surface_voice(bank, voice, chosen, some, start, lasts=_lasts(chosen))
    return _trimmed(bank, as_bright(bank, voice, chosen, some), some)


def _lasts(data: VoiceNotes) -> bool:
    """Whether notes stay as loud as they are while they are held: half of them lose less than 3 dB a second from 0.3 s
    on. Notes that were let go before 0.6 s say nothing of it; if all were, they do not last."""
    falls = []
    for note in data.notes:
        times = tk.held_times(len(note.tokens.held))
        inside = (times > _SETTLED_SECONDS) & (times < note.tokens.hold_seconds - 1e-6)
        if times[inside].size and np.ptp(times[inside]) > _SETTLED_SECONDS:
            cells = note.tokens.held.reshape(-1, tk.N_CELLS)[: len(times)][inside, : tk.PITCH_CELL]
            loud = 10 * np.log10(np.square(tk.level_to_amplitude(cells.astype(np.float32))).sum(axis=1) + 1e-14)
            falls.append(-np.polyfit(times[inside], loud, 1)[0])
    return bool(falls) and float(np.median(falls)) < _DYING_DB


def _trimmed(bank: Bank, voice: LearntVoice, recordings: Sequence[Recording]) -> LearntVoice:
    voice = replace(voice, table=replace(voice.table, trim_db=np.zeros(1, np.float32)))
    player, some = bank.with_voices([voice]), recordings[:: max(len(recordings) // 24, 1)]
    trim = np.median([energy_db(r.sound) - energy_db(played(player, r, len(bank.table.kind))) for r in some])
    trim_db = np.array([np.clip(trim, -_MOST_TRIM_DB, _MOST_TRIM_DB)], np.float32)
    return replace(voice, table=replace(voice.table, trim_db=trim_db))


def bank_errors(bank: Bank, recordings: Sequence[Recording], program: int) -> tuple[float, float, float]:
    """Mean log-mel error (dB) of notes as a program of the bank plays them: as it is, with the constant gain that suits
    it best, and that gain."""
    errors = []
    for recording in recordings:
        mel = spectrum.log_mel(played(bank, recording, program))
        errors.append([spectrum.log_mel_error(recording.mel, mel + gain) for gain in GAINS_DB])
    by_gain = np.mean(errors, axis=0)
    best, plain = int(by_gain.argmin()), int(np.abs(GAINS_DB).argmin())
    return float(by_gain[plain]), float(by_gain[best]), float(GAINS_DB[best])


def sampled(notes: Sequence[Recording], wanted: Recording) -> Floats:
    """A note as a plain sampler has it: the nearest by pitch, then by velocity, played faster or slower, let go as it
    was recorded or when it is to be: [channels, S]."""
    nearest = min(notes, key=lambda r: (abs(r.pitch - wanted.pitch), abs(r.velocity - wanted.velocity)))
    ratio = 2 ** ((wanted.pitch - nearest.pitch) / 12)
    places = np.arange(int(nearest.sound.shape[1] / ratio)) * ratio
    sound = np.stack([np.interp(places, np.arange(nearest.sound.shape[1]), row) for row in nearest.sound])
    if nearest.is_released and nearest.hold_seconds / ratio <= wanted.hold_seconds:
        return sound.astype(np.float32)
    since = np.arange(sound.shape[1]) / SAMPLE_RATE - wanted.hold_seconds
    fall = 10 ** (-60 / _SAMPLER_RELEASE_SECONDS / 20 * np.maximum(since, 0)) if wanted.is_released else 1.0
    return (sound * fall).astype(np.float32)[:, : wanted.sound.shape[1]]


def _scores(before: Bank, voices: Sequence[LearntVoice], recordings: list[Recording], measured: list[Recording],
            data: VoiceNotes, start: int, known: Sequence[Recording]) -> Scores:  # fmt: skip
    """All errors of held-out notes; the voices are that learnt, led by notes and by what they have in common. Some of
    the notes were ``measured`` (``data``); a sampler has all that are not held out (``known``)."""
    new: list[list[float]] = [[] for _ in voices]
    players = [before.with_voices([voice]) for voice in voices]
    ceiling, plain = [], []
    for recording in recordings:
        for errors, player in zip(new, players, strict=True):
            sound = played(player, recording, len(before.table.kind))
            errors.append(spectrum.log_mel_error(recording.mel, spectrum.log_mel(sound)))
        plain.append(spectrum.log_mel_error(recording.mel, spectrum.log_mel(sampled(known, recording))))
    for i, recording in enumerate(measured):
        one = data.chosen([i])
        table = replace(one.table(), tune_cents=np.full((1, N_PITCHES), one.fits[0].tune_cents, np.float32))
        encoded = played(encoded_bank(one.notes[0].tokens, table), recording, 0)
        ceiling.append(spectrum.log_mel_error(recording.mel, spectrum.log_mel(encoded)))
    old = bank_errors(before, recordings, start)
    taught, following, common = (float(np.mean(errors)) for errors in new)
    best = min(taught, following, common, old[1])
    plainly, encoding = float(np.mean(plain)), float(np.mean(ceiling))
    return Scores(len(recordings), *old, best, taught, following, common, plainly, encoding)


def _listening(before: Bank, after: Bank, recordings: list[Recording], start: int) -> dict[str, Audio]:
    """Held-out notes one after another, up to 2.5 s of each: as recorded, by the old voice and by the new one."""
    some = sorted(recordings, key=lambda r: (r.pitch, r.velocity))
    some = some[:: max(len(some) // 12, 1)]
    n = int(_LISTEN_SECONDS * SAMPLE_RATE)
    fade = np.minimum((n - np.arange(n)) / (0.05 * SAMPLE_RATE), 1).astype(np.float32)

    def sequence(sounds: list[Floats]) -> Floats:
        pieces = [np.broadcast_to(s[:, :n], (2, min(s.shape[1], n))) for s in sounds]
        return np.concatenate([np.pad(p, ((0, 0), (0, n - p.shape[1]))) * fade for p in pieces], axis=1)

    takes = {"recorded": sequence([r.sound for r in some]),
             "before": sequence([played(before, r, start) for r in some]),
             "after": sequence([played(after, r, len(before.table.kind)) for r in some])}  # fmt: skip
    loudest = max(float(np.abs(take).max()) for take in takes.values())
    return {name: Audio(take * np.float32(0.7 / max(loudest, 1e-6)), SAMPLE_RATE)
            for name, take in takes.items()}  # fmt: skip
