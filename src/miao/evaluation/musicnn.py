"""musicnn's net in NumPy, with weights read from the TensorFlow checkpoint that its package holds.

Source: Pons & Serra 2019, https://github.com/jordipons/musicnn (ISC). The front end looks at a 3 s log-mel patch with
two tall filters (timbre) and three long ones (rhythm); three layers over time with shortcuts follow; maximum and mean
over time; a dense layer of 200, whose numbers are the embedding; 50 tags. Neither TensorFlow nor torch is needed.
"""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.errors import DataError

SAMPLE_RATE, FFT_SAMPLES, HOP_SAMPLES, N_MELS = 16_000, 512, 256, 96
PATCH_FRAMES = 187  # 2.99 s
PATCH_SAMPLES = PATCH_FRAMES * HOP_SAMPLES
_EPSILON = 1e-3  # of batch normalisation
_TABLE_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1  # TensorFlow's number for it

Tensors = dict[str, Floats]


def log_mel(mono: Floats) -> Floats:
    """log10(10000 x + 1) of mel power x, as musicnn was trained on (librosa's default: Slaney's scale and areas).

    Shape: [S] at 16 kHz, S > 256 -> [S // 256 + 1, 96]; frames of 512 are centred, the ends mirrored.
    """
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(mono, FFT_SAMPLES // 2, mode="reflect"), FFT_SAMPLES)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES)
    power = np.abs(np.fft.rfft(frames[::HOP_SAMPLES] * hann, axis=1)) ** 2
    return np.log10(10_000 * (power @ slaney_filters().T) + 1).astype(np.float32)


@cache
def slaney_filters() -> Doubles:
    """Triangles of equal area from 0 to 8 kHz on Slaney's mel scale (straight to 1 kHz, then a logarithm).

    Shape: [96, 257].
    """
    top = 15 + 27 * np.log(SAMPLE_RATE / 2 / 1000) / np.log(6.4)
    mel = np.linspace(0, top, N_MELS + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))
    bins = np.arange(FFT_SAMPLES // 2 + 1) * SAMPLE_RATE / FFT_SAMPLES
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: Doubles = np.maximum(np.minimum(rising, falling), 0) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def penultimate(tensors: Tensors, patch: Floats) -> Floats:
    """The dense layer of 200 before the tags, of one log-mel patch: [T, 96] -> [200]."""
    x = _normalised(tensors, 0, patch[..., None])[..., 0]
    tall = np.pad(x, ((3, 3), (0, 0)))
    front = [_timbre(tensors, n, tall) for n in (0, 1)] + [_rhythm(tensors, n, x) for n in (2, 3, 4)]
    layers = [np.concatenate(front, axis=1)]  # [T, 561]
    for n in (5, 6, 7):
        kernel = tensors[f"conv2d_{n}/kernel"]  # [7, width, 1, 64]
        around = np.lib.stride_tricks.sliding_window_view(np.pad(layers[-1], ((3, 3), (0, 0))), 7, axis=0)
        line = around.transpose(0, 2, 1).reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[-1])
        line = _normalised(tensors, n + 1, np.maximum(line + tensors[f"conv2d_{n}/bias"], 0))
        layers.append(line + layers[-1] if n > 5 else line)  # [T, 64]
    features = np.concatenate(layers, axis=1)  # [T, 753]
    pooled = np.stack([features.max(axis=0), features.mean(axis=0)], axis=1).ravel()
    dense = _normalised(tensors, 9, pooled) @ tensors["dense/kernel"] + tensors["dense/bias"]
    return _normalised(tensors, 10, np.maximum(dense, 0))


def _timbre(tensors: Tensors, n: int, x: Reals) -> Reals:
    """Filters 7 frames long and many bands tall, the highest over bands: [T + 6, 96] -> [T, 204]."""
    name = f"conv2d_{n}" if n else "conv2d"
    kernel = tensors[f"{name}/kernel"]  # [7, height, 1, 204]
    around = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2])  # [T, places, 7, height]
    out = around.reshape(-1, kernel.shape[0] * kernel.shape[1]) @ kernel.reshape(-1, kernel.shape[-1])
    heard = _normalised(tensors, n + 1, np.maximum(out + tensors[f"{name}/bias"], 0))
    timbre: Reals = heard.reshape(*around.shape[:2], -1).max(axis=1)
    return timbre


def _rhythm(tensors: Tensors, n: int, x: Reals) -> Reals:
    """Filters many frames long in one band, the highest over bands: [T, 96] -> [T, 51]."""
    kernel = tensors[f"conv2d_{n}/kernel"]  # [length, 1, 1, 51]
    length = len(kernel)
    padded = np.pad(x, (((length - 1) // 2, length // 2), (0, 0)))
    around = np.lib.stride_tricks.sliding_window_view(padded, length, axis=0)  # [T, 96, length]
    out = around.reshape(-1, length) @ kernel.reshape(length, -1)
    heard = _normalised(tensors, n + 1, np.maximum(out + tensors[f"conv2d_{n}/bias"], 0))
    rhythm: Reals = heard.reshape(*x.shape, -1).max(axis=1)
    return rhythm


def _normalised(tensors: Tensors, n: int, x: Reals) -> Reals:
    """Batch normalisation by the statistics of training, over the last axis."""
    name = f"batch_normalization_{n}" if n else "batch_normalization"
    mean, variance, beta, gamma = (tensors[f"{name}/{k}"] for k in ("moving_mean", "moving_variance", "beta", "gamma"))
    scale = gamma / np.sqrt(variance + _EPSILON)
    normalised: Reals = x * scale + (beta - mean * scale)
    return normalised


# TensorFlow's checkpoints: a LevelDB table of names, and a file of numbers


def read_checkpoint(folder: Path) -> Tensors:
    """The float32 variables in a TensorFlow 1 checkpoint (files .index and .data-00000-of-00001), by name.

    Raises: DataError if one of them is not such a file.
    """
    index, data = ((folder / name).read_bytes() for name in (".index", ".data-00000-of-00001"))
    if len(index) < 48 or struct.unpack("<Q", index[-8:])[0] != _TABLE_MAGIC:
        raise DataError(f"{folder / '.index'}: not the index of a TensorFlow checkpoint")
    footer, at = index[-48:], 0
    numbers = []
    for _ in range(4):  # where the table's own index is, after that of its metadata
        number, at = _varint(footer, at)
        numbers.append(number)
    tensors: Tensors = {}
    for _, place in _block(index, numbers[2], numbers[3]):
        offset, at = _varint(place, 0)
        for name, entry in _block(index, offset, _varint(place, at)[0]):
            fields = _fields(entry)
            if name and fields.get(1) == [_FLOAT32]:
                shape = [_fields(dim).get(1, [0])[0] for dim in _fields(b"".join(fields.get(2, []))).get(2, [])]
                start, size = fields.get(4, [0])[0], fields[5][0]
                tensors[name.decode()] = np.frombuffer(data[start : start + size], "<f4").reshape(shape)
    return tensors


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key gives only what differs from the one before."""
    if table[offset + size]:
        raise DataError("a block of the checkpoint's index is compressed, which TensorFlow does not do")
    block = table[offset : offset + size]
    end = len(block) - 4 * (struct.unpack("<I", block[-4:])[0] + 1)
    at, key = 0, b""
    while at < end:
        n_shared, at = _varint(block, at)
        n_new, at = _varint(block, at)
        n_value, at = _varint(block, at)
        key = key[:n_shared] + block[at : at + n_new]
        at += n_new + n_value
        yield key, block[at - n_value : at]


def _fields(message: bytes) -> dict[int, list[Any]]:
    """The fields of a protocol buffer by their numbers: integers and bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value: int | bytes
            value, at = _varint(message, at)
        else:
            size, at = (4, at) if tag & 7 == 5 else _varint(message, at)
            value = message[at : at + size]
            at += size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer, seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at
