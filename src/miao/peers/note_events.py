"""Notes as events that a diffusion model reads, after MT3's vocabulary (Gardner et al. 2022); segments of 2.56 s."""

import math

import numpy as np
import torch
from torch import Tensor

from miao.arrays import Integers, Reals, Records
from miao.bank.voices import drum_key
from miao.peers.inputs import DRUM_KIT, instruments

SEGMENT_FRAMES = 256
FRAME_SECONDS = 0.010
SEGMENT_SECONDS = SEGMENT_FRAMES * FRAME_SECONDS
N_VELOCITIES = 16
OFF, TIE = 0, N_VELOCITIES + 1  # actions; those between are onsets with a velocity
N_ACTIONS = N_VELOCITIES + 2
N_KEYS = 256  # pitches, then drum keys, as in MT3's vocabulary
FRAME, ACTION, INSTRUMENT, KEY = range(4)  # columns of an event


def note_events(notes: Records, start_seconds: float, max_events: int) -> Integers:
    """What happens in the segment from ``start_seconds`` on, in order, [n, 4]: FRAME, ACTION, INSTRUMENT, KEY.

    First ties, for notes that sound already; then onsets (action: velocity 1..127 in steps of 8, counted from 1) and
    offs, offs before onsets of the same frame. A note lasts until it is damped, at the least a frame; an onset ends the
    earlier note of its key. Drums have onsets only. Of more than ``max_events`` events the last are left out.
    """
    notes = notes[np.argsort(notes["start"], kind="stable")]
    instrument = instruments(notes)
    keys = [N_KEYS // 2 + drum_key(int(n["voice"])) if i == DRUM_KIT else int(n["pitch"])
            for n, i in zip(notes, instrument, strict=True)]  # fmt: skip
    begins = _frames(notes["start"] - start_seconds)
    ends = np.maximum(_frames(notes["damp"] - start_seconds), begins + 1)
    later: dict[tuple[int, int], int] = {}  # where the next note of an instrument's key begins
    events = []
    for n in reversed(range(len(notes))):
        what = int(instrument[n]), keys[n]
        begin, end = int(begins[n]), min(int(ends[n]), later.get(what, SEGMENT_FRAMES))
        later[what] = begin
        if 0 <= begin < SEGMENT_FRAMES:
            events.append((begin, math.ceil(N_VELOCITIES * max(int(notes["velocity"][n]), 1) / 127), *what))
        if what[0] == DRUM_KIT or begin >= SEGMENT_FRAMES or end <= max(begin, 0):
            continue
        if begin < 0:
            events.append((-1, TIE, *what))
        if end < SEGMENT_FRAMES:
            events.append((end, OFF, *what))
    events.sort(key=lambda e: (e[FRAME], e[ACTION] != OFF, *e[INSTRUMENT:]))
    kept = np.array(events[:max_events], np.int64).reshape(-1, 4)
    kept[:, FRAME] = np.maximum(kept[:, FRAME], 0)
    return kept


def _frames(seconds: Reals) -> Integers:
    frames: Integers = np.rint(np.clip(seconds, -1e6, 1e6) / FRAME_SECONDS).astype(np.int64)  # a damp may be infinite
    return frames


def stacked(events: list[Integers]) -> tuple[Tensor, Tensor]:
    """Events of several segments, filled up to the longest, and which of them are ones."""
    length = max(1, *(len(e) for e in events))
    lengths = torch.tensor([len(e) for e in events])
    stacked = np.stack([np.pad(e, ((0, length - len(e)), (0, 0))) for e in events])
    return torch.from_numpy(stacked), torch.arange(length) < lengths[:, None]
