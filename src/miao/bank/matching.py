"""Whether MIDI and sound belong together: what the audio encoder has learnt, as a tool and without torch.

A bank may hold a folder ``understanding/`` with three graphs: the MIDI encoder and the audio encoder, each with the
vectors that MAC (Eq. 7, 8) compares, and the matching head of MAM (Eq. 9). Music is seen in windows of 5.12 s, each
in 8 segments of 0.64 s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import AnyArray, Flags, Floats, Records
from miao.bank.folder import bank_folder, open_graph
from miao.bank.frames import N_SEGMENTS, WINDOW_SECONDS, encode_frames, window_mel
from miao.errors import BankError, MiaoError
from miao.midi.notes import notes_array
from miao.midi.score import Score
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import SAMPLE_RATE

FOLDER = "understanding"
_AT_ONCE = 16  # windows
_QUIETEST_DB = -65.0  # a segment whose loudest cell is below that is silent
_ONNX_NAMES = ("midi", "audio", "match")


@dataclass(frozen=True, eq=False)
class Seen:
    """Windows as one of the encoders sees them."""

    vectors: Floats  # [W, V, width], unit length together: inner products are mean cosines
    arrays: dict[str, AnyArray]  # what the matching head needs besides
    is_heard: Flags  # [W, N_SEGMENTS] whether anything is there

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class Match:
    """How well a sound fits a score."""

    probability: float  # 0..1, the mean over windows in which both have something
    windows: Floats  # [W] probability of each window, NaN where one of the two is silent
    similarity: Floats  # [W * N_SEGMENTS] cosine of each segment, NaN likewise
    segment_seconds: float = WINDOW_SECONDS / N_SEGMENTS


class Matcher:
    """The encoders and the matching head of a bank."""

    def __init__(self, folder: Path) -> None:
        """Raises: BankError if the bank has no such graphs."""
        self.folder = folder / FOLDER
        if not all((self.folder / f"{name}.onnx").is_file() for name in _ONNX_NAMES):
            raise BankError(f"{folder}: this bank cannot match MIDI with sound (no {FOLDER}/ in it); use gm")

    @staticmethod
    def from_pretrained(name: str | Path = "gm") -> "Matcher":
        """That of a bank by name, or from a folder. Raises: BankError."""
        return Matcher(bank_folder(name))

    @cached_property
    def _graphs(self) -> dict[str, Any]:
        return {name: open_graph(self.folder / f"{name}.onnx") for name in _ONNX_NAMES}

    def see_score(self, score: Score, seconds: float | None = None, *, hop_seconds: float = WINDOW_SECONDS) -> Seen:
        """The windows of a score, all its tracks together, up to its end or ``seconds``."""
        notes = np.concatenate([track.notes for track in score.tracks]) if score.tracks else notes_array(0)
        n = _n_windows(score.duration if seconds is None else seconds, hop_seconds)
        return self._see("midi", n, lambda w: encode_frames(_near(notes, w * hop_seconds), w * hop_seconds),
                         lambda image: image[2].reshape(N_SEGMENTS, -1).any(axis=1))  # fmt: skip

    def see_audio(self, audio: Audio, *, hop_seconds: float = WINDOW_SECONDS) -> Seen:
        """The windows of a sound."""
        samples = resample(audio, SAMPLE_RATE).samples
        n = _n_windows(samples.shape[1] / SAMPLE_RATE, hop_seconds)

        def mel(w: int) -> Floats:
            first = round(w * hop_seconds * SAMPLE_RATE)
            return window_mel(samples[:, first : first + round(WINDOW_SECONDS * SAMPLE_RATE)]).astype(np.float32)

        return self._see("audio", n, mel, lambda image: image.reshape(N_SEGMENTS, -1).max(axis=1) > _QUIETEST_DB)

    def _see(self, graph: str, n: int, image_of: Callable[[int], Floats], is_heard: Callable[[Floats], Flags]) -> Seen:
        found: dict[str, list[AnyArray]] = {}
        heard = []
        session = self._graphs[graph]
        names = [output.name for output in session.get_outputs()]
        for at in range(0, n, _AT_ONCE):
            images = np.stack([image_of(w) for w in range(at, min(at + _AT_ONCE, n))])
            heard += [is_heard(image) for image in images]
            for name, values in zip(names, session.run(None, {session.get_inputs()[0].name: images}), strict=True):
                found.setdefault(name, []).append(values)
        arrays = {name: np.concatenate(parts) for name, parts in found.items()}
        return Seen(arrays.pop("vectors"), arrays, np.array(heard, bool).reshape(n, N_SEGMENTS))

    def probabilities(self, midi: Seen, audio: Seen) -> Floats:
        """How sure it is that window w of the one belongs to window w of the other, [W] 0..1."""
        session, parts = self._graphs["match"], []
        for at in range(0, len(midi), _AT_ONCE):
            some = slice(at, at + _AT_ONCE)
            inputs = {f"midi_{k}": v[some] for k, v in (midi.arrays | {"vectors": midi.vectors}).items()}
            inputs |= {f"audio_{k}": v[some] for k, v in (audio.arrays | {"vectors": audio.vectors}).items()}
            parts.append(session.run(None, inputs)[0])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def match(self, score: Score, audio: Audio) -> Match:
        """How well a sound fits a score, in windows one after another.

        Raises: MiaoError if there is no window in which both have something.
        """
        length = max(score.duration, audio.duration)
        midi, sound = self.see_score(score, length), self.see_audio(audio)
        n = min(len(midi), len(sound))
        midi, sound = _first(midi, n), _first(sound, n)
        both = midi.is_heard & sound.is_heard
        worth = both.sum(axis=1) >= N_SEGMENTS // 4
        if not worth.any():
            raise MiaoError("nothing to compare: there is no moment with both notes and sound")
        chances = np.where(worth, self.probabilities(midi, sound), np.nan)
        alike = np.where(both, segment_cosines(midi.vectors, sound.vectors), np.nan)
        return Match(float(np.nanmean(chances)), chances.astype(np.float32), alike.reshape(-1).astype(np.float32))


def segment_cosines(midi: Floats, audio: Floats) -> Floats:
    """Cosines of vectors [W, V, width], as means over each segment: [W, N_SEGMENTS]."""
    each = (midi * audio).sum(axis=2) * midi.shape[1]
    each = np.repeat(each, max(N_SEGMENTS // each.shape[1], 1), axis=1)  # a net may see longer segments
    segments: Floats = each.reshape(len(each), N_SEGMENTS, -1).mean(axis=2)
    return segments


def piece_similarity(midi: Seen, audio: Seen) -> float:
    """Mean cosine over the segments in which both a piece and a clip have something; -1 if there are none."""
    n = min(len(midi), len(audio))
    both = midi.is_heard[:n] & audio.is_heard[:n]
    if not both.any():
        return -1.0
    return float(segment_cosines(midi.vectors[:n], audio.vectors[:n])[both].mean())


def best_place(midi: Seen, audio: Seen, hop_seconds: float) -> tuple[float, float]:
    """Where in a score a clip fits best: (mean cosine, seconds from the score's start).

    ``midi`` has windows every ``hop_seconds``, the clip every WINDOW_SECONDS.
    """
    stride = round(WINDOW_SECONDS / hop_seconds)
    best = (-1.0, 0.0)
    for first in range(max(len(midi) - stride * (len(audio) - 1), 1)):
        windows = midi.vectors[first::stride][: len(audio)], midi.is_heard[first::stride][: len(audio)]
        some = Seen(windows[0], {}, windows[1])
        best = max(best, (piece_similarity(some, audio), first * hop_seconds))
    return best


def _near(notes: Records, start: float) -> Records:
    return notes[(notes["start"] < start + WINDOW_SECONDS) & (notes["damp"] > start)] if len(notes) else notes


def _n_windows(seconds: float, hop_seconds: float) -> int:
    return max(int(np.ceil((seconds - 0.25) / hop_seconds)), 1)


def _first(seen: Seen, n: int) -> Seen:
    return Seen(seen.vectors[:n], {name: values[:n] for name, values in seen.arrays.items()}, seen.is_heard[:n])
