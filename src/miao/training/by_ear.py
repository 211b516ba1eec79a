"""Drums learnt by ear: what is added to the levels that nets write, until the sound is as near as can be to a teacher.

Measured tokens lose what a short frame cannot tell: of a click what is tone, of a tone that dies within a tenth of a
second how it dies. So a drum is played here as the engine plays it, in torch, its phases and its noise drawn anew each
time, and the error of its log-mel spectrogram is led back to the levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from miao.arrays import Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.drums import DrumCorrections, OwnCorrections
from miao.bank.learnt_voice import N_INDICES, STEP_KNOTS, knot_weights
from miao.bank.voices import drum_voice
from miao.datasets.notes import Source, render
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.synth import band_noise, oscillators
from miao.synth.chunks import heard_cells
from miao.synth.note import ONSET_SECONDS, timbre
from miao.training.bank_nets import bank_nets

VELOCITIES = (24, 62, 98, 125)  # errors are measured at 45, 80 and 115
_LOUD_DB = 0.5  # by which a stroke may be louder or softer at no cost
_GONE_SECONDS = 0.005  # after its end nothing is left of a stroke
_AFTER_SECONDS = 0.2  # behind a stroke, that are to be silent
_AT_ONCE = 2  # strokes of a step
_LEAST_GAIN_DB = 0.05  # that corrections are kept for
_SILENT = 1e-5
_FLOOR = 1e-6  # amplitude of partials that are left out


@dataclass(frozen=True)
class EarConfig:
    """How drums are learnt by ear."""

    steps: int = 60
    rate: float = 0.4  # levels a step
    size: float = 0.01  # cost of a correction of one level, dB
    loudness: float = 0.3  # cost of a dB too loud or too soft, dB
    most_seconds: float = 1.4  # of a stroke that is listened to
    seed: int = 0


@dataclass(frozen=True)
class Stroke:
    """A stroke of a teacher's drum."""

    velocity: int
    sound: Floats  # [2, S]


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a drum, as in `bank.drums.DrumCorrections`."""

    attack: NDArray[np.float16]  # [knots, 2, C]
    sustain: NDArray[np.float16]  # [indices, knots, 2, C]


class _Player(nn.Module):
    """A drum as the engine plays it, at all strengths at once, with gradients for its corrections."""

    def __init__(self, bank: Bank, nets: Sequence[nn.Module], voice: int, key: int, velocities: Sequence[int],
                 n_samples: int) -> None:  # fmt: skip
        super().__init__()
        assert bank.embeddings is not None
        n, self._width, self._nets = len(velocities), bank.context_width, nets
        self._pitch = torch.full((n,), float(key))
        self._velocity = torch.tensor([v / 127 for v in velocities])
        told = [bank.embeddings.at(kind, np.full(n, voice), np.full(n, key, np.float32)) for kind in range(2)]
        self._told = [[torch.from_numpy(array) for array in some] for some in told]
        self._weights = [torch.from_numpy(knot_weights(kind)) for kind in range(2)]
        keys = bank.additions.key_levels
        attack, sustain = (bank.additions.drums or DrumCorrections.none(bank.embeddings.n_voices)).at(voice)
        self.attack = nn.Parameter(torch.from_numpy(attack)[None])  # [1, knots, 2, C]
        self.sustain = nn.Parameter(torch.from_numpy(sustain))  # [indices, knots, 2, C]
        nothing = np.zeros((len(tk.STEP_SECONDS), tk.N_CELLS - 1), np.float32)
        self._shift = torch.from_numpy(nothing if keys is None else keys.of_key(voice, key))
        chunk_seconds = tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.SUSTAIN]
        self._n_sustains = int(np.ceil(max(n_samples / SAMPLE_RATE - tk.ATTACK_SECONDS, 0) / chunk_seconds))
        self._timbre, self._n_samples = timbre(bank.table, None, voice, key, SAMPLE_RATE), n_samples
        held = tk.held_times(1 + self._n_sustains)
        knots = np.concatenate([[0.0, ONSET_SECONDS], held[1:], [held[-1] + tk.STEP_SECONDS[tk.SUSTAIN]]])
        moments = np.arange(n_samples) / SAMPLE_RATE
        self._lines = _lines(knots, moments)
        self._noise_lines = _lines(knots, np.maximum(moments - oscillators.GRID / SAMPLE_RATE, 0))  # it comes later

    def hush(self, seconds: float) -> None:
        """Let nothing sound from knots on that lie behind a moment: nets go on for longer than a click does."""
        for kind, corrections in ((tk.ATTACK, self.attack), (tk.SUSTAIN, self.sustain)):
            for index in range(len(corrections)):
                start = tk.ATTACK_SECONDS + index * tk.CHUNK_STEPS * tk.STEP_SECONDS[kind] if kind else 0.0
                knots = STEP_KNOTS[kind]
                for n in range(len(knots)):
                    if start + knots[max(n - 1, 0)] * tk.STEP_SECONDS[kind] > seconds:  # nothing before is moved by it
                        corrections[index, n, 0, : tk.PITCH_CELL] = -tk.N_LEVELS

    def levels(self, some: Tensor) -> Tensor:
        """What is heard of some strokes, row after row: [n, rows, C - 1], a silent one first and last."""
        n = len(some)
        last, rows, age = torch.zeros(n, tk.N_CELLS), [], 0.0
        force = (self._velocity[some] - 0.5)[:, None, None]
        for number in range(1 + self._n_sustains):
            kind, index = (tk.SUSTAIN, number - 1) if number else (tk.ATTACK, 0)
            out = self._nets[kind](
                *(told[some] for told in self._told[kind]), self._pitch[some], self._velocity[some],
                torch.full((n,), min(index, tk.MAX_CHUNK_INDEX)), torch.full((n,), age), last,
                torch.zeros(n, self._width),
            )[0]  # fmt: skip
            table = (self.sustain if kind else self.attack)[min(index, N_INDICES[kind] - 1)]  # [knots, 2, C]
            knots = table[None, :, 0] + force * table[None, :, 1]
            out = (out + torch.einsum("ak,bkc->bac", self._weights[kind], knots)).clamp(0, tk.N_LEVELS - 1)
            last, cells = out[:, -1], out[..., : tk.PITCH_CELL]
            is_heard = torch.from_numpy(heard_cells(out.detach().numpy()))[:, None, : tk.PITCH_CELL]
            moved = (cells + self._shift[kind]).clamp(0.5, tk.N_LEVELS - 1)
            rows.append(torch.where((cells >= 0.5) & (is_heard > 0), moved, torch.zeros(())))
            age += tk.CHUNK_STEPS * tk.STEP_SECONDS[kind]
        silent = torch.zeros(n, 1, tk.PITCH_CELL)
        return torch.cat([silent, *rows, silent], dim=1)

    def forward(self, some: Tensor, rng: np.random.Generator) -> Tensor:
        """The sound of some strokes, [n, 2, S], with phases and noise that are drawn."""
        levels, sound = self.levels(some), self._timbre
        db = tk.LEVEL_TOP_DB + (levels - (tk.N_LEVELS - 1)) * tk.LEVEL_STEP_DB
        amplitude = torch.where(levels >= 0.5, torch.exp(db * (np.log(10) / 20)), torch.zeros(()))
        cells = torch.from_numpy(sound.cells.astype(np.int64))  # modes have a cell each
        loudest = amplitude.detach().amax(dim=(0, 1))
        audible = torch.nonzero(loudest[cells] > _FLOOR)[:, 0]
        cycles = np.outer(sound.hz * sound.ratios[audible.numpy()], np.arange(self._n_samples) / SAMPLE_RATE)
        cycles += rng.random((len(audible), 1))
        sines = torch.from_numpy(np.sin(2 * np.pi * (cycles % 1)).astype(np.float32).T)  # [S, P]
        tones = _between(amplitude[:, :, cells[audible]], *self._lines) * sines  # [n, S, P]
        heard = (tones @ torch.from_numpy(sound.gains[:, :2])[audible]).transpose(1, 2)
        noisy = torch.nonzero(loudest[tk.N_PARTIALS :] > _FLOOR)[:, 0]
        bands = _between(amplitude[:, :, tk.N_PARTIALS + noisy], *self._noise_lines)  # [n, S, N]
        sides = []
        for side in range(2):
            if side == 0 or sound.is_wide:
                loops = bands * _read_noise(rng, noisy.numpy(), self._n_samples)
            sides.append(loops @ torch.from_numpy(sound.balance[noisy.numpy(), side]))
        return heard + torch.stack(sides, dim=1)


def _lines(knots: Doubles, moments: Doubles) -> tuple[Tensor, Tensor]:
    """Between which knots some moments lie, and how far on: [S], [S, 1]."""
    at = np.clip(np.searchsorted(knots, moments, side="right") - 1, 0, len(knots) - 2)
    share = np.clip((moments - knots[at]) / (knots[at + 1] - knots[at]), 0, 1)
    return torch.from_numpy(at), torch.from_numpy(share.astype(np.float32))[:, None]


def _between(rows: Tensor, at: Tensor, share: Tensor) -> Tensor:
    return rows[:, at] * (1 - share) + rows[:, at + 1] * share


@cache
def _noise() -> Floats:
    return band_noise.noise_table(tk.NOISE_EDGES_HZ, SAMPLE_RATE, seed=0)


def _read_noise(rng: np.random.Generator, bands: Integers, n_samples: int) -> Tensor:
    """Noise of some bands, each read from anywhere, [S, N]."""
    table = _noise()[bands]
    places = rng.integers(0, table.shape[1], len(table))[:, None] + np.arange(n_samples)
    return torch.from_numpy(np.take_along_axis(table, places & (table.shape[1] - 1), axis=1).T)


def log_mel(sounds: Tensor) -> Tensor:
    """`spectrum.log_mel` of sounds [n, 2, S], with gradients: [n, frames, N_MELS]."""
    size, half = spectrum.FRAME_SAMPLES, spectrum.FRAME_SAMPLES // 2
    window = torch.from_numpy(np.hanning(size + 1)[:-1].astype(np.float32))
    frames = nn.functional.pad(sounds, (half, half)).unfold(2, size, spectrum.HOP_SAMPLES)
    bins = torch.fft.rfft(frames * (window * (2 / window.sum())))
    power = torch.view_as_real(bins).square().sum(dim=-1).mean(dim=1)
    return 10 * torch.log10((power @ torch.from_numpy(spectrum.mel_filters()).T).clamp(min=1e-14))


def _error(theirs: Tensor, ours: Tensor) -> Tensor:
    """`spectrum.log_mel_error` of each sound, with gradients: [n]."""
    threshold = theirs.amax(dim=(1, 2), keepdim=True) - spectrum.AUDIBLE_DB
    audible = ((theirs >= threshold) | (ours >= threshold)).float()
    difference = (torch.maximum(theirs, threshold) - torch.maximum(ours, threshold)).abs()
    return (difference * audible).sum(dim=(1, 2)) / audible.sum(dim=(1, 2)).clamp(min=1)


def _energy_db(sounds: Tensor) -> Tensor:
    return 10 * torch.log10(sounds.square().sum(dim=(1, 2)) + 1e-12)


def learn_by_ear(bank: Bank, nets: Sequence[nn.Module], voice: int, key: int, strokes: Sequence[Stroke],
                 config: EarConfig) -> Learnt:  # fmt: skip
    """The corrections with which a drum comes nearest to some strokes of its teacher's. ``nets``: `bank_nets`."""
    rng = np.random.default_rng(config.seed)
    longest = max(stroke.sound.shape[1] for stroke in strokes)
    n_samples = min(longest + int(_AFTER_SECONDS * SAMPLE_RATE), int(config.most_seconds * SAMPLE_RATE))
    player = _Player(bank, nets, voice, key, [stroke.velocity for stroke in strokes], n_samples)
    wanted = torch.zeros(len(strokes), 2, n_samples)
    for n, stroke in enumerate(strokes):
        sound = torch.from_numpy(np.ascontiguousarray(stroke.sound[:, :n_samples]))
        wanted[n, :, : sound.shape[1]] = sound
    with torch.no_grad():
        player.hush(longest / SAMPLE_RATE + _GONE_SECONDS)
    start = [p.detach().clone() for p in player.parameters()]
    optimizer = torch.optim.Adam(player.parameters(), lr=config.rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, 0.05 * config.rate)
    loud = _energy_db(wanted)
    for _ in range(config.steps):
        some = torch.from_numpy(rng.permutation(len(strokes))[:_AT_ONCE])
        early = int(rng.integers(0, spectrum.HOP_SAMPLES))  # frames lie anywhere
        around = (early, spectrum.FRAME_SAMPLES - early)
        ours = player(some, rng)
        theirs, own = (log_mel(nn.functional.pad(sounds, around)) for sounds in (wanted[some], ours))
        off = ((loud[some] - _energy_db(ours)).abs() - _LOUD_DB).clamp(min=0)
        moved = [(p - s).abs().mean() for p, s in zip(player.parameters(), start, strict=True)]
        loss = (_error(theirs, own) + config.loudness * off).mean() + config.size * torch.stack(moved).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return Learnt(*(p.detach().numpy().astype(np.float16) for p in (player.attack[0], player.sustain)))


def played_error(bank: Bank, source: Source, strokes: Sequence[Stroke]) -> float:
    """Mean log-mel error of a drum's strokes as a bank plays them, dB."""
    assert source.key is not None
    errors = []
    for stroke in strokes:
        seconds = stroke.sound.shape[1] / SAMPLE_RATE
        ours = play(bank, one_note_score(drum_voice(source.key), source.key, stroke.velocity, seconds, source.program))
        more = max(stroke.sound.shape[1], ours.shape[1]) + spectrum.FRAME_SAMPLES
        mels = [spectrum.log_mel(np.pad(x, ((0, 0), (0, more - x.shape[1])))) for x in (stroke.sound, ours)]
        errors.append(spectrum.log_mel_error(*mels))
    return float(np.mean(errors))


def prepare_ear(font: Path, folder: Path, bank: Bank, drums: Mapping[int, Source], config: EarConfig) -> Iterator[Path]:
    """`learn_by_ear` of drums of a bank without own corrections into ``ear_NNN.npz``, with their errors as played
    before and after; what is there for the same levels is kept. Raises: DataError."""
    teacher, nets = SoundFont(font), bank_nets(bank)
    make_folder(folder, DataError)
    for voice, source in drums.items():
        target, key = folder / f"ear_{voice:03d}.npz", source.key
        assert key is not None
        shifts = np.zeros(0) if bank.additions.key_levels is None else bank.additions.key_levels.of_key(voice, key)
        if not target.exists() or not np.array_equal(np.load(target)["shifts"], shifts):
            sounds = [(velocity, render(teacher, source, key, velocity, 1.0)) for velocity in VELOCITIES]
            strokes = [Stroke(v, sound) for v, sound in sounds if np.abs(sound).max(initial=0.0) >= _SILENT]
            if not strokes:
                continue
            learnt = learn_by_ear(bank, nets, voice, key, strokes, config)
            before = played_error(bank, source, strokes)
            after = played_error(bank.with_own_drums(_own({voice: learnt})), source, strokes)
            write_arrays(target, {"attack": learnt.attack, "sustain": learnt.sustain, "shifts": shifts,
                                  "errors": np.array([before, after])}, DataError)  # fmt: skip
        yield target


def gathered(folder: Path, drums: Mapping[int, Source]) -> OwnCorrections:
    """The corrections of drums from a folder of ``ear_NNN.npz``, of those that they bring nearer."""
    found = {}
    for voice in sorted(drums):
        path = folder / f"ear_{voice:03d}.npz"
        if path.exists():
            with np.load(path) as file:
                before, after = file["errors"]
                if after < before - _LEAST_GAIN_DB:
                    found[voice] = Learnt(file["attack"], file["sustain"])
    return _own(found)


def _own(found: Mapping[int, Learnt]) -> OwnCorrections:
    attack, sustain = ([getattr(learnt, name) for learnt in found.values()] for name in ("attack", "sustain"))
    return OwnCorrections.of(list(found), attack, sustain)
