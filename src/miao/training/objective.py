"""What is learnt: the three losses over one batch, and the state that they need beside the nets.

One forward pass of the costly parts serves all three: the MIDI encoder gives contexts to AM, embeddings to MAC and
tokens to MAM; the audio encoder's convolutions run once a window, only its cross-attention runs for each pair that is
matched.
"""

import copy
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from miao.bank import tokens as tk
from miao.bank.frames import WINDOW_TOKENS
from miao.config import Count, Range, Share, Weight, Whole, check
from miao.nets.layers import gathered_from_processes, n_processes, summed_over_processes
from miao.nets.model import (
    AudioDecoder,
    AudioEncoder,
    AudioFeatures,
    Encoding,
    LevelDistribution,
    MidiEncoder,
    ModelConfig,
    share_parameters,
)
from miao.training.chunks import Batch, heard_in_either
from miao.training.losses import am_loss, level_error_db, mac_loss, mam_loss, mined

MINING_TEMPERATURE = 0.07  # whatever τ is: under τ = 99 hard negatives would not be hard
_TOKENS_IN_GROUPS = 32  # of a window, where tokens are contrasted


@dataclass(frozen=True)
class ObjectiveConfig:
    """The losses; a weight of 0 leaves one out (the paper's Table 3 and more)."""

    am: Weight = 1.0
    mac: Weight = 0.3
    mam: Weight = 0.3
    audio_encoder: bool = True  # without it, MAC and MAM have nothing to look at
    label_smoothing: Share = 0.13  # α
    smoothing_form: Literal["neighbours", "uniform"] = "neighbours"  # see `losses.am_loss`
    temperature: Annotated[float, Range(1e-3, 1e6)] = 0.07  # τ, a divisor; the paper prints 99
    contrast_on: Literal["tokens", "cls"] = "tokens"  # as printed, and better (docs/results.md); or as in BLIP
    contrast_width: Count = 32  # of a vector that is compared
    momentum: Share = 0.99  # of the momentum encoders, a step (ALBEF has 0.995 over a hundred times as many steps)
    soft_share: Share = 0.4  # of MAC's targets from the momentum encoders, at the most
    soft_ramp_steps: Whole = 200  # until then less: a young momentum encoder knows nothing
    queue: Whole = 512  # earlier windows that serve as negatives

    def __post_init__(self) -> None:
        check(self, "objective")


class Miao(nn.Module):
    """The two nets that training and synthesis share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = MidiEncoder(config), AudioDecoder(config)


class Understanding(nn.Module):
    """The audio encoder and what compares MIDI with sound; needs the MIDI encoder beside it."""

    def __init__(self, config: ModelConfig, contrast_on: str, contrast_width: int) -> None:
        super().__init__()
        self.is_on_cls = contrast_on == "cls"
        self.audio = AudioEncoder(config)
        self.midi_head, self.audio_head = (
            nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, contrast_width))
            for _ in range(2)
        )
        self.n_vectors = WINDOW_TOKENS // config.segment_tokens if self.is_on_cls else _TOKENS_IN_GROUPS
        self.match = nn.Linear(config.width + self.n_vectors, 1)

    def embed_midi(self, midi: Encoding) -> Tensor:
        """A window's MIDI as vectors [B, V, contrast_width] whose inner product with a sound's is their mean cosine."""
        return _unit(self.midi_head(self._vectors(midi.cls, midi.tokens)))

    def embed_audio(self, audio: AudioFeatures) -> Tensor:
        """A window's sound likewise."""
        return _unit(self.audio_head(self._vectors(audio.cls, audio.tokens)))

    def match_logits(self, audio: AudioFeatures, midi: Encoding) -> Tensor:
        """How sure each pair is one (Eq. 9), [B] logits: from the joint embedding, and from how alike MAC finds the two
        in each segment, which is known long before cross-attention has learnt anything."""
        alike = cosines(self.embed_midi(midi), self.embed_audio(audio))
        logits: Tensor = self.match(torch.cat([self.audio.joint(audio, midi.tokens).cls[:, 0], alike], dim=1)).squeeze(
            1
        )
        return logits

    def _vectors(self, cls: Tensor, tokens: Tensor) -> Tensor:
        return cls if self.is_on_cls else tokens.unflatten(1, (_TOKENS_IN_GROUPS, -1)).mean(dim=2)


def cosines(midi: Tensor, audio: Tensor) -> Tensor:
    """How alike MIDI and sound are in each vector's part of the window, [B, V, width] -> [B, V], -1 to 1."""
    return (midi * audio).sum(dim=2) * midi.shape[1]


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = F.normalize(vectors, dim=2) / vectors.shape[1] ** 0.5
    return unit


@dataclass(frozen=True)
class TrainBatch:
    """What one process sees in one pass."""

    chunks: list[Batch]  # at most one of each kind
    frames: Tensor | None = None  # x_m [P, channels, T, N]
    mel: Tensor | None = None  # x_a [P, Ta, M]
    lots: Tensor | None = None  # [2, P of all processes, the same], of a Gumbel distribution; to mine negatives with


class Objective(nn.Module):
    """The nets in training, the momentum encoders and the queue."""

    def __init__(self, config: ObjectiveConfig, model: ModelConfig, precision: str) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        self.model = Miao(model)
        self.understanding: Understanding | None = None
        self.parts = ("model", "understanding") if config.audio_encoder else ("model",)
        self.growing = ("midi_queue", "audio_queue") if config.audio_encoder else ()  # buffers that do
        if not config.audio_encoder:
            return
        self.understanding = Understanding(model, config.contrast_on, config.contrast_width)
        if model.share == "midi":
            share_parameters(self.model.encoder, self.understanding.audio)
        elif model.share == "decoder":
            share_parameters(self.model.decoder, self.understanding.audio)
        self.old_encoder, self.old_understanding = copy.deepcopy((self.model.encoder, self.understanding))
        self.old_encoder.requires_grad_(False)  # the momentum encoders
        self.old_understanding.requires_grad_(False)
        size = self.understanding.n_vectors * config.contrast_width
        self.midi_queue: Tensor
        self.audio_queue: Tensor
        self.register_buffer("midi_queue", torch.zeros(0, size))  # newest first, grows to config.queue
        self.register_buffer("audio_queue", torch.zeros(0, size))

    def forward(self, batch: TrainBatch, step: int) -> dict[str, Tensor]:
        """The losses and what is worth logging, by name; "loss/total" is what to descend."""
        results: dict[str, Tensor] = {}
        midi = None if batch.frames is None else self.model.encoder(batch.frames)
        some = batch.chunks[0].target if batch.chunks else batch.frames
        assert some is not None, "a batch has chunks or frames"
        total = some.new_zeros(())
        if batch.chunks and self.config.am:
            results |= self._audio_modelling([_with_context(b, midi) for b in batch.chunks])
            total = total + self.config.am * results["loss/am"]
        if midi is not None and self.understanding is not None and (self.config.mac or self.config.mam):
            results |= self._understanding(batch, midi, step)
            total = total + self.config.mac * results["loss/mac"] + self.config.mam * results["loss/mam"]
        return results | {"loss/total": total}

    def _audio_modelling(self, batches: list[Batch]) -> dict[str, Tensor]:
        outputs, losses, results = self.predict(batches), [], {}
        for out, batch in zip(outputs, batches, strict=True):
            weight = heard_in_either(batch, out.mean.detach())
            total = _mean_over_processes(weight.sum())
            losses.append(am_loss(out, batch.target, weight, self.config.label_smoothing, self.config.smoothing_form,
                                  total))  # fmt: skip
            with torch.no_grad():
                name = ("attack", "sustain", "release")[batch.kind]
                results[f"error_db/{name}"] = level_error_db(out, batch.target, batch.weight)
        return results | {"loss/am": torch.stack(losses).mean()}

    def predict(self, batches: list[Batch]) -> list[LevelDistribution]:
        """Distributions of all batches, the image of all kinds refined at once (so that batch norm sees them alike)."""
        decoder, device = self.model.decoder, batches[0].target.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            voices = [decoder.voice_at(b.kind, b.inputs.voice, b.inputs.pitch) for b in batches]
            started = [
                decoder.start(b.kind, b.inputs, voice, is_attack=b.kind == tk.ATTACK)
                for b, voice in zip(batches, voices, strict=True)
            ]
        sizes = [len(image) for image, _ in started]
        images, anchors = (torch.cat(some).float() for some in zip(*started, strict=True))
        both = decoder.finish(images, anchors)
        return [
            LevelDistribution(m, s) for m, s in zip(both.mean.split(sizes), both.log_scale.split(sizes), strict=True)
        ]

    def _understanding(self, batch: TrainBatch, midi: Encoding, step: int) -> dict[str, Tensor]:
        """MAC and MAM over the windows of all processes."""
        assert self.understanding is not None and batch.mel is not None and batch.lots is not None
        config, net = self.config, self.understanding
        audio = net.audio.features(batch.mel)
        both = net.embed_midi(midi).flatten(1), net.embed_audio(audio).flatten(1)  # [B, V]
        with torch.no_grad():
            before = self.old_understanding
            old = (before.embed_midi(self.old_encoder(batch.frames)).flatten(1),
                   before.embed_audio(before.audio.features(batch.mel)).flatten(1))  # fmt: skip
            own = slice(first := _rank() * len(midi.cls), first + len(midi.cls))
            partner = torch.arange(own.start, own.stop, device=batch.mel.device)
            news = [gathered_from_processes(x) for x in old]
            candidates = [torch.cat(pair) for pair in zip(news, (self.midi_queue, self.audio_queue), strict=True)]
        soft_share = config.soft_share * min(step / max(config.soft_ramp_steps, 1), 1.0)
        directions = ((both[0], old[0], candidates[1]), (both[1], old[1], candidates[0]))
        mac = [mac_loss(mine @ others.T, partner, config.temperature, soft_similarity=earlier @ others.T,
                        soft_share=soft_share) for mine, earlier, others in directions]  # fmt: skip
        with torch.no_grad():
            everyone = [gathered_from_processes(x.detach()) for x in both]
            similarity = both[0] @ everyone[1].T, both[1] @ everyone[0].T  # MIDI to sound, sound to MIDI
            recall = (similarity[0].argmax(dim=1) == partner).float().mean()
            wrong = [mined(s, partner, MINING_TEMPERATURE, lot[own])
                     for s, lot in zip(similarity, batch.lots, strict=True)]  # fmt: skip
            self.midi_queue, self.audio_queue = (x[: config.queue].contiguous() for x in candidates)
        logits = self._matches(midi, audio, wrong)
        is_match = torch.arange(len(logits), device=logits.device) < len(partner)
        mam = mam_loss(logits, is_match)
        return {"loss/mac": torch.stack(mac).mean(), "loss/mam": mam, "recall@1/batch": recall,
                "accuracy/match": ((logits > 0) == is_match).float().mean()}  # fmt: skip

    def _matches(self, midi: Encoding, audio: AudioFeatures, wrong: list[Tensor]) -> Tensor:
        """Logits of the true pairs, of each MIDI with a wrong sound, of each sound with a wrong MIDI: [3 B]."""
        assert self.understanding is not None
        all_midi = Encoding(*(gathered_from_processes(x) for x in (midi.cls, midi.tokens)))
        names = ("data_s", "rows", "cls", "tokens")
        theirs = [gathered_from_processes(getattr(audio, name))[wrong[0]] for name in names]
        sound = AudioFeatures(*(torch.cat([getattr(audio, name), other, getattr(audio, name)])
                                for name, other in zip(names, theirs, strict=True)))  # fmt: skip
        both = (midi.cls, all_midi.cls), (midi.tokens, all_midi.tokens)
        notes = Encoding(*(torch.cat([own, own, everyone[wrong[1]]]) for own, everyone in both))
        return self.understanding.match_logits(sound, notes)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum encoders a little towards the nets."""
        if self.understanding is None:
            return
        pairs = ((self.old_encoder, self.model.encoder), (self.old_understanding, self.understanding))
        for old, new in pairs:
            for slow, fast in zip(old.parameters(), new.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.config.momentum)


def _with_context(batch: Batch, midi: Encoding | None) -> Batch:
    if midi is None:
        return batch
    contexts = F.pad(midi.context().flatten(0, 1), (0, 0, 1, 0))  # [1 + P L, D], the first one zeros
    return replace(batch, inputs=replace(batch.inputs, context=contexts[batch.place]))


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def _mean_over_processes(x: Tensor) -> Tensor:
    return summed_over_processes(x) / n_processes()
