"""One sound file against another: the metrics of an evaluation for a single pair."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miao.datasets.annotations import as_score
from miao.errors import AudioError
from miao.evaluation.evaluate import Listeners
from miao.evaluation.measure import limited, listen_to_reference, measure, piece_metrics
from miao.evaluation.systems import Piece, Sound
from miao.midi.score import Score, read_score
from miao.sound.audio import read_audio, resample
from miao.sound.spectrum import SAMPLE_RATE

SHORTEST_SECONDS = 0.05


@dataclass(frozen=True)
class Row:
    """One metric of the pair."""

    key: str
    title: str
    unit: str
    better: str  # lower, higher, or "" for what only describes
    value: float
    reference: float | None  # what the reference itself gets


def measure_pair(reference: Path, rendered: Path, midi: Path | None, listeners: Listeners) -> list[Row]:
    """All metrics of a rendering against its reference; with the score, those that need one too.

    The sounds start together; the shorter is continued by silence, their levels are aligned, and both are compared up
    to the narrower bandwidth.
    Raises: AudioError if a file cannot be read or is too short; ScoreError.
    """
    sounds, bandwidth = [], SAMPLE_RATE / 2
    for path in (reference, rendered):
        audio = read_audio(path)
        if audio.duration < SHORTEST_SECONDS:
            raise AudioError(f"{path}: too short to be measured; {SHORTEST_SECONDS:g} s are needed")
        bandwidth = min(bandwidth, audio.sample_rate / 2)
        samples = resample(audio, SAMPLE_RATE).samples[:2]
        sounds.append(np.broadcast_to(samples, (2, samples.shape[1])))
    length = max(x.shape[1] for x in sounds)
    padded = [Sound(np.pad(x, ((0, 0), (0, length - x.shape[1]))), None) for x in sounds]
    theirs, ours = (limited(sound, bandwidth) for sound in padded)
    score: Score = as_score([]) if midi is None else read_score(midi)
    piece = Piece(score, length / SAMPLE_RATE, theirs, None)
    tools = listeners.open()
    heard = listen_to_reference(piece, tools)
    itself, values = (measure(piece, sound, tools, heard).values for sound in (theirs, ours))
    return [
        Row(m.key, m.title, m.unit, m.better, values[m.key], itself.get(m.key))
        for m in piece_metrics(tools.embedders)
        if m.key in values
    ]
