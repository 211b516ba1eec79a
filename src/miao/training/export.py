"""A checkpoint as a bank: ONNX graphs with half-precision weights, voice table, config and a page about it."""

import copy
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from miao.bank import tokens as tk
from miao.bank.folder import FORMAT, BankConfig, seal
from miao.bank.frames import CHANNELS, N_PITCHES, WINDOW_AUDIO_FRAMES, WINDOW_FRAMES
from miao.bank.matching import FOLDER
from miao.bank.voices import VoiceEmbeddings, VoiceTable
from miao.datasets.notes import NoteData
from miao.errors import BankError
from miao.files import written_folder
from miao.nets.model import AudioDecoder, AudioFeatures, ChunkInputs, MidiEncoder
from miao.sound.spectrum import N_MELS
from miao.training.chunks import chunk_tables, gather
from miao.training.objective import Miao, Understanding, cosines
from miao.training.scheme import decode_with, load_model, load_understanding

_OPSET = 18
_TRIM_CHUNKS = 48  # of each kind, from each voice
_MAX_TRIM_DB = 6.0
_HALF_FROM = 256  # smaller weights keep their precision
_BYTES_FROM = 1_000_000


class _Encoder(nn.Module):
    def __init__(self, encoder: MidiEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor) -> Tensor:
        context: Tensor = self.encoder(frames).context()
        return context


class _DecoderOfKind(nn.Module):
    """The decoder with the weights of one chunk kind only."""

    def __init__(self, decoder: AudioDecoder, kind: int) -> None:
        super().__init__()
        self.decoder, self.kind = copy.deepcopy(decoder), kind
        if not decoder.is_ffn:
            self.decoder.parallel = decoder.parallel.merged()  # type: ignore[assignment]  # called alike
        own = slice(kind, kind + 1)
        self.decoder.keep = nn.Parameter(decoder.keep[own].clone())
        self.decoder.expand = nn.ModuleList([copy.deepcopy(decoder.expand[kind])])
        del self.decoder.profiles, self.decoder.voices  # these are kept apart, see VoiceEmbeddings
        self.decoder.register_buffer("ramps", decoder.ramps[own].clone(), persistent=False)
        n = tk.MAX_CHUNK_INDEX + 1
        self.decoder.chunks = nn.Embedding.from_pretrained(decoder.chunks.weight[kind * n : (kind + 1) * n].clone())

    def forward(
        self,
        embedding: Tensor,
        profile: Tensor,
        pitch: Tensor,
        velocity: Tensor,
        index: Tensor,
        age: Tensor,
        previous: Tensor,
        context: Tensor,
    ) -> tuple[Tensor, Tensor]:
        inputs = ChunkInputs(pitch, pitch, velocity, index, age, previous, context)  # which voice is not asked
        voice = (embedding, profile)
        out = self.decoder.finish(*self.decoder.start(0, inputs, voice, is_attack=self.kind == tk.ATTACK))
        return out.expected(), out.log_scale.exp()


def power_trim(model: Miao, notes: list[NoteData], n_voices: int) -> np.ndarray:
    """How much power (dB) the expected levels of each voice lose against what was measured; shape [V].

    The expected level of a partial that beats or wavers is the middle of its decibels, which has less power than the
    partial; how much less depends on the voice. Median over chunks of training notes; 0 for a voice without notes.
    """
    decode, rng = decode_with(model), np.random.default_rng(0)
    losses: list[list[float]] = [[] for _ in range(n_voices)]
    for chunks in chunk_tables(notes)[: tk.RELEASE]:
        for voice in np.unique(chunks.voice):
            rows = rng.permutation(np.flatnonzero(chunks.voice == voice))[:_TRIM_CHUNKS]
            batch = gather(chunks, rows, rng, 0.0, model.config.width)
            inputs = {f.name: getattr(batch.inputs, f.name).numpy() for f in fields(batch.inputs)}
            for got, wanted, n in zip(
                decode(chunks.kind, **inputs)[0], batch.target.numpy(), chunks.n_valid[rows], strict=True
            ):
                power = [np.square(tk.level_to_amplitude(x[:n, : tk.PITCH_CELL])).sum() for x in (wanted, got)]
                if min(power) > 0:
                    losses[voice].append(10 * np.log10(power[0] / power[1]))
    trims = [float(np.median(some)) if some else 0.0 for some in losses]
    return np.clip(trims, -_MAX_TRIM_DB, _MAX_TRIM_DB).astype(np.float32)


def export_bank(
    checkpoint: Path, table: VoiceTable, folder: Path, *, page: str = "", uses_context: bool = True
) -> None:
    """Write a bank folder from a checkpoint; an existing folder is replaced once the new one is whole.

    Without ``uses_context`` the MIDI encoder is left out and every chunk gets a context of zeros, as in training
    without phrases; rendering is faster for it.
    """
    model = load_model(checkpoint)
    config = model.config
    with written_folder(folder, BankError) as new:
        if uses_context:
            frames = torch.rand(2, len(CHANNELS), WINDOW_FRAMES, N_PITCHES)
            _export(_Encoder(model.encoder), (frames,), ["frames"], ["context"], new / "encoder.onnx")
        decoder = model.decoder
        tables = [table.detach().numpy().astype(np.float16) for table in (decoder.voices, *decoder.profiles)]
        embeddings = VoiceEmbeddings(tables[0], np.stack(tables[1:]))
        embeddings.save(new / "embeddings.safetensors")
        names = ["embedding", "profile", "pitch", "velocity", "index", "age", "previous", "context"]
        example = example_inputs(3, config.width)
        example["embedding"], example["profile"] = embeddings.at(0, example.pop("voice"), example["pitch"])
        for kind, name in enumerate(("attack", "sustain", "release")):
            arrays = tuple(torch.from_numpy(example[n]) for n in names)
            _export(_DecoderOfKind(model.decoder, kind), arrays, names, ["levels", "spread"], new / f"{name}.onnx")
        table.save(new / "voices.safetensors")
        seal(new, BankConfig(FORMAT, config.width, uses_context))
        if page:
            (new / "README.md").write_text(page)


class _Midi(nn.Module):
    def __init__(self, encoder: MidiEncoder, understanding: Understanding) -> None:
        super().__init__()
        self.encoder, self.understanding = encoder, understanding

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        midi = self.encoder(frames)
        return self.understanding.embed_midi(midi), midi.tokens


class _Audio(nn.Module):
    def __init__(self, understanding: Understanding) -> None:
        super().__init__()
        self.understanding = understanding

    def forward(self, mel: Tensor) -> tuple[Tensor, ...]:
        audio = self.understanding.audio.features(mel)
        return self.understanding.embed_audio(audio), audio.data_s, audio.rows


class _Match(nn.Module):
    def __init__(self, understanding: Understanding) -> None:
        super().__init__()
        self.understanding = understanding

    def forward(self, *arrays: Tensor) -> Tensor:
        midi_vectors, midi_tokens, audio_vectors, data_s, rows = arrays
        alike = cosines(midi_vectors, audio_vectors)
        audio = AudioFeatures(data_s, rows, cls=rows[:0], tokens=rows[:0])  # the last two are not looked at
        joint = self.understanding.audio.joint(audio, midi_tokens).cls[:, 0]
        return torch.sigmoid(self.understanding.match(torch.cat([joint, alike], dim=1)).squeeze(1))


def export_understanding(checkpoint: Path, bank: Path) -> Path:
    """Write what `matching.Matcher` needs into a bank's folder, from a checkpoint of the whole scheme; that folder.

    Raises: CheckpointError if the run had no audio encoder.
    """
    encoder, net = load_model(checkpoint).encoder, load_understanding(checkpoint)
    folder = bank / FOLDER
    frames = torch.rand(2, len(CHANNELS), WINDOW_FRAMES, N_PITCHES)
    mel = torch.rand(2, WINDOW_AUDIO_FRAMES, N_MELS) * -60
    midi_names, audio_names = ["vectors", "tokens"], ["vectors", "data_s", "rows"]
    with torch.no_grad():
        midi, audio = _Midi(encoder, net).eval(), _Audio(net).eval()
        seen = (*midi(frames), *audio(mel))
    names = [f"midi_{name}" for name in midi_names] + [f"audio_{name}" for name in audio_names]
    with written_folder(folder, BankError) as new:
        _export(midi, (frames,), ["frames"], midi_names, new / "midi.onnx")
        _export(audio, (mel,), ["mel"], audio_names, new / "audio.onnx")
        _export(_Match(net), seen, names, ["probability"], new / "match.onnx")
    return folder


def example_inputs(n: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Plausible decoder inputs for n chunks, as the engine gives them."""
    rng = np.random.default_rng(seed)
    return {
        "voice": rng.integers(0, 128, n),
        "pitch": rng.uniform(30, 90, n).astype(np.float32),
        "velocity": rng.uniform(0.2, 1, n).astype(np.float32),
        "index": rng.integers(0, 4, n),
        "age": rng.uniform(0, 3, n).astype(np.float32),
        "previous": rng.uniform(0, 50, (n, tk.N_CELLS)).astype(np.float32),
        "context": rng.normal(size=(n, width)).astype(np.float32),
    }


def _export(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path) -> None:
    module.eval()
    axes = {name: {0: "batch"} for name in names + outputs}
    torch.onnx.export(
        module,
        inputs,
        str(path),
        input_names=names,
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=_OPSET,
        dynamo=False,
    )
    graph = onnx.load(str(path))
    _shrink(graph)
    onnx.save(graph, str(path))


def _shrink(model: onnx.ModelProto) -> None:
    """Store large weights in half precision and the largest in 8 bits a number, with a scale for each output; both are
    widened again when the graph is loaded."""
    nodes, scales = [], []
    for weight in model.graph.initializer:
        size = np.prod(weight.dims)
        if weight.data_type != TensorProto.FLOAT or size < _HALF_FROM:
            continue
        name, values = weight.name, numpy_helper.to_array(weight)
        if size >= _BYTES_FROM and values.ndim == 2:
            axis = int(np.argmax(values.shape))  # outputs are many, inputs few
            scale = np.abs(values).max(axis=1 - axis) / 127
            whole = np.rint(values / np.expand_dims(np.maximum(scale, 1e-12), 1 - axis)).astype(np.int8)
            weight.CopyFrom(numpy_helper.from_array(whole, f"{name}_bytes"))
            scales.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
            inputs = [f"{name}_bytes", f"{name}_scale"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
        else:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    model.graph.initializer.extend(scales)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
