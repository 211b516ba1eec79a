"""MIDI-DDSP's way from a track to sound: controls note by note, then notes that last alike together, then their sum."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from miao.arrays import Floats, Integers, Records
from miao.peers.ddsp import HOP, HOP_SECONDS, INAUDIBLE
from miao.peers.expression import CONTROLS
from miao.peers.midi_ddsp import MidiDdsp, Segments, notes_as_tensors
from miao.sound.spectrum import SAMPLE_RATE

_NOTE_BLOCK, _NOTE_CONTEXT = 512, 64  # notes whose controls are predicted at once, and their neighbours


@torch.no_grad()
def render_midi_ddsp(model: MidiDdsp, notes: Records, seconds: float, seed: int = 0) -> Floats:
    """A track as sound at 44.1 kHz, mono, [seconds * 44100]; notes are PAIR_NOTE. The same each time."""
    sound = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    notes = notes[np.argsort(notes["start"], kind="stable")]
    controls = _controls_of(model, notes)
    tail = model.config.tail_seconds
    first = np.rint(notes["start"] * SAMPLE_RATE).astype(np.int64)
    lasts = np.minimum(notes["damp"] - notes["start"] + tail, seconds - notes["start"])
    n_hops = np.ceil(np.maximum(lasts, 0) / HOP_SECONDS).astype(np.int64)
    rng = np.random.default_rng(seed)
    for some in _alike(n_hops):
        played = _played(model, notes[some], controls[some], int(n_hops[some].max()), rng)
        for start, own, n in zip(first[some], played, n_hops[some] * HOP, strict=True):
            begin, end = max(start, 0), min(start + min(n, len(own)), len(sound))
            if begin < end:
                sound[begin:end] += own[begin - start : end - start]
    return sound


def _alike(n_hops: Integers, most_hops: int = 4096) -> Iterator[Integers]:
    """The notes that last, some at a time that last alike and together no longer than bounded memory allows."""
    order = np.argsort(n_hops, kind="stable")[::-1]
    order = order[n_hops[order] > 0]
    while len(order):
        n = max(1, min(most_hops // int(n_hops[order[0]]), 64))
        yield order[:n]
        order = order[n:]


def _controls_of(model: MidiDdsp, notes: Records) -> Floats:
    """The controls of all notes of a track, [n, 6], block by block."""
    device = model.voice.weight.device
    controls = np.zeros((len(notes), len(CONTROLS)), np.float32)
    for block in range(0, len(notes), _NOTE_BLOCK):
        first = max(block - _NOTE_CONTEXT, 0)
        some = notes_as_tensors([notes[first : block + _NOTE_BLOCK + _NOTE_CONTEXT]], device)
        own = controls[block : block + _NOTE_BLOCK]
        own[:] = model.controls(some)[0].cpu().numpy()[block - first :][: len(own)]
    return controls


def _played(model: MidiDdsp, notes: Records, controls: Floats, n_hops: int,
            rng: np.random.Generator) -> Floats:  # fmt: skip
    """The sounds of some notes from their starts on, until they are inaudible, [n, samples]."""
    device, tail = model.voice.weight.device, model.config.tail_seconds
    none, every = torch.zeros(len(notes), dtype=torch.long, device=device), torch.arange(len(notes), device=device)
    held = torch.from_numpy((notes["damp"] - notes["start"]).astype(np.float32)).to(device)
    known = torch.from_numpy(controls).to(device).unsqueeze(0)
    played = model.parameters_of(notes_as_tensors([notes], device), known,
                                 Segments(none, every, torch.zeros_like(held), held, none), n_hops + 1)  # fmt: skip
    left = held.unsqueeze(1) + tail - HOP_SECONDS * torch.arange(n_hops + 1, device=device)
    fade = (left / (0.25 * tail)).clamp(0, 1).unsqueeze(2)  # no click where a tail is cut
    played = replace(played, harmonics=played.harmonics * fade, noise=played.noise * fade)
    loudest = torch.maximum(played.harmonics.sum(dim=2), played.noise.amax(dim=2))
    is_wanted = torch.maximum(loudest[:, :-1], loudest[:, 1:]) > INAUDIBLE
    n = int((is_wanted.any(dim=0) * torch.arange(1, n_hops + 1, device=device)).max())  # silence after that
    played = replace(played, **{name: getattr(played, name)[:, : n + 1] for name in ("cents", "harmonics", "noise")})
    noise = torch.from_numpy(rng.random((len(notes), n + 2, HOP), np.float32) * 2 - 1).to(device)
    return model.play(played, noise, is_wanted[:, :n]).flatten(1).cpu().numpy()
