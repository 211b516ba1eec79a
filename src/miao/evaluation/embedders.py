"""Embedders: nets that turn sound into vectors, for the distances in distances.py. Nothing is ever fetched.

| embedder | D | a frame lasts, every | trained to tell | weights, licence |
|---|---|---|---|---|
| yamnet | 1024 | 0.975 s, 0.48 s | 521 kinds of sound (AudioSet) | a .tflite file that you have, Apache-2.0 |
| musicnn | 200 | 2.99 s, 1.49 s | 50 tags of music (instruments, genres) | in the package musicnn, ISC |
| vggish | 128 | 0.975 s, 0.96 s | 3,000 labels of videos | an .onnx or .tflite file that you have, Apache-2.0 |
| trill | 512 | about 0.17 s | voices, without labels | an .onnx or .tflite file that you have, Apache-2.0 |

All hear one channel, the mean of the sound's (opposite phases cancel), at 16 kHz: what lies above 8 kHz, and stereo, no
embedder here can judge. A frame lies wholly inside the sound; only a sound shorter than one frame is continued by
silence. None is invariant to level, so bring sounds to one level before you compare them.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.errors import DataError, needs
from miao.evaluation.musicnn import PATCH_FRAMES, PATCH_SAMPLES, log_mel, penultimate, read_checkpoint
from miao.sound.audio import Audio, resample

SAMPLE_RATE = 16_000  # of every embedder here
YAMNET_SAMPLES, YAMNET_HOP = 15_600, 7_680
YAMNET_NOISE_DB = -60.0
YAMNET_LAYER = "global_average_pooling2d/Mean"  # tensor 121 of the published file
VGGISH_SAMPLES, VGGISH_HOP = 15_600, 15_360


@dataclass(frozen=True)
class Embedder:
    """Called with sound and its rate, it gives one row for each frame.

    Shape: [channels, S] or [S] at any rate -> [n, D] float32, n >= 1.
    """

    name: str  # part of the name of every metric that is made with it
    sample_rate: int
    embed: Callable[[Floats], Floats]  # mono [S] at sample_rate -> [n, D]

    def __call__(self, samples: Reals, sample_rate: int) -> Floats:
        audio = Audio(np.atleast_2d(np.asarray(samples, np.float32)).mean(axis=0, keepdims=True), sample_rate)
        return self.embed(resample(audio, self.sample_rate).samples[0])


def yamnet(path: str | Path) -> Embedder:
    """YAMNet's 1024 numbers before its classes (Google; tensor 121 of the published .tflite file).

    Of sound below -65 dBFS it makes numbers ten times those of any other: a few silent frames would outweigh all music
    in a distance. So a noise of -60 dBFS, the same in every frame, lies under the sound. Otherwise it differs from the
    TensorFlow Hub model in the quantised weights of that file, and in that the last part of a sound that fills no frame
    is left out. Raises: DataError if there is no such file, or no such layer in it.
    """
    interpreter = _interpreter(path, keep_all=True)
    found = [t["index"] for t in interpreter.get_tensor_details() if t["name"].endswith(YAMNET_LAYER)]
    shape = interpreter.get_input_details()[0]["shape"].tolist()
    if len(found) != 1 or shape != [1, YAMNET_SAMPLES]:
        raise DataError(f"{path}: not YAMNet; it has no layer {YAMNET_LAYER} over {YAMNET_SAMPLES} samples")
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]

    def embed(mono: Floats) -> Floats:
        rows = []
        for window in windows(mono, YAMNET_SAMPLES, YAMNET_HOP):
            interpreter.set_tensor(entry, (window + yamnet_noise())[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(found[0])[0].copy())
        return np.stack(rows)

    return Embedder("yamnet", SAMPLE_RATE, embed)


@cache
def yamnet_noise() -> Floats:
    """What lies under each frame that YAMNet hears: white noise of -60 dBFS, [15600]."""
    noise = np.random.default_rng(0).standard_normal(YAMNET_SAMPLES)
    return (10 ** (YAMNET_NOISE_DB / 20) * noise).astype(np.float32)


def vggish(path: str | Path) -> Embedder:
    """VGGish's 128 numbers, without the PCA and the 8-bit steps that its release adds (as FAD takes them).

    The graph takes log-mel patches of 96 x 64, which are made here as its release makes them, or 0.975 s of sound.
    Raises: DataError if there is no such file or it is of another kind.
    """
    graph = _open_graph(path, "VGGish")
    is_patched = graph.shape[-2:] == (96, 64) or graph.shape[-3:-1] == (96, 64)

    def embed(mono: Floats) -> Floats:
        parts = [vggish_patch(window) if is_patched else window
                 for window in windows(mono, VGGISH_SAMPLES, VGGISH_HOP)]  # fmt: skip
        return np.concatenate([graph.embedding(part, 128) for part in parts])

    return Embedder("vggish", SAMPLE_RATE, embed)


def trill(path: str | Path) -> Embedder:
    """TRILL's 512 numbers (Shor et al. 2020); the graph takes sound and cuts it up itself.

    Raises: DataError if there is no such file or it is of another kind.
    """
    graph = _open_graph(path, "TRILL")
    fixed = graph.shape[-1]

    def embed(mono: Floats) -> Floats:
        parts = windows(mono, fixed, fixed) if fixed else [np.pad(mono, (0, max(SAMPLE_RATE - len(mono), 0)))]
        return np.concatenate([graph.embedding(part, 512) for part in parts])

    return Embedder("trill", SAMPLE_RATE, embed)


def musicnn(weights: str = "MTT") -> Embedder:
    """musicnn's penultimate layer, 200 numbers (Pons & Serra 2019), computed here from the weights in its package.

    weights  "MTT" (MagnaTagATune, whose tags name instruments: the default) or "MSD" (Million Song Dataset: genres)

    Differs from the package, which needs TensorFlow, in that windows overlap by half (the package's do not unless
    asked: it hears 3 s of a clip of 5), in that mel power is not rounded to 16-bit floats, which overflow for loud
    sound, and in the resampler. Raises: DataError if the package is not installed.
    """
    package = importlib.util.find_spec("musicnn")
    places = list(package.submodule_search_locations or ()) if package else []
    folder = Path(places[0] if places else "musicnn") / f"{weights}_musicnn"
    if not (folder / ".index").is_file():
        raise DataError(f"{folder} is not there; pip install --no-deps musicnn==0.1.0 brings MTT and MSD")
    tensors = read_checkpoint(folder)

    def embed(mono: Floats) -> Floats:
        mel = log_mel(np.pad(mono, (0, max(PATCH_SAMPLES - len(mono), 0))))
        return np.stack([penultimate(tensors, patch)
                         for patch in windows(mel, PATCH_FRAMES, PATCH_FRAMES // 2)])  # fmt: skip

    return Embedder(f"musicnn-{weights.lower()}", SAMPLE_RATE, embed)


def windows(values: Reals, length: int, hop: int) -> Reals:
    """What lies in windows of a length, every `hop`; the last is the last that fits in.

    Shape: [S, ...] -> [n, length, ...], n >= 1: values that are shorter than a window are continued by zeros.
    """
    missing = max(length - len(values), 0)
    values = np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
    return np.stack([values[start : start + length] for start in range(0, len(values) - length + 1, hop)])


# graphs


@dataclass(frozen=True)
class _Graph:
    """A net in a file, with one input."""

    path: Path
    shape: tuple[int | None, ...]  # of the input; None where it may be of any size
    run: Callable[[Floats], list[Reals]]

    def embedding(self, values: Reals, width: int) -> Floats:
        """Its output that is `width` numbers wide, [n, width]. Raises: DataError if there is none."""
        free = max((i for i, size in enumerate(self.shape) if size is None), default=None)
        shape = [-1 if i == free else size or 1 for i, size in enumerate(self.shape)]
        try:
            outputs = self.run(np.ascontiguousarray(values.reshape(shape), np.float32))
        except ValueError:
            raise DataError(f"{self.path}: takes {list(self.shape)}, not {list(values.shape)} numbers") from None
        for output in outputs:
            if output.ndim and output.shape[-1] == width:
                return np.asarray(output, np.float32).reshape(-1, width)
        shapes = ", ".join(str(list(output.shape)) for output in outputs)
        raise DataError(f"{self.path}: has outputs of shape {shapes}; none is {width} numbers wide")


def _open_graph(path: str | Path, net: str) -> _Graph:
    path = Path(path)
    if path.suffix == ".tflite":
        interpreter = _interpreter(path)
        details = interpreter.get_input_details()[0]

        def run(values: Floats) -> list[Reals]:
            interpreter.resize_tensor_input(details["index"], values.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(details["index"], values)
            interpreter.invoke()
            return [interpreter.get_tensor(d["index"]).copy() for d in interpreter.get_output_details()]

        return _Graph(path, tuple(int(n) if n > 0 else None for n in details["shape_signature"]), run)
    if path.suffix != ".onnx" or not path.is_file():
        raise DataError(f"{path}: there is no such .onnx or .tflite file; {net}'s weights are not fetched, so give one "
                        "that you have")  # fmt: skip
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds share no base class but this one
        raise DataError(f"{path}: onnxruntime cannot read it: {str(error).splitlines()[0]}") from error
    entry = session.get_inputs()[0]
    shape = tuple(n if isinstance(n, int) and n > 0 else None for n in entry.shape)
    return _Graph(path, shape, lambda values: session.run(None, {entry.name: values}))


def _interpreter(path: str | Path, keep_all: bool = False) -> Any:
    """A .tflite file, opened on one thread; with keep_all the numbers between its layers can be read."""
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such .tflite file; weights are not fetched, so give one that you have")
    needs("evaluate", "ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # without the delegate that speeds it up a little, which would warn and write to stderr
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        return Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=keep_all,
                           experimental_op_resolver_type=resolver)  # fmt: skip
    except ValueError as error:
        raise DataError(f"{path}: not a .tflite file: {error}") from error


# VGGish's spectrogram


def vggish_patch(window: Floats) -> Floats:
    """Log-mel patch [96, 64] of 15,600 samples at 16 kHz, as VGGish's release has it.

    Hann windows of 25 ms every 10 ms in a 512-point transform, magnitudes, 64 bands from 125 Hz to 7.5 kHz whose
    triangles are straight over mels (HTK) rather than hertz, ln(x + 0.01).
    """
    frames = np.lib.stride_tricks.sliding_window_view(window, 400)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    return np.log(np.abs(np.fft.rfft(frames * hann, 512)) @ _vggish_filters() + 0.01).astype(np.float32)


@cache
def _vggish_filters() -> Doubles:
    mel = 1127 * np.log1p(np.arange(257) * SAMPLE_RATE / 512 / 700)
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    rising = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    filters: Doubles = np.maximum(np.minimum(rising, falling), 0)
    return filters
