"""Held-out music to listen to: some seconds as they were recorded, before and after, and how far each rendering is off.

What a fit says of power spectrograms is one thing, what is rendered another: here the excerpts are played, each by
its own gain, and compared with the recording. Other players of scores may be heard beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import Floats
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.measuring.power import bands_below
from miao.midi.score import Score
from miao.sound.audio import Audio, resample
from miao.sound.room import DrawnRoom
from miao.sound.rooms import NO_ROOM
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import Synthesizer
from miao.training.performances import Performance

Player = Callable[[Score, float], Floats]  # the mix of so many seconds of a score, [2, S] at 44.1 kHz
Players = Mapping[str, Player]
RECORDED, BEFORE, IN_ROOM, AFTER = "recorded", "before", "before-in-room", "after"

_SPOTS, _SECONDS, _LEAD_SECONDS = 4, 8.0, 2.0
_GAINS_DB = np.arange(-8, 8.5, 0.5)
_PAUSE_SECONDS, _FADE_SECONDS = 0.3, 0.05
_PEAK = 0.8


@dataclass(frozen=True)
class Takes:
    """Held-out music, rendered."""

    errors: dict[str, float]  # log-mel error of each take but the recording, at its best gain, dB
    sounds: dict[str, Audio]  # all spots one after the other, by take
    seconds: float  # of each


def best_gain(reference: Floats, played: Floats) -> tuple[float, float]:
    """The log-mel error at the constant gain that suits best, and that gain, dB."""
    n = min(len(reference), len(played))
    reference, played = reference[:n], played[:n]
    loud = reference > reference.max() - 40
    middle = float(np.median((reference - played)[loud]))
    errors = [log_mel_error(reference, played + middle + gain) for gain in _GAINS_DB]
    best = int(np.argmin(errors))
    return float(errors[best]), middle + float(_GAINS_DB[best])


def listened(
    bank: Bank,
    held_out: Sequence[tuple[Performance, float, float]],
    cast: Callable[[Performance], Mapping[int, LearntVoice]],
    room: DrawnRoom | None,
    players: Players,
    tell: Callable[[float], None] = lambda done: None,
) -> Takes:
    """Render up to four spots of 8 s of held-out stretches (performance, from, to in seconds); ``cast`` says which
    voices play a performance."""
    synthesizer, errors = Synthesizer(bank), dict[str, list[float]]()
    sounds: dict[str, list[Floats]] = {}
    spots = _spots(held_out)
    for number, (performance, start, seconds) in enumerate(spots):
        begin = max(start - _LEAD_SECONDS, 0.0)
        score = performance.score.between(begin, start + seconds)
        if not score.tracks:
            continue
        lead, end = start - begin, start - begin + seconds
        dry = PlaySettings(gain_db=-12.0, end=end, room=NO_ROOM)
        wet = replace(dry, room=room or NO_ROOM)
        voices = _as_chosen(performance, begin, start + seconds, cast(performance))
        takes = {
            BEFORE: synthesizer.render(score, dry).samples,
            IN_ROOM: synthesizer.render(score, wet).samples,
            AFTER: synthesizer.render(score, wet, voices=voices).samples,
        } | {name: player(score, end) for name, player in players.items()}
        takes = {name: samples[:, round(lead * SAMPLE_RATE) :] for name, samples in takes.items()}
        audio = performance.audio
        cut = slice(round(start * audio.sample_rate), round((start + seconds) * audio.sample_rate))
        recorded = resample(Audio(audio.samples[:2, cut], audio.sample_rate), SAMPLE_RATE).samples
        n_bands = bands_below(min(audio.sample_rate, SAMPLE_RATE) / 2)
        reference = log_mel(recorded)[:, :n_bands]
        sounds.setdefault(RECORDED, []).append(np.broadcast_to(recorded, (2, recorded.shape[1])))
        for name, samples in takes.items():
            error, gain = best_gain(reference, log_mel(samples)[:, :n_bands])
            errors.setdefault(name, []).append(error)
            sounds.setdefault(name, []).append(samples * np.float32(10 ** (gain / 20)))
        tell((number + 1) / len(spots))
    return Takes({name: float(np.mean(values)) for name, values in errors.items()}, _joined(sounds),
                 sum(seconds for _, _, seconds in spots))  # fmt: skip


def _spots(held_out: Sequence[tuple[Performance, float, float]]) -> list[tuple[Performance, float, float]]:
    """Where to listen: performance, start, seconds; spread over what was held out."""
    each = -(-_SPOTS // len(held_out))
    found = []
    for performance, first, last in held_out:
        seconds = min(_SECONDS, (last - first) / each)
        starts = np.linspace(first, last - seconds, each + 2)[1:-1] if each > 1 else [(first + last - seconds) / 2]
        found += [(performance, float(start), seconds) for start in starts]
    return found[:: max(len(found) // _SPOTS, 1)][:_SPOTS]


def _as_chosen(
    performance: Performance, start: float, end: float, voices: Mapping[int, LearntVoice]
) -> dict[int, LearntVoice]:
    """Voices by the numbers that their tracks have in a part of the score, from which silent tracks are left out."""
    playing = [place for place, track in enumerate(performance.score.tracks)
               if ((track.notes["start"] >= start) & (track.notes["start"] < end)).any()]  # fmt: skip
    return {number: voices[place + 1] for number, place in enumerate(playing, start=1) if place + 1 in voices}


def _joined(sounds: Mapping[str, Sequence[Floats]]) -> dict[str, Audio]:
    """Spots one after the other, all takes by the same gain, so that none clips."""
    loudest = max((float(np.abs(s).max()) for some in sounds.values() for s in some), default=0.0)
    gain = np.float32(min(_PEAK / max(loudest, 1e-9), 1e3))
    pause = np.zeros((2, round(_PAUSE_SECONDS * SAMPLE_RATE)), np.float32)
    found = {}
    for name, some in sounds.items():
        parts = [part for sound in some for part in (_faded(sound) * gain, pause)]
        found[name] = Audio(np.concatenate(parts, axis=1), SAMPLE_RATE)
    return found


def _faded(sound: Floats) -> Floats:
    n = sound.shape[1]
    inside = np.minimum(np.arange(n), n - 1 - np.arange(n)) / (_FADE_SECONDS * SAMPLE_RATE)
    faded: Floats = (sound * np.minimum(inside, 1)).astype(np.float32)
    return faded
