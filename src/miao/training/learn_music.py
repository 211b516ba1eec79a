"""A voice and its room learnt from music and its notes, by synthesis in the power domain.

What the notes of a program would make of each mel band (`measuring.power`) is compared with the recording, and four
things are fitted to bring them together: a gain, a filter and a noise floor by band; a room (level and decay of an
exponential tail by octave); and a shift of the program's levels by pitch, velocity, age and time since let go. A note's
own decay depends on its pitch and strength, the room's on neither: that is what tells them apart. All of it is one
smooth function of a few numbers and of no separation of notes, so that any polyphony goes, pedal included.

What is learnt at one pitch spreads to its neighbours, and shifts cost: the program is the prior, so that half a minute
of sound does no harm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from miao.arrays import Doubles, Flags, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.level_shift import AGES, SINCE, LevelShift, knot_shares
from miao.bank.voices import N_PITCHES, PITCH_NODES, SEMITONES_A_NODE, VoiceTable, pitch_hz
from miao.measuring.power import FRAME_SECONDS, LEVEL_PARTS, Courses, band_hz, cell_powers, noise_powers
from miao.sound.room import BAND_HZ
from miao.sound.spectrum import AUDIBLE_DB

_DB_A_NEPER = 10 / np.log(10)
_T60_SECONDS = (0.08, 8.0)
_TAIL_FRAMES = 160  # 3.7 s: by then a tail of 2 s has fallen by 110 dB, one of 6 s by 37


@dataclass(frozen=True)
class MusicConfig:
    """How a voice and a room are learnt from music."""

    room_steps: int = 120  # for gain, filter, floor and room alone, over all pieces
    steps: int = 90  # with the voice's levels, a piece each
    rate: float = 0.15  # in levels, and in steps of 2 dB
    smooth_semitones: float = 5.0  # what is learnt at one pitch spreads that far
    size: float = 0.02  # cost of a shift of one level, mean square
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """A recording and its notes as they will be compared."""

    courses: Courses
    heard_db: Floats  # [frames, bands] every second frame of `log_mel`, up to the recording's bandwidth
    others: Floats | None = None  # [frames, bands] power of instruments that are not learnt

    def part(self, first: int, last: int) -> "Piece":
        """Only its frames [first, last)."""
        courses = self.courses
        inside = (courses.frame >= first) & (courses.frame < last)
        arrays = {name: getattr(courses, name)[inside] for name in ("pitch", "velocity", "age", "since", "levels")}
        kept = Courses(min(last, courses.n_frames) - first, frame=courses.frame[inside] - np.int32(first), **arrays)
        others = None if self.others is None else self.others[first:last]
        return Piece(kept, self.heard_db[first:last], others)


@dataclass(frozen=True, eq=False)
class MusicFit:
    """What was learnt."""

    shift: LevelShift  # the filter in it
    t60_seconds: Doubles  # [9] by octave
    room_db: Doubles  # [9] energy of the tail against the direct sound
    known: Flags  # [9] octaves within the bandwidth
    gain_db: float
    floor_db: Doubles  # [bands]
    errors: dict[str, float] = field(default_factory=dict)  # dB: of pieces learnt from, by what was fitted


class _Music(nn.Module):
    """The parameters, and what they make of a piece."""

    def __init__(self, table: VoiceTable, voice: int, pitches: Integers, n_bands: int, config: MusicConfig) -> None:
        super().__init__()
        noise = noise_powers()
        self.n_bands = n_bands
        self.matrices = {int(p): torch.from_numpy(cell_powers(table, voice, int(p), noise)[:, :n_bands])
                         for p in np.unique(pitches)}  # fmt: skip
        hz = band_hz()[:n_bands]
        octaves = np.interp(np.log2(hz), np.log2(BAND_HZ), np.arange(len(BAND_HZ)))
        near = np.clip(1 - np.abs(octaves[:, None] - np.arange(len(BAND_HZ))), 0, 1)
        self.octave_shares = torch.from_numpy(near.astype(np.float32))  # [bands, 9]
        first, last = int(pitches.min() // SEMITONES_A_NODE), int(-(-pitches.max() // SEMITONES_A_NODE))
        n = last - first + 1
        self.node = torch.arange(PITCH_NODES).clamp(first, last) - first
        distance = SEMITONES_A_NODE * (torch.arange(n)[:, None] - torch.arange(n)[None])
        spread = torch.exp(-0.5 * (distance / config.smooth_semitones).square())
        self.near = spread / spread.sum(dim=1, keepdim=True)
        place = torch.arange(N_PITCHES).clamp(max=N_PITCHES - 2) / SEMITONES_A_NODE
        low = place.floor().long().clamp(max=PITCH_NODES - 2)
        self.low, self.share = low, (place - low)[:, None]
        self.held = nn.Parameter(torch.zeros(len(AGES), 2, n + 1, tk.PITCH_CELL))  # the last is for all pitches
        self.let_go = nn.Parameter(torch.zeros(len(SINCE) - 1, n + 1, tk.PITCH_CELL))
        self.filter = nn.Parameter(torch.zeros(n_bands))  # in units of 2 dB, as all of these
        self.gain = nn.Parameter(torch.zeros(()))
        self.floor = nn.Parameter(torch.zeros(n_bands))
        self.tail = nn.Parameter(torch.full((len(BAND_HZ),), -6.0))  # of the first frame of the tail, in 2 dB
        self.decay = nn.Parameter(torch.full((len(BAND_HZ),), float(np.log(0.8))))  # logarithm of T60
        self.middle_velocity = 0.5

    def at_nodes(self, values: Tensor) -> Tensor:
        """Parameters [..., n + 1, C] at all pitch nodes."""
        return (self.near @ values[..., :-1, :] + values[..., -1:, :])[..., self.node, :]

    def dry(self, piece: "_Ready", with_shift: bool) -> Tensor:
        """Power of the notes, [frames, bands]."""
        levels = piece.levels
        if with_shift:
            held, let_go = self.at_nodes(self.held), self.at_nodes(self.let_go)  # [A, 2, N, C], [S - 1, N, C]
            held = torch.lerp(held[:, :, self.low], held[:, :, self.low + 1], self.share)
            let_go = torch.lerp(let_go[:, self.low], let_go[:, self.low + 1], self.share)
            shift = torch.zeros_like(levels)
            for knot, share in ((piece.age_knot, 1 - piece.age_share), (piece.age_knot + 1, piece.age_share)):
                both = held[knot, :, piece.pitch]  # [n, 2, C]
                shift = shift + share[:, None] * (both[:, 0] + piece.force[:, None] * both[:, 1])
            ends = torch.cat([torch.zeros_like(let_go[:1]), let_go])
            rows = piece.released
            for offset, share in ((0, 1 - piece.since_share), (1, piece.since_share)):
                more = share[:, None] * ends[piece.since_knot + offset, piece.pitch[rows]]
                shift = shift.index_add(0, rows, more)
            levels = torch.where(levels < 0.5, levels, (levels + shift).clamp(0.5, tk.N_LEVELS - 1))
        power = torch.exp((tk.LEVEL_TOP_DB + (levels - (tk.N_LEVELS - 1)) * tk.LEVEL_STEP_DB) / _DB_A_NEPER)
        power = power * (levels >= 0.5)
        if not piece.spans:
            return piece.others
        bands = torch.cat([power[a:b] @ self.matrices[p] for p, a, b in piece.spans])
        return piece.others.index_add(0, piece.frame, bands)

    def times(self) -> Tensor:
        """T60 of each octave, seconds."""
        low, high = np.log(_T60_SECONDS)
        return torch.exp(self.decay.clamp(float(low), float(high)))

    def heard_db(self, dry: Tensor) -> Tensor:
        """What a microphone would hear of it, dB [frames, bands]: filter, room, floor, gain."""
        rate = 6 * np.log(10) * FRAME_SECONDS / (self.octave_shares @ self.times())  # [bands]
        frames = torch.arange(_TAIL_FRAMES)[:, None]
        tail = torch.exp((self.octave_shares @ self.tail)[None] * (2 / _DB_A_NEPER) - rate[None] * frames)
        n = dry.shape[0] + _TAIL_FRAMES
        wet = torch.fft.irfft(torch.fft.rfft(dry, n, dim=0) * torch.fft.rfft(tail, n, dim=0), n, dim=0)
        wet = torch.cat([torch.zeros_like(wet[:1]), wet[: dry.shape[0] - 1]]).clamp(min=0)
        sound = (dry + wet) * torch.exp((2 / _DB_A_NEPER) * (self.filter + self.gain))
        levels: Tensor = _DB_A_NEPER * torch.log(sound + torch.exp((2 / _DB_A_NEPER) * self.floor) + 1e-14)
        return levels

    def penalty(self, config: MusicConfig) -> Tensor:
        """What shifts cost, and what a rough filter does."""
        sizes = self.held[..., :-1, :].square().mean() + 0.3 * self.held[..., -1, :].square().mean()
        ends = self.let_go.square().mean()
        rough = (
            self.filter.diff().square().mean() + self.tail.diff().square().mean() + self.decay.diff().square().mean()
        )
        return config.size * (sizes + ends) + 0.02 * rough


class _Ready:
    """A piece as tensors, its pairs by pitch."""

    def __init__(self, piece: Piece, middle_velocity: float) -> None:
        courses = piece.courses
        order = np.argsort(courses.pitch, kind="stable")
        self.n_frames = courses.n_frames
        self.frame = torch.from_numpy(courses.frame[order].astype(np.int64))
        self.pitch = torch.from_numpy(courses.pitch[order].astype(np.int64))
        self.levels = torch.from_numpy(courses.levels[order].astype(np.float32) / LEVEL_PARTS)
        self.force = torch.from_numpy(courses.velocity[order] - np.float32(middle_velocity))
        self.age_knot, self.age_share = _knots(courses.age[order], AGES)
        since = courses.since[order]
        self.released = torch.from_numpy(np.flatnonzero(since >= 0))
        self.since_knot, self.since_share = _knots(since[since >= 0], SINCE)
        pitches, starts = np.unique(courses.pitch[order], return_index=True)
        stops = [*starts[1:].tolist(), len(order)]
        self.spans = list(zip(pitches.tolist(), starts.tolist(), stops, strict=True))
        self.heard = torch.from_numpy(piece.heard_db)
        self.others = torch.zeros_like(self.heard) if piece.others is None else torch.from_numpy(piece.others)
        self.threshold = float(piece.heard_db.max()) - AUDIBLE_DB

    def error(self, predicted_db: Tensor) -> Tensor:
        """The log-mel error, as `spectrum.log_mel_error` defines it."""
        audible = (self.heard >= self.threshold) | (predicted_db.detach() >= self.threshold)
        difference = predicted_db.clamp(min=self.threshold) - self.heard.clamp(min=self.threshold)
        return difference.abs()[audible].mean()


def _knots(times: Reals, knots: Doubles) -> tuple[Tensor, Tensor]:
    """The knot before each time, and how far it is from there to the next."""
    shares = knot_shares(times, knots)
    low = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    return torch.from_numpy(low), torch.from_numpy(np.take_along_axis(shares, low[:, None] + 1, axis=1)[:, 0])


class Fitted:
    """A fit in the making or made: it tells how far pieces are off, by what is fitted so far."""

    def __init__(self, bank: Bank, program: int, pieces: Sequence[Piece], config: MusicConfig) -> None:
        torch.manual_seed(config.seed)
        self.bank, self.program, self.config = bank, program, config
        pitches = np.concatenate([p.courses.pitch for p in pieces])
        weights = np.concatenate([p.courses.velocity for p in pieces])
        self.music = _Music(bank.table, program, pitches, pieces[0].heard_db.shape[1], config)
        self.music.middle_velocity = float(weights.mean())
        self.ready = [_Ready(piece, self.music.middle_velocity) for piece in pieces]

    def learn(self, tell: Callable[[float], None] = lambda done: None) -> dict[str, float]:
        """Fit; the errors on the pieces learnt from after each stage, dB."""
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._learn(tell)
        finally:
            torch.set_num_threads(n_threads)

    def _learn(self, tell: Callable[[float], None]) -> dict[str, float]:
        music, config = self.music, self.config
        with torch.no_grad():
            dry = [music.dry(piece, False) for piece in self.ready]
            music.gain.add_(float(np.median([_gain_db(p, d) for p, d in zip(self.ready, dry, strict=True)])) / 2)
            music.floor.add_(torch.stack([p.heard.quantile(0.02, dim=0) for p in self.ready]).median(dim=0).values / 2)
        errors = {"gain": float(np.mean([_one_gain(p, d) for p, d in zip(self.ready, dry, strict=True)]))}
        room = [music.filter, music.gain, music.floor, music.tail, music.decay]
        optimizer = torch.optim.Adam(room, lr=config.rate, betas=(0.9, 0.98))
        for step in range(config.room_steps):
            at = step % len(self.ready)
            loss = self.ready[at].error(music.heard_db(dry[at])) + music.penalty(config)
            _step(optimizer, loss, config.rate, step, config.room_steps)
            tell(0.25 * (step + 1) / config.room_steps)
        errors["room"] = self.error(with_shift=False)
        groups = [{"params": [music.held, music.let_go]}, {"params": room}]
        optimizer = torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
        order: list[int] = []
        rng = np.random.default_rng(config.seed)
        for step in range(config.steps):
            order = order or rng.permutation(len(self.ready)).tolist()
            piece = self.ready[order.pop()]
            loss = piece.error(music.heard_db(music.dry(piece, True))) + music.penalty(config)
            _step(optimizer, loss, config.rate, step, config.steps)
            tell(0.25 + 0.75 * (step + 1) / config.steps)
        errors["all"] = self.error(with_shift=True)
        return errors

    def error(self, pieces: Sequence[Piece] | None = None, *, with_shift: bool = True) -> float:
        """Mean error of pieces, those learnt from by default, dB."""
        ready = self.ready if pieces is None else [_Ready(p, self.music.middle_velocity) for p in pieces]
        with torch.no_grad():
            return float(np.mean([float(p.error(self.music.heard_db(self._dry(p, with_shift)))) for p in ready]))

    def one_gain_error(self, pieces: Sequence[Piece]) -> float:
        """Mean error of pieces as the program plays them, dry, each with the gain that suits it best, dB."""
        ready = [_Ready(p, self.music.middle_velocity) for p in pieces]
        with torch.no_grad():
            return float(np.mean([_one_gain(p, self._dry(p, False)) for p in ready]))

    def _dry(self, piece: _Ready, with_shift: bool) -> Tensor:
        known = self.music.matrices
        missing = [p for p, _, _ in piece.spans if p not in known]
        noise = noise_powers() if missing else np.zeros(0)
        for pitch in missing:
            powers = cell_powers(self.bank.table, self.program, pitch, noise)
            known[pitch] = torch.from_numpy(powers[:, : self.music.n_bands])
        return self.music.dry(piece, with_shift)

    def result(self, bandwidth_hz: float) -> MusicFit:
        """What was learnt, the filter as part of the voice's levels."""
        music = self.music
        with torch.no_grad():
            held, let_go = music.at_nodes(music.held).numpy(), music.at_nodes(music.let_go).numpy()
            filter_db, t60 = 2 * music.filter.numpy(), music.times().numpy().astype(np.float64)
            first = 2 * music.tail.numpy().astype(np.float64)
            gain, floor = 2 * float(music.gain), 2 * music.floor.numpy().astype(np.float64)
        held = held.copy()
        held[:, 0] += self._filter_of_cells(filter_db - np.median(filter_db))[None] / tk.LEVEL_STEP_DB
        let_go = np.concatenate([np.zeros_like(let_go[:1]), let_go])
        shift = LevelShift(held.astype(np.float16), let_go.astype(np.float16),
                           np.array([music.middle_velocity], np.float32))  # fmt: skip
        rate = 6 * np.log(10) * FRAME_SECONDS / t60
        energy = first - 10 * np.log10(1 - np.exp(-rate))
        return MusicFit(shift, t60, energy, bandwidth_hz >= 1.4 * BAND_HZ, gain + float(np.median(filter_db)), floor)

    def _filter_of_cells(self, filter_db: Reals) -> Floats:
        """The filter at the frequencies of each cell at each pitch node, dB [PITCH_NODES, C - 1]; above the bands known
        as in the highest of them."""
        bands = band_hz()[: len(filter_db)]
        middles = np.sqrt(tk.NOISE_EDGES_HZ[:-1] * tk.NOISE_EDGES_HZ[1:])
        found = np.zeros((PITCH_NODES, tk.PITCH_CELL), np.float32)
        for node in range(PITCH_NODES):
            pitch = min(node * SEMITONES_A_NODE, N_PITCHES - 1)
            partials = self.bank.table.partials(self.program, pitch)
            weight = partials.spread.sum(axis=1)
            hz = (partials.spread @ partials.ratios) / np.maximum(weight, 1e-6) * float(pitch_hz(pitch))
            found[node] = np.interp(np.log(np.concatenate([np.maximum(hz, 20), middles])), np.log(bands), filter_db)
        return found


def _gain_db(piece: _Ready, dry: Tensor) -> float:
    """How much louder the recording is, dB."""
    played = _DB_A_NEPER * torch.log(dry + 1e-14)
    loud = (piece.heard > piece.heard.max() - 40) & (played > played.max() - 40)
    return float((piece.heard - played)[loud].median()) if bool(loud.any()) else 0.0


def _one_gain(piece: _Ready, dry: Tensor) -> float:
    """The error with the gain that suits best, dB."""
    played, middle = _DB_A_NEPER * torch.log(dry + 1e-14), _gain_db(piece, dry)
    return min(float(piece.error(played + middle + off)) for off in np.arange(-6, 6.5, 0.5).tolist())


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * min((step + 1) / 8, 0.5 + 0.5 * float(np.cos(np.pi * step / steps)))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
