"""The paper's peers by name: their settings, their training, their sound.

    inverter   no peer, but what two of them make sound with (inverter.py)
    midi2wave  Shi et al. 2023 (midi2wave.py)
    midi-ddsp  Wu et al. 2022 (midi_ddsp.py)
    mi-ddpm    Hawthorne et al. 2022 (mi_ddpm.py)

All are trained by the one Trainer, on pairs that keep their sound. A run's folder holds all that is needed to play, but
for midi2wave and mi-ddpm the inverter: that is the run called "inverter" in the same folder.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from miao.arrays import Floats, Records
from miao.config import load_preset, preset_table
from miao.datasets.pairs import Pair
from miao.errors import CheckpointError, ConfigError
from miao.peers import NEED_INVERTER
from miao.peers.inputs import HOP_SAMPLES, PeerBatchConfig, PeerBatches, sound_mel
from miao.peers.inverter import Inverter, InverterConfig, InverterObjective, invert
from miao.peers.mi_ddpm import MiDdpm, MiDdpmConfig, MiDdpmObjective
from miao.peers.mi_ddpm_sampling import sample_mel
from miao.peers.midi2wave import Midi2Wave, Midi2WaveConfig, Midi2WaveObjective, predict_mel
from miao.peers.midi_ddsp import MidiDdsp, MidiDdspConfig, MidiDdspObjective
from miao.peers.midi_ddsp_playing import render_midi_ddsp
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.trainer import TrainConfig, Trainer, loaded, under

Mono = Floats  # [S] at 44.1 kHz


@dataclass(frozen=True)
class PeerName:
    """Says in a preset and in a run whose settings they are."""

    name: str = ""


@dataclass(frozen=True)
class _Kind:
    """What there is to know of one peer."""

    config: type  # of its net; the group [model]
    net: Callable[[Any], nn.Module]
    objective: Callable[[Any, str], nn.Module]

    def run_config(self) -> type:
        """All settings of a run, as a dataclass."""
        groups = {"peer": PeerName, "model": self.config, "batch": PeerBatchConfig, "train": TrainConfig}
        return make_dataclass("PeerRunConfig", [(name, kind, field(default_factory=kind))
                                                for name, kind in groups.items()], frozen=True)  # fmt: skip


KINDS = {
    "inverter": _Kind(InverterConfig, Inverter, InverterObjective),
    "midi2wave": _Kind(Midi2WaveConfig, Midi2Wave, Midi2WaveObjective),
    "midi-ddsp": _Kind(MidiDdspConfig, MidiDdsp, MidiDdspObjective),
    "mi-ddpm": _Kind(MiDdpmConfig, MiDdpm, MiDdpmObjective),
}


def peer_of(preset: str) -> str | None:
    """Which peer's settings a preset holds; None if it is the paper's own scheme. Raises: ConfigError."""
    group = preset_table(preset).get("peer", {})
    name = group.get("name") if isinstance(group, dict) else group
    if name is not None and name not in KINDS:
        raise ConfigError(f'{preset}: there is no peer "{name}"; there are {", ".join(KINDS)}')
    return name


def peer_trainer(preset: str, changes: tuple[str, ...], folder: Path, pairs: Path, fabric: Fabric | None = None
                 ) -> Trainer:  # fmt: skip
    """A run of the peer that a preset names. Raises: ConfigError, DataError."""
    name = peer_of(preset)
    if name is None:
        raise ConfigError(f"{preset}: names no peer")
    kind = KINDS[name]
    config: Any = load_preset(kind.run_config(), preset, changes)
    torch.manual_seed(config.train.seed)
    objective: Any = kind.objective(config.model, config.train.precision)

    def batches(lanes: range, first: int) -> PeerBatches:
        return PeerBatches(config.batch, pairs, objective.collate, lanes, first)

    return Trainer(config, folder, objective, batches, fabric)


@torch.no_grad()
def held_out_losses(trainer: Trainer, pairs: list[Pair]) -> dict[str, float]:
    """What the averaged net loses on pairs that it has not seen, by name, means over batches."""
    config = trainer.config
    objective: Any = KINDS[config.peer.name].objective(config.model, config.train.precision)
    objective.model.load_state_dict(under("model.", trainer.average))
    objective.eval()
    sums: dict[str, float] = {}
    firsts = range(0, len(pairs), config.batch.pairs)
    for first in firsts:
        batch = objective.collate(pairs[first : first + config.batch.pairs], np.random.default_rng(first))
        for name, value in objective(batch, 0).items():
            sums[name] = sums.get(name, 0.0) + float(value) / len(firsts)
    return sums


@dataclass(frozen=True, eq=False)
class Peer:
    """A trained peer that plays."""

    name: str
    net: Any
    inverter: Inverter | None  # of those that need one

    @property
    def n_parameters(self) -> int:
        """Of all nets that make the sound."""
        nets = [self.net, *([self.inverter] if self.inverter is not None else [])]
        return sum(p.numel() for net in nets for p in net.parameters())

    def play(self, tracks: list[Records], seconds: float) -> list[Mono]:
        """The sound of tracks (PAIR_NOTE, one instrument each, times from the start), mono and dry."""
        n_samples = round(seconds * SAMPLE_RATE)
        if self.name == "midi-ddsp":
            return [_fitted(render_midi_ddsp(self.net, notes, seconds), n_samples) for notes in tracks]
        n_rows = -(-n_samples // HOP_SAMPLES)
        if self.name == "midi2wave":
            mels = [predict_mel(self.net, notes, n_rows) for notes in tracks]
        else:
            mels = sample_mel(self.net, tracks, n_rows * HOP_SAMPLES / SAMPLE_RATE)
        assert self.inverter is not None
        return [_fitted(invert(self.inverter, mel), n_samples) for mel in mels]


def again(inverter: Inverter, sound: Mono) -> Mono:
    """A sound made again from its own mel spectrogram: the most that a peer with this inverter can reach."""
    padded = np.pad(sound, (0, -len(sound) % HOP_SAMPLES))
    return invert(inverter, sound_mel(padded))[: len(sound)]


def load_peer(run: Path) -> Peer:
    """The peer of a training run, with the inverter of the run called "inverter" beside it if it needs one.

    Raises: CheckpointError.
    """
    name = _name_in(run)
    net = loaded(run, KINDS[name].run_config(), "model", lambda config: KINDS[name].net(config.model))
    inverter = load_inverter(run.parent / "inverter") if name in NEED_INVERTER else None
    return Peer(name, net, inverter)


def load_inverter(run: Path) -> Inverter:
    """The inverter of a training run. Raises: CheckpointError."""
    if _name_in(run) != "inverter":
        raise CheckpointError(f"{run}: is a run of {_name_in(run)}, not of an inverter")
    inverter: Inverter = loaded(run, KINDS["inverter"].run_config(), "model", lambda config: Inverter(config.model))
    return inverter


def _name_in(run: Path) -> str:
    """Whose run it is."""
    try:
        name: str = tomllib.loads((run / "config.toml").read_text()).get("peer", {}).get("name", "")
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{run}: no run of a peer ({error}); train one with `miao train`") from None
    if name not in KINDS:
        raise CheckpointError(f"{run}: no run of a peer; its config.toml names none of {', '.join(KINDS)}")
    return name


def _fitted(sound: Mono, n_samples: int) -> Mono:
    return np.pad(sound, (0, max(n_samples - len(sound), 0)))[:n_samples]
