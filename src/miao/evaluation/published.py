"""The test splits of the paper's data sets as benchmarks: `miao data benchmark maestro --root FOLDER`.

The split is the published one, or the one that the loader's card says (src/miao/datasets). Each piece is taken from its
beginning, so that no note sounds into it, and cut off hard at its end, as are the recordings. Stems are compared where
every track of the excerpt has one of its own; a data set without mixes is heard as the sum of its stems.
"""

from functools import partial
from pathlib import Path

import numpy as np

from miao.arrays import Floats
from miao.datasets.catalogue import dataset
from miao.datasets.recordings import Part, Recording
from miao.errors import DataError
from miao.evaluation.pieces import SPLIT, Material, Plan, excerpt
from miao.files import Json
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import SAMPLE_RATE


def plan_published(name: str, roots: list[Path], seconds: float) -> tuple[list[Plan], list[Json], list[Json]]:
    """The pieces of a data set's test split, their origin, and what is left out and why."""
    module = dataset(name)
    reasons = [f"{name} is not there; say where by --root FOLDER"] if not roots else []
    for root in roots:
        try:
            found = [recording for recording in module.recordings(root) if recording.split == SPLIT]
        except DataError as error:
            reasons.append(str(error))
            continue
        if found:
            made_of = {"name": name, "places": str(root), "licence": module.LICENSE.splitlines()[0],
                       "origin": module.REMOTES[0].url, "n_files": len(found)}  # fmt: skip
            plans = [Plan(f"{name}-{r.name.replace('/', '-')}", name, r.name, partial(read_piece, r, seconds))
                     for r in found]  # fmt: skip
            return plans, [made_of], []
        reasons.append(f"{root}: nothing of the split {SPLIT} of {name}")
    return [], [], [{"name": name, "reason": reason} for reason in reasons]


def read_piece(recording: Recording, seconds: float) -> Material:
    """The first seconds of a recording; 0 takes it whole. Raises: ScoreError, AudioError or DataError."""
    whole = recording.read_score()
    parts = [recording.mix] if recording.mix else list(recording.stems)
    sounds = [_stereo(part, seconds) for part in parts]
    n_samples = max(sound.shape[1] for sound, _ in sounds)
    length, bandwidth = n_samples / SAMPLE_RATE, min(rate for _, rate in sounds) / 2
    is_there = [bool((track.notes["start"] < length).any()) for track in whole.tracks]
    alone = {part.tracks[0]: part for part in recording.stems if len(part.tracks) == 1}
    kept = [alone.get(number) for number, there in enumerate(is_there) if there]
    stems = [_padded(_stereo(part, seconds)[0], n_samples) for part in kept if part is not None]
    mix = sum(_padded(sound, n_samples) for sound, _ in sounds)
    return Material(excerpt(whole, 0.0, length), length, Audio(np.asarray(mix, np.float32), SAMPLE_RATE),
                    tuple(Audio(stem, SAMPLE_RATE) for stem in stems) if len(stems) == len(kept) else (),
                    "alignment", min(bandwidth, SAMPLE_RATE / 2))  # fmt: skip


def _stereo(part: Part, seconds: float) -> tuple[Floats, int]:
    """The beginning of a part, [2, S] at 44.1 kHz, and the rate that it was recorded at."""
    samples, rate = part.load()
    sound = resample(Audio(samples[:2, : round(seconds * rate) if seconds else None], rate), SAMPLE_RATE).samples
    return np.broadcast_to(sound, (2, sound.shape[1])), rate


def _padded(sound: Floats, n_samples: int) -> Floats:
    return np.pad(sound, ((0, 0), (0, max(n_samples - sound.shape[1], 0))))[:, :n_samples]
