"""From recordings to a finished voice: what to set out from, how loud, learning, and what the result is worth.

Worth is measured on notes of pitches that were held out (every fifth one), as log-mel error against the recordings,
beside the voice of the bank that the new one set out from and beside the same notes encoded. The final voice
then learns from all notes, unless told to keep those held out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.voices import N_PITCHES, N_PROGRAMS
from miao.datasets.samples import Recording
from miao.datasets.voice_notes import VoiceNotes, choose_kind, voice_notes
from miao.measuring.roundtrip import encoded_bank, one_note_score, play
from miao.midi.general_midi import program_name
from miao.sound import spectrum
from miao.sound.audio import Audio
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.learn import LearnConfig, learn

HELD_OUT_EVERY, HELD_OUT_FROM = 5, 2  # of the pitches, lowest first
GAINS_DB = np.arange(-12, 12.5, 0.5)  # among which the old voice is given its best
_MOST_TRIM_DB = 9.0
_LISTEN_SECONDS = 2.5


@dataclass(frozen=True)
class Scores:
    """Mean log-mel errors (dB) of held-out notes against the recordings."""

    n_notes: int  # held out
    before: float  # the voice of the bank that the new one set out from, at the loudness all recordings were set to
    before_aligned: float  # the same with the constant gain that suits it best
    before_gain_db: float  # that gain
    after: float  # the new voice as it is
    encoded: float  # the recordings measured into tokens and played back: as good as tokens can be


@dataclass(frozen=True)
class NewVoice:
    """What `new_voice` made."""

    voice: LearntVoice
    start: int  # the program it set out from
    scores: Scores | None  # None where there were too few pitches to hold any out
    seconds: float
    listening: dict[str, Audio]  # held-out notes: recorded, before, after


def held_out_pitches(pitches: Sequence[int]) -> set[int]:
    """Every fifth of the pitches that there are, from the third lowest on; none if there are fewer than five."""
    known = sorted(set(pitches))
    return set(known[HELD_OUT_FROM::HELD_OUT_EVERY]) if len(known) >= HELD_OUT_EVERY else set()


def energy_db(sound: NDArray, seconds: float = 1.0) -> float:
    """Energy of the beginning of a sound, mean of the channels."""
    return float(10 * np.log10(np.square(sound[:, : int(seconds * SAMPLE_RATE)]).sum() / len(sound) + 1e-12))


def closest_program(bank: Bank, recordings: Sequence[Recording]) -> int:
    """The program of the bank that sounds most like some of the recordings, all set to the same energy."""
    chosen = sorted(recordings, key=lambda r: (r.pitch, r.velocity))
    chosen = [chosen[int(share * len(chosen))] for share in (0.1, 0.35, 0.6, 0.85)]
    chosen = [replace(r, sound=r.sound[:, : int(1.5 * SAMPLE_RATE)]) for r in chosen]
    targets = [spectrum.log_mel(r.sound) for r in chosen]
    errors = np.zeros(N_PROGRAMS)
    for program in range(N_PROGRAMS):
        for recording, target in zip(chosen, targets, strict=True):
            sound = _played(bank, recording, program)[:, : recording.sound.shape[1]]
            mel = spectrum.log_mel(sound) + energy_db(recording.sound) - energy_db(sound)
            errors[program] += spectrum.log_mel_error(target, mel) / len(chosen)
    return int(errors.argmin())


def loudness_gain(bank: Bank, recordings: Sequence[Recording], program: int) -> float:
    """The gain (dB) that makes recordings as loud as a program of the bank, median over up to 24 notes. One for all:
    how much louder some notes are than others belongs to the voice."""
    some = recordings[:: max(len(recordings) // 24, 1)]
    return float(np.median([energy_db(_played(bank, r, program)) - energy_db(r.sound) for r in some]))


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
    data = voice_notes(recordings, choose_kind(recordings))
    tell(0.1)
    held_out = held_out_pitches([r.pitch for r in recordings])
    test = [i for i, r in enumerate(recordings) if r.pitch in held_out]
    train = [i for i in range(len(recordings)) if i not in test]
    scores, listening, voice = None, {}, None
    share = 0.9 if keep_held_out or not test else 0.45
    about = about | {"name": name, "bank": bank.name, "nets": bank.nets_checksum}
    about["set_out_from"] = f"program {start + 1}, {program_name(start, False)}"
    about["n_notes"] = str(len(train if keep_held_out else recordings))
    if test or keep_held_out:
        voice = _learnt(bank, recordings, data, train, start, config, about, lambda d: tell(0.1 + share * d))
        player = bank.with_voices([voice])
        some = [recordings[i] for i in test]
        scores = _scores(bank, player, some, data.chosen(test), start)
        listening = _listening(bank, player, some, start)
        about |= {"held_out_before_db": f"{scores.before_aligned:.2f}", "held_out_db": f"{scores.after:.2f}",
                  "held_out_encoded_db": f"{scores.encoded:.2f}", "n_held_out": str(scores.n_notes)}  # fmt: skip
    if voice is None or not keep_held_out:
        everything = list(range(len(recordings)))
        voice = _learnt(bank, recordings, data, everything, start, config, about, lambda d: tell(1 - share + share * d))
    voice = replace(voice, about=about)
    return NewVoice(voice, start, scores, time.perf_counter() - began, listening)


def _learnt(bank: Bank, recordings: Sequence[Recording], data: VoiceNotes, which: list[int], start: int,
            config: LearnConfig, about: dict[str, str], tell: Callable[[float], None]) -> LearntVoice:  # fmt: skip
    """A voice from some of the notes, its trim set so that half of them come out louder than they were recorded."""
    chosen = data.chosen(which)
    voice = LearntVoice(chosen.table(), *learn(bank, chosen, start, config, tell), about)
    player, some = bank.with_voices([voice]), [recordings[i] for i in which[:: max(len(which) // 24, 1)]]
    trim = np.median([energy_db(r.sound) - energy_db(_played(player, r, len(bank.table.kind))) for r in some])
    trim_db = np.array([np.clip(trim, -_MOST_TRIM_DB, _MOST_TRIM_DB)], np.float32)
    return replace(voice, table=replace(voice.table, trim_db=trim_db))


def _played(bank: Bank, recording: Recording, voice: int) -> NDArray[np.float32]:
    """A note as a voice of the bank plays it, [2, S]; up to where the recording ends if that was cut off."""
    score = one_note_score(0, recording.pitch, recording.velocity, recording.hold_seconds)
    sound = play(bank, score, voice=voice)
    return sound if recording.is_released else sound[:, : recording.sound.shape[1]]


def bank_errors(bank: Bank, recordings: Sequence[Recording], program: int) -> tuple[float, float, float]:
    """Mean log-mel error (dB) of notes as a program of the bank plays them: as it is, with the constant gain that suits
    it best, and that gain."""
    errors = []
    for recording in recordings:
        target, mel = spectrum.log_mel(recording.sound), spectrum.log_mel(_played(bank, recording, program))
        errors.append([spectrum.log_mel_error(target, mel + gain) for gain in GAINS_DB])
    by_gain = np.mean(errors, axis=0)
    best, plain = int(by_gain.argmin()), int(np.abs(GAINS_DB).argmin())
    return float(by_gain[plain]), float(by_gain[best]), float(GAINS_DB[best])


def _scores(before: Bank, after: Bank, recordings: list[Recording], data: VoiceNotes, start: int) -> Scores:
    """All errors of held-out notes."""
    new, ceiling = [], []
    for i, recording in enumerate(recordings):
        target = spectrum.log_mel(recording.sound)
        new.append(spectrum.log_mel_error(target, spectrum.log_mel(_played(after, recording, len(before.table.kind)))))
        one = data.chosen([i])
        table = replace(one.table(), tune_cents=np.full((1, N_PITCHES), one.fits[0].tune_cents, np.float32))
        encoded = _played(encoded_bank(one.notes[0].tokens, table), recording, 0)
        ceiling.append(spectrum.log_mel_error(target, spectrum.log_mel(encoded)))
    old = bank_errors(before, recordings, start)
    return Scores(len(recordings), *old, float(np.mean(new)), float(np.mean(ceiling)))


def _listening(before: Bank, after: Bank, recordings: list[Recording], start: int) -> dict[str, Audio]:
    """Held-out notes one after another, up to 2.5 s of each: as recorded, by the old voice and by the new one."""
    some = sorted(recordings, key=lambda r: (r.pitch, r.velocity))
    some = some[:: max(len(some) // 12, 1)]
    n = int(_LISTEN_SECONDS * SAMPLE_RATE)
    fade = np.minimum((n - np.arange(n)) / (0.05 * SAMPLE_RATE), 1).astype(np.float32)

    def sequence(sounds: list[NDArray]) -> NDArray:
        pieces = [np.broadcast_to(s[:, :n], (2, min(s.shape[1], n))) for s in sounds]
        return np.concatenate([np.pad(p, ((0, 0), (0, n - p.shape[1]))) * fade for p in pieces], axis=1)

    takes = {"recorded": sequence([r.sound for r in some]),
             "before": sequence([_played(before, r, start) for r in some]),
             "after": sequence([_played(after, r, len(before.table.kind)) for r in some])}  # fmt: skip
    loudest = max(float(np.abs(take).max()) for take in takes.values())
    return {name: Audio(take * np.float32(0.7 / max(loudest, 1e-6)), SAMPLE_RATE)
            for name, take in takes.items()}  # fmt: skip
