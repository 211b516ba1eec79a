"""The same few notes rendered at every checkpoint, so that ears can follow a training run."""

import json
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.voices import VoiceTable
from miao.errors import CheckpointError
from miao.files import make_folder
from miao.midi.score import Curve, Score, Track, notes_array
from miao.sound.audio import Audio
from miao.synth.stems import stream_stems
from miao.training.scheme import decode_with, load_model

PROGRAMS = (0, 24, 33, 40, 48, 56, 65, 73)  # piano, guitar, bass, violin, strings, trumpet, sax, flute
_SAMPLE_RATE = 44_100


def render_clips(checkpoint: Path, table: VoiceTable) -> Path:
    """Write ``clips/step.wav`` into a checkpoint: an arpeggio by each of PROGRAMS, then a bar of drums."""
    model = load_model(checkpoint)
    bank = Bank("checkpoint", checkpoint, table, decode_with(model), None, model.config.width)
    blocks = [block.stems.sum(axis=0) for block in stream_stems(bank, _listening_score())]
    sound = np.concatenate(blocks, axis=1)
    step = json.loads((checkpoint / "state.json").read_text())["step"]
    path = checkpoint / "clips" / f"{step:06d}.wav"
    make_folder(path.parent, CheckpointError)
    Audio(sound * np.float32(0.5 / max(float(np.abs(sound).max()), 1e-9)), _SAMPLE_RATE).save(path, force=True)
    return path


def _listening_score() -> Score:
    rows = []
    for n, program in enumerate(PROGRAMS):
        for i, pitch in enumerate((48, 55, 60, 64, 72)):
            start = 3.0 * n + 0.35 * i
            rows.append((start, start + 0.3 + (i == 4), start + 0.3 + (i == 4), pitch, 60 + 12 * i, program, 0, False))
    start = 3.0 * len(PROGRAMS)
    for i, key in enumerate((36, 42, 38, 42, 36, 36, 38, 46, 49)):
        rows.append((start + 0.25 * i, start + 0.25 * i + 0.1, start + 0.25 * i + 0.1, key, 100, 0, 0, True))
    notes = notes_array(rows)
    track = Track("listening", 0, notes, {}, np.zeros(0))
    return Score((track,), float(notes["damp"].max()), Curve(np.zeros(1), np.full(1, 120.0), 120.0))
