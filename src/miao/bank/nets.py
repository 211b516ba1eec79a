"""What a bank asks of nets, whatever they are: exported graphs, torch modules in training, or measured tokens.

Renderers need no torch: `OnnxNets` runs the exported graphs of a bank's folder (`graph`).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from miao.arrays import AnyArray, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.folder import open_graph
from miao.bank.frames import CHANNELS, WINDOW_FRAMES, WINDOW_TOKENS
from miao.bank.graph import CompiledGraph, compiled
from miao.bank.voices import N_PITCHES

KIND_NAMES = ("attack", "sustain", "release")
_WORTH_A_THREAD = 32  # chunks: half a batch takes much more than half the time below that
_FRAMES = {"frames": (len(CHANNELS), WINDOW_FRAMES, N_PITCHES)}
_TAKES = {"profile": (tk.N_CELLS,), "pitch": (), "velocity": (), "index": (), "age": (), "previous": (tk.N_CELLS,)}
_GIVES = {"levels": (tk.CHUNK_STEPS, tk.N_CELLS), "spread": (tk.CHUNK_STEPS, tk.N_CELLS)}

Written = tuple[Floats, Floats]
"""Expected levels [B, a, C] of chunks, and how far they spread, in levels."""


class Decoder(Protocol):
    """Writes chunks for voices by their numbers."""

    def __call__(
        self,
        kind: int,
        *,
        voice: Integers,  # [B] int64
        pitch: Floats,  # [B] f4
        velocity: Floats,  # [B] f4, 0..1
        index: Integers,  # [B] int64, chunks of this kind before
        age: Floats,  # [B] f4, seconds since the note began
        previous: Floats,  # [B, C] the last token before, levels
        context: Floats,  # [B, D] what the MIDI encoder has heard by then
    ) -> Written:
        """The next chunks, all of one kind."""
        ...


class Nets(Protocol):
    """Writes chunks for voices as they are told of them: by embedding and profile."""

    def write(self, kind: int, inputs: dict[str, AnyArray]) -> Written:
        """The next chunks, all of one kind; the inputs are those of its graph, [B, ...]."""
        ...

    def encode(self, frames: Floats) -> Floats:
        """What is heard in windows [B, 5, T, N], token by token: [B, L, D]. Only nets with an encoder have it."""
        ...


class OnnxNets:
    """The graphs of a bank's folder: those of the usual form compiled, any other by ONNX Runtime.

    Raises: BankError if one is missing, or takes or gives something else.
    """

    def __init__(self, folder: Path, voice_width: int, context_width: int, uses_context: bool, n_threads: int | None):
        takes = {**_TAKES, "embedding": (voice_width,), "context": (context_width,)}
        paths = [folder / f"{name}.onnx" for name in KIND_NAMES]
        self._graphs = [compiled(path, voice_width, context_width) or open_graph(path, takes, _GIVES) for path in paths]
        self._encoder = None
        if uses_context:
            self._encoder = open_graph(folder / "encoder.onnx", _FRAMES, {"context": (WINDOW_TOKENS, context_width)})
        self._n_threads = n_threads or min(os.cpu_count() or 1, 4)
        self._pool = ThreadPoolExecutor(self._n_threads)

    def write(self, kind: int, inputs: dict[str, AnyArray]) -> Written:
        """The next chunks, all of one kind, in as many parts as are worth a thread each."""
        graph, n = self._graphs[kind], len(inputs["pitch"])
        parts = min(self._n_threads, 1 + n // _WORTH_A_THREAD)
        if parts == 1:  # nobody waits for another thread: an attack that is played live is urgent
            levels, spread = graph.run(None, inputs)
            return levels, spread
        cuts = [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
        shape = (n, tk.CHUNK_STEPS, tk.N_CELLS)
        both = np.empty(shape, np.float32), np.empty(shape, np.float32)

        def write(cut: slice) -> None:
            some = {name: values[cut] for name, values in inputs.items()}
            if isinstance(graph, CompiledGraph):
                graph.run(None, some, (both[0][cut], both[1][cut]))
            else:
                both[0][cut], both[1][cut] = graph.run(None, some)

        list(self._pool.map(write, cuts))
        return both

    def encode(self, frames: Floats) -> Floats:
        """What the MIDI encoder hears in windows."""
        assert self._encoder is not None
        context: Floats = self._encoder.run(None, {"frames": frames})[0]
        return context
