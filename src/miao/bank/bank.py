"""Banks: voices and the nets that play them, as folders that ONNX Runtime and the engine can use."""

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.bank import tokens as tk
from miao.bank.learnt_voice import Correction, LearntVoice
from miao.bank.voices import VoiceEmbeddings, VoiceTable
from miao.errors import BankError

FORMAT = 2
_WORTH_A_THREAD = 8  # chunks
_KIND_NAMES = ("attack", "sustain", "release")

Decoder = Callable[..., tuple[NDArray, NDArray]]
"""(kind, voice, pitch, velocity, index, age, previous, context) -> expected levels [B, a, C] and their spread."""


Nets = Callable[[int, dict[str, NDArray]], tuple[NDArray, NDArray]]
"""(kind, what the graph of that kind is fed) -> expected levels and their spread."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Voices and the nets that play them, from a folder: config.toml, tables in safetensors and ONNX graphs."""

    name: str
    folder: Path
    table: VoiceTable
    decode: Decoder
    encode: Callable[[NDArray], NDArray] | None  # [B, 5, T, N] -> context [B, L, D]; None if notes sound alike in any
    context_width: int
    embeddings: VoiceEmbeddings | None = None  # None where decode knows its voices by itself
    nets: Nets | None = None
    added: tuple[str, ...] = ()  # names of voices behind those of the bank

    @staticmethod
    def load(name: str | Path = "gm", n_threads: int | None = None) -> "Bank":
        """A bank by name, or from a folder. Raises: BankError."""
        folder = bank_folder(name)
        config = tomllib.loads((folder / "config.toml").read_text())
        if config.get("format") != FORMAT:
            raise BankError(
                f"{folder}: bank format {config.get('format')}, this miao reads format {FORMAT}; "
                "update miao, or export the bank again"
            )
        graphs = (*_KIND_NAMES, "encoder") if config["uses_context"] else _KIND_NAMES
        sessions = {stem: open_graph(folder / f"{stem}.onnx") for stem in graphs}

        embeddings = VoiceEmbeddings.load(folder / "embeddings.safetensors")
        pool = ThreadPoolExecutor(n_threads or min(os.cpu_count() or 1, 4))

        def nets(kind: int, inputs: dict[str, NDArray]) -> tuple[NDArray, NDArray]:
            session, n = sessions[_KIND_NAMES[kind]], len(inputs["pitch"])
            parts = min(pool._max_workers, 1 + n // _WORTH_A_THREAD)
            cuts = [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
            results = pool.map(lambda cut: session.run(None, {k: v[cut] for k, v in inputs.items()}), cuts)
            levels, spread = zip(*results, strict=True)
            return np.concatenate(levels), np.concatenate(spread)

        def encode(frames: NDArray) -> NDArray:
            return sessions["encoder"].run(None, {"frames": frames})[0]

        table = VoiceTable.load(folder / "voices.safetensors")
        context = encode if config["uses_context"] else None
        decode = _decoder(nets, embeddings, ())
        return Bank(str(name), folder, table, decode, context, int(config["context_width"]), embeddings, nets)

    def with_voices(self, voices: Sequence[LearntVoice]) -> "Bank":
        """The bank with learnt voices behind its own: the first has the number that the bank had voices.

        Raises: BankError if a voice was learnt for other nets.
        """
        if not voices:
            return self
        if self.nets is None or self.embeddings is None or self.added:
            raise BankError(f'bank "{self.name}" cannot be given voices')
        for voice in voices:
            voice.check(self.name, self.nets_checksum)
        embeddings = VoiceEmbeddings.joined([self.embeddings, *(voice.embeddings for voice in voices)])
        corrections = [voice.correction for voice in voices]
        return replace(
            self,
            table=VoiceTable.joined([self.table, *(voice.table for voice in voices)]),
            decode=_decoder(self.nets, embeddings, corrections),
            embeddings=embeddings,
            added=tuple(voice.name for voice in voices),
        )

    @cached_property
    def nets_checksum(self) -> str:
        """SHA-256 over the nets alone, the first 12 digits: learnt voices fit the nets that they were learnt for."""
        return _checksum(self.folder / f"{name}.onnx" for name in _KIND_NAMES)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the bank's files, the first 12 digits."""
        return _checksum(p for p in sorted(self.folder.glob("*")) if p.suffix in (".onnx", ".safetensors"))


def _checksum(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _decoder(nets: Nets, embeddings: VoiceEmbeddings, corrections: Sequence[Correction | None]) -> Decoder:
    """The nets, told of the voices; the last voices are learnt ones and have corrections."""
    first = len(embeddings.embeddings) - len(corrections)

    def decode(kind: int, voice: NDArray, **inputs: NDArray) -> tuple[NDArray, NDArray]:
        inputs["embedding"], inputs["profile"] = embeddings.at(kind, voice, inputs["pitch"])
        if kind == tk.ATTACK:  # sets out from nothing
            inputs.pop("previous", None)
        levels, spread = nets(kind, inputs)
        for n, correction in enumerate(corrections, start=first):
            rows = np.flatnonzero(voice == n)
            if correction is not None and len(rows):
                levels[rows] = correction.applied(
                    kind, levels[rows], inputs["pitch"][rows], inputs["velocity"][rows], inputs["index"][rows]
                )
        return levels, spread

    return decode


def bank_folder(name: str | Path) -> Path:
    """The folder of a bank by name, or the folder itself. Raises: BankError if there is none."""
    banks = Path(__file__).parents[1] / "banks"
    folder = banks / name if (banks / name / "config.toml").is_file() else Path(name)
    if not (folder / "config.toml").is_file():
        names = sorted(p.parent.name for p in banks.glob("*/config.toml"))
        raise BankError(f'no bank "{name}"; there are {", ".join(names) or "none"}, or give a folder with config.toml')
    return folder


def open_graph(path: Path):
    """An ONNX graph ready to run, on one thread. Raises: BankError if it is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # halves of a batch on two threads are faster than two threads on a batch
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BankError(f"{path}: not a readable ONNX graph ({str(error).splitlines()[0]})") from None
