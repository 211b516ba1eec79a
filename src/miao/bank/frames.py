"""All arithmetic of time, and the images of a window: x_m, which the MIDI encoder reads, and x_a of its sound.

Seconds are float64 everywhere and become frames, encoder tokens or samples only here. A frame lasts 5 ms; an encoder
token 4 frames; a window is 256 encoder tokens (5.12 s), seen as 8 segments of 32 unless the nets are set otherwise.
Windows start every half window, so that each moment but the first 2.56 s has at least that much past to look at.
"""

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Integers, Reals, Records
from miao.sound.spectrum import SAMPLE_RATE, log_mel

FRAME_SECONDS = 0.005
FRAMES_PER_TOKEN = 4
SEGMENT_TOKENS = 32
N_SEGMENTS = 8
WINDOW_TOKENS = SEGMENT_TOKENS * N_SEGMENTS
WINDOW_FRAMES = WINDOW_TOKENS * FRAMES_PER_TOKEN  # T
TOKEN_SECONDS = FRAME_SECONDS * FRAMES_PER_TOKEN
WINDOW_SECONDS = WINDOW_FRAMES * FRAME_SECONDS
HOP_SECONDS = WINDOW_SECONDS / 2
AUDIO_FRAME_SECONDS = 0.010  # a row of the log-mel image x_a
WINDOW_AUDIO_FRAMES = round(WINDOW_SECONDS / AUDIO_FRAME_SECONDS)
MEL_FLOOR_DB = -100.0  # of x_a
N_PITCHES = 128  # N
CHANNELS = ("onset", "held", "sounding", "age", "loudness")
_AGE_SCALE = 1 / np.log1p(10 / 0.05)


def seconds_to_frame(seconds: Reals | float) -> Integers:
    """The frame nearest to a time."""
    return np.rint(np.asarray(seconds, np.float64) / FRAME_SECONDS).astype(np.int64)


def seconds_to_sample(seconds: Reals | float, sample_rate: int) -> Integers:
    """The sample nearest to a time."""
    return np.rint(np.asarray(seconds, np.float64) * sample_rate).astype(np.int64)


def last_token(seconds: float) -> int:
    """The last encoder token that has ended at a time, counted from time 0; -1 before the first has."""
    return int(np.floor(seconds / TOKEN_SECONDS + 1e-6)) - 1


def window_of(seconds: float) -> tuple[int, int]:
    """The window whose context a chunk that starts at a time uses, and the token in it: the last one that has ended.

    Token -1 means that there is no past yet. Nothing at or after ``seconds`` is in it.
    """
    token = last_token(seconds)
    hop = WINDOW_TOKENS // 2
    window = max(token // hop - 1, 0)
    return window, token - window * hop


def encode_frames(notes: Records, start_seconds: float, loudness: Reals | float = 1.0) -> Floats:
    """The notes of a track as an image of one window that starts at ``start_seconds``.

    A note is written from the frame nearest its start up to, not including, the frame nearest its end (key) or damp
    (sound), and always gets one frame, so that no grace note is lost; of two notes of one pitch the later start wins.
    ``notes`` is an array with fields start, end, damp (seconds), pitch, velocity; ``loudness`` the product of volume
    and expression, one number or one a frame.

    Shape: [channels, WINDOW_FRAMES, N_PITCHES] float32 in [0, 1], channels as in CHANNELS.
    """
    image = np.zeros((len(CHANNELS), WINDOW_FRAMES, N_PITCHES), np.float32)
    first = int(seconds_to_frame(start_seconds))
    begins = seconds_to_frame(notes["start"]) - first
    ends = np.maximum(seconds_to_frame(notes["end"]) - first, begins + 1)
    damps = np.maximum(seconds_to_frame(notes["damp"]) - first, begins + 1)
    for begin, end, damp, pitch, velocity in zip(begins, ends, damps, notes["pitch"], notes["velocity"], strict=True):
        if begin >= WINDOW_FRAMES or damp <= 0:
            continue
        since = np.arange(max(begin, 0), min(damp, WINDOW_FRAMES))
        if begin >= 0:
            image[0, begin, pitch] = velocity / 127
        image[1, max(begin, 0) : max(min(end, WINDOW_FRAMES), 0), pitch] = 1
        image[2, since, pitch] = 1
        image[3, since, pitch] = np.minimum(np.log1p((since - begin) * FRAME_SECONDS / 0.05) * _AGE_SCALE, 1)
    image[4] = np.broadcast_to(np.asarray(loudness, np.float32), (WINDOW_FRAMES,))[:, None]
    return image


def window_mel(samples: Floats, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float16]:
    """The log-mel image x_a of one window, [WINDOW_AUDIO_FRAMES, N_MELS] dB: 10 ms a row, the definition of
    spectrum.py else. Shape: samples [channels, S] at 44.1 kHz, from the window's start; silence beyond S.

    Raises: ValueError for another sample rate.
    """
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"window_mel takes sound at {SAMPLE_RATE} Hz, got {sample_rate}")
    hop = round(AUDIO_FRAME_SECONDS * SAMPLE_RATE)
    samples = np.atleast_2d(samples)[:, : hop * WINDOW_AUDIO_FRAMES]
    short = hop * WINDOW_AUDIO_FRAMES - samples.shape[1]
    mel = log_mel(np.pad(samples, ((0, 0), (0, short))), MEL_FLOOR_DB, hop_samples=hop)
    return mel[:WINDOW_AUDIO_FRAMES].astype(np.float16)
