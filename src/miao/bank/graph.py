"""The decoder's graphs, compiled: their weights out of the ONNX files, for the loops of `_nets`.

ONNX Runtime can run any graph, and takes a tenth of a second to be loaded and to look at three of them. These are
always of one form, as `training.export` writes it; a graph that is, node for node, is run by its compiled twin, in half
the time a chunk. What is of another form goes to ONNX Runtime.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import AnyArray, Floats
from miao.bank import tokens as tk

try:
    import miao.bank._nets as _nets
except ImportError:  # no compiler when the package was installed
    _nets = None  # type: ignore[assignment]  # mypy knows no module that may be missing

# SHA-256 over the nodes of the graphs that `_decoder.cpp` says in C++, the first 16 digits
FORMS = {"attack": "82f7cf3b9ab6f999", "sustain": "7a8b6e86faaa106c", "release": "7a8b6e86faaa106c"}
_PREFIX, _KEEP = "decoder.", "onnx::Sigmoid"  # of the names of weights
_DTYPES: dict[int, np.dtype[Any]]
_DTYPES = {1: np.dtype("<f4"), 3: np.dtype("i1"), 10: np.dtype("<f2")}
_WEIGHTS = {
    "chunks": "chunks.weight_half", "condition": "condition.weight_half", "condition_bias": "condition.bias_half",
    "condition_second": "condition_second.weight_half", "condition_second_bias": "condition_second.bias_half",
    "expand": "expand.0.weight_bytes", "expand_scale": "expand.0.weight_scale", "expand_bias": "expand.0.bias_half",
    "before": "before.conv.weight", "before_bias": "before.conv.bias",
    "before_norm": "before_norm.norm.weight", "before_norm_bias": "before_norm.norm.bias",
    "temperature": "attention.scale", "project": "attention.project.weight_half",
    "project_bias": "attention.project.bias", "merge": "attention.merge.weight_half",
    "merge_bias": "attention.merge.bias", "attention_norm": "attention_norm.norm.weight",
    "attention_norm_bias": "attention_norm.norm.bias", "parallel": "parallel.conv.weight",
    "parallel_bias": "parallel.conv.bias", "after": "after.conv.weight", "after_bias": "after.conv.bias",
    "after_norm": "after_norm.norm.weight", "after_norm_bias": "after_norm.norm.bias",
    "head": "head.weight_half", "head_bias": "head.bias", "keep": _KEEP,
}  # fmt: skip
_PROFILE_LEVELS = 8.0  # see nets.model
_N_SCALARS = 12


def variants() -> list[str]:
    """The compiled loops that this processor can run, the fastest first."""
    return list(_nets.variants) if _nets else []


class CompiledGraph:
    """The graph of one kind of chunk, which `run` runs as ONNX Runtime would."""

    def __init__(self, kind: str, weights: dict[str, AnyArray], voice_width: int, variant: str = "") -> None:
        hidden, n_known = weights["condition"].shape
        self._is_attack = kind == "attack"
        self.context_width = n_known - voice_width - _N_SCALARS - tk.N_CELLS
        steps = np.arange(1, tk.CHUNK_STEPS + 1, dtype=np.float32) / np.float32(tk.CHUNK_STEPS)
        ramps = np.float32(_PROFILE_LEVELS) * (np.ones_like(steps) if self._is_attack else steps)
        self._decoder = _nets.Decoder(
            {**weights, "ramps": ramps}, self._is_attack, voice_width, self.context_width, hidden,
            len(weights["chunks"]), variant,
        )  # fmt: skip

    def run(
        self, _: None, inputs: dict[str, AnyArray], out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Expected levels and spread [B, a, C], written to ``out`` if given."""
        given = {name: np.ascontiguousarray(values) for name, values in inputs.items()}
        shape = (len(given["pitch"]), tk.CHUNK_STEPS, tk.N_CELLS)
        levels, spread = out or (np.empty(shape, np.float32), np.empty(shape, np.float32))
        previous = None if self._is_attack else given["previous"]
        self._decoder.write(
            given["embedding"], given["profile"], given["pitch"], given["velocity"], given["index"], given["age"],
            previous, given["context"], levels, spread,
        )  # fmt: skip
        return levels, spread


def compiled(path: Path, voice_width: int, context_width: int, variant: str = "") -> CompiledGraph | None:
    """The graph of a file if it is one of those that are compiled, and its sizes are these; else None."""
    if _nets is None:
        return None
    try:
        form, weights = read_graph(path)
        if form != FORMS.get(path.stem):
            return None
        graph = CompiledGraph(path.stem, weights, voice_width, variant)
    except (OSError, LookupError, ValueError, TypeError, RuntimeError):  # who takes it then says what is wrong
        return None
    return graph if graph.context_width == context_width else None


def read_graph(path: Path) -> tuple[str, dict[str, AnyArray]]:
    """The form of a graph (a checksum over its nodes) and its weights by the names that the loops know them by.

    Raises: OSError, LookupError or ValueError if it is none, or has other weights.
    """
    graph = dict(_fields(memoryview(path.read_bytes())))[7]
    nodes, found = hashlib.sha256(), {}
    for field, value in _fields(graph):
        if field == 1:
            nodes.update(value)
        elif field == 5:
            name, array = _tensor(value)
            found[_KEEP if name.startswith(_KEEP) else name.removeprefix(_PREFIX)] = array
    weights = {name: found[place] for name, place in _WEIGHTS.items()}
    weights = {n: w if n == "expand" else np.ascontiguousarray(w, np.float32) for n, w in weights.items()}
    weights["keep"] = 1 / (1 + np.exp(-weights["keep"]))
    return nodes.hexdigest()[:16], weights


def _tensor(data: memoryview) -> tuple[str, AnyArray]:
    shape, dtype, name, raw = [], 0, "", b""
    for field, value in _fields(data):
        if field == 1:
            shape += [value] if isinstance(value, int) else list(_numbers(value))
        elif field == 2:
            dtype = value
        elif field == 8:
            name = bytes(value).decode()
        elif field == 9:
            raw = value
    return name, np.frombuffer(raw, _DTYPES[dtype]).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message of protocol buffers: number and value, bytes where it has some."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _number(data, at)
        else:
            size = {1: 8, 5: 4}[kind]
        if at + size > len(data):
            raise ValueError("a message that is cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _numbers(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _number(data, at)
        yield value


def _number(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
