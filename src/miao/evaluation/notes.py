"""How close single notes come to their teacher: log-mel, loudness, attack and pitch errors, note by note.

Two systems side by side: ``encoded`` (the reference measured into audio tokens and played back: the ceiling of any
model over these tokens) and ``miao`` (the bank). Both go through the engine that renders songs. The notes are those
that training never renders: five pitches and three velocities of each program, three velocities of each drum key.

When a note is there is partly chance, ours and the teacher's (`measuring.attack`). So that it is not chance that is
measured, attacks are compared by notes that are drawn several times; those of single notes stand beside them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np

from miao.arrays import Reals
from miao.bank.bank import Bank
from miao.bank.voices import drum_key, is_drum_voice, pitch_hz
from miao.datasets.notes import HELD_OUT_PITCHES, HELD_OUT_VELOCITIES, Source, render, source_of
from miao.datasets.soundfont import SoundFont
from miao.files import Json
from miao.measuring.attack import AROUND, WITHIN_SECONDS, attack_time
from miao.measuring.note import analyse_note
from miao.measuring.partials import spectral_peaks
from miao.measuring.replayed import put_right
from miao.measuring.roundtrip import encoded_bank, one_note_score, play
from miao.midi.general_midi import program_name
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE

HOLD_SECONDS = 1.0

Peaks = tuple[Reals, Reals, Reals]
"""What measuring.partials.spectral_peaks finds: frequencies, power, power over the neighbourhood."""


@dataclass(frozen=True)
class NoteErrors:
    """One note of one system against its reference."""

    log_mel_db: float  # over audible cells, see spectrum.log_mel_error
    log_mel_reference_db: float  # the same over cells audible in the reference only, not clamped
    loudness_db: float  # rendered minus reference, whole note
    attack_seconds: float  # absolute difference of the times at which the notes reach -10 dB of their first peak
    pitch_cents: float  # absolute; nan where a note has no clear pitch


@dataclass(frozen=True)
class Attacks:
    """When a note is there in each of its drawings, seconds."""

    theirs: Sequence[float]
    ours: Sequence[float]

    def off(self) -> float:
        """How far the usual times lie apart."""
        return abs(float(np.median(self.ours) - np.median(self.theirs)))

    def chance(self) -> tuple[float, float]:
        """How far single drawings lie from the usual time in the mean, theirs and ours."""
        theirs, ours = (float(np.abs(np.array(t) - np.median(t)).mean()) for t in (self.theirs, self.ours))
        return theirs, ours


def drawn_attacks(
    font: SoundFont, source: Source, bank: Bank, voice: int, pitch: int, velocity: int, taught: int | None
) -> Attacks:
    """A note drawn at strengths around its own, by its teacher and by a voice of a bank; ``taught`` is what `play` is
    told."""
    theirs, ours = [], []
    for seed, beside in enumerate(AROUND):
        sound = render(font, source, pitch, velocity + beside, HOLD_SECONDS)
        score = one_note_score(voice, pitch, velocity + beside, sound.shape[1] / SAMPLE_RATE)
        theirs.append(attack_time(sound))
        ours.append(attack_time(play(bank, score, seed, taught, WITHIN_SECONDS)))
    return Attacks(theirs, ours)


def held_out(voice: int) -> list[tuple[int, int]]:
    """(pitch, velocity) of a voice's held-out notes."""
    pitches = (drum_key(voice),) if is_drum_voice(voice) else HELD_OUT_PITCHES
    return [(pitch, velocity) for pitch in pitches for velocity in HELD_OUT_VELOCITIES]


def compare(reference: Reals, rendered: Reals) -> NoteErrors:
    """Errors of one rendered note; shapes [2, S] each, at 44.1 kHz."""
    n = max(reference.shape[1], rendered.shape[1]) + spectrum.FRAME_SAMPLES  # a click is heard in whole frames too
    theirs, ours = (spectrum.log_mel(np.pad(x, ((0, 0), (0, n - x.shape[1])))) for x in (reference, rendered))
    energy = [10 * np.log10(np.square(x).sum() + 1e-12) for x in (rendered, reference)]
    return NoteErrors(
        spectrum.log_mel_error(theirs, ours),
        spectrum.log_mel_error(theirs, ours, clamp=False),
        float(energy[0] - energy[1]),
        abs(attack_time(rendered) - attack_time(reference)),
        pitch_difference(reference, rendered),
    )


def pitch_difference(reference: Reals, rendered: Reals) -> float:
    """Distance between the strongest partials of two notes, cents, weighted median over five; nan if none match."""
    return peak_difference(pitch_peaks(reference), pitch_peaks(rendered))


def pitch_peaks(sound: Reals) -> Peaks:
    """The spectral peaks that pitches are compared by."""
    return spectral_peaks(sound, SAMPLE_RATE, 0.8)


def peak_difference(reference: Peaks, rendered: Peaks) -> float:
    """`pitch_difference` of two sounds' `pitch_peaks`; nan against itself says that no partial is clear."""
    hz, power, prominence = reference
    other_hz, other_power, _ = rendered
    clear = np.flatnonzero((prominence > 20) & (power > 1e-3 * power.max()))
    differences, weights = [], []
    for i in clear[np.argsort(-power[clear])][:5]:
        near = np.flatnonzero(np.abs(1200 * np.log2(other_hz / hz[i])) < 60)
        if len(near):
            best = near[np.argmax(other_power[near])]
            differences.append(abs(1200 * np.log2(other_hz[best] / hz[i])))
            weights.append(np.sqrt(power[i]))
    if not differences:
        return float("nan")
    order = np.argsort(differences)
    half = np.searchsorted(np.cumsum(np.array(weights)[order]), 0.5 * sum(weights))
    return float(np.array(differences)[order][min(half, len(order) - 1)])


def evaluate_voice(font: SoundFont, bank: Bank, voice: int) -> list[Json]:
    """One record a held-out note that the sound bank has: voice, name, pitch, velocity, errors of both systems, and
    when the bank's note and the teacher's are there in each of their drawings."""
    records = []
    for pitch, velocity in held_out(voice):
        reference = render(font, voice, pitch, velocity, HOLD_SECONDS)
        if np.abs(reference).max(initial=0.0) < 1e-5:
            continue
        hold = reference.shape[1] / SAMPLE_RATE if is_drum_voice(voice) else HOLD_SECONDS
        partials = bank.table.partials(voice, pitch)
        tokens = analyse_note(reference, SAMPLE_RATE, float(pitch_hz(pitch)), hold, partials).tokens
        tokens = put_right(tokens, reference, bank.table, voice, pitch)
        score = one_note_score(voice, pitch, velocity, hold)
        untrimmed = replace(bank.table, trim_db=np.zeros_like(bank.table.trim_db))
        systems = {"encoded": encoded_bank(tokens, untrimmed), "miao": bank}
        name = f"drum {pitch}" if is_drum_voice(voice) else program_name(voice, False)
        record = {"voice": voice, "name": name, "pitch": pitch, "velocity": velocity}
        taught = None if is_drum_voice(voice) else voice  # a learnt voice that plays by default has another teacher
        for system, player in systems.items():
            record[system] = asdict(compare(reference, play(player, score, voice=taught)))
        attacks = drawn_attacks(font, source_of(voice), bank, voice, pitch, velocity, taught)
        records.append(record | {"attacks": asdict(attacks)})
    return records


@cache
def _loaded(font: str, bank: str) -> tuple[SoundFont, Bank]:
    return SoundFont(font), Bank.load(bank, n_threads=1)


def measure_voice(font: str, bank: str, voice: int) -> list[Json]:
    """`evaluate_voice` by names, for processes: each opens the sound bank and loads the bank once."""
    return evaluate_voice(*_loaded(font, bank), voice)


def attack_ms(records: list[Json]) -> tuple[float, float, float]:
    """Of some notes of the bank, medians in ms: how far usual attacks lie from the teacher's, and how far single
    drawings lie from the usual ones, theirs and ours."""
    found = [Attacks(**r["attacks"]) for r in records]
    off, theirs, ours = 1000 * np.median([(a.off(), *a.chance()) for a in found], axis=0)
    return float(off), float(theirs), float(ours)


def summary(records: list[Json], system: str) -> dict[str, float]:
    """Means and medians over all notes of one system, and the worst voice."""
    log_mel = np.array([r[system]["log_mel_db"] for r in records])
    voices = np.array([r["voice"] for r in records])
    worst = max(np.unique(voices), key=lambda v: log_mel[voices == v].mean())
    cents = np.array([r[system]["pitch_cents"] for r in records])
    loudness = np.array([r[system]["loudness_db"] for r in records])
    return {
        "n": len(records),
        "log_mel_db": float(log_mel.mean()),
        "log_mel_reference_db": float(np.mean([r[system]["log_mel_reference_db"] for r in records])),
        "worst_voice": int(worst),
        "worst_voice_db": float(log_mel[voices == worst].mean()),
        "loudness_mean_abs_db": float(np.abs(loudness).mean()),
        "loudness_median_abs_db": float(np.median(np.abs(loudness))),
        "attack_median_ms": float(1000 * np.median([r[system]["attack_seconds"] for r in records])),
        "pitch_median_cents": float(np.nanmedian(cents)),
        "pitch_within_5_cents": float(np.mean(cents[~np.isnan(cents)] <= 5)),
    }
