"""Where the sound goes: a sound card by PortAudio, whose callback is the engine's own function, or a clock that only
keeps the time.

No Python runs in the callback: sounddevice is given the address of a C function, and of the engine as its user data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import miao.live.stage as stage_module
from miao.errors import AudioError, needs
from miao.live.stage import Stage

NO_CARD = "none"
USUAL_BLOCK = 256


@dataclass(frozen=True)
class Card:
    """A sound card at work."""

    name: str
    block: int  # samples
    latency: float  # seconds from a block's samples to the air, as the system says


def cards() -> list[str]:
    """The names of all sound cards that play, as `open_card` takes them. Raises: AudioError without PortAudio."""
    system = _portaudio()
    apis = [api["name"] for api in system.query_hostapis()]
    return [
        f"{device['name']} ({apis[device['hostapi']]})"
        for device in system.query_devices()
        if device["max_output_channels"] >= 2
    ]


@contextmanager
def open_card(stage: Stage, name: str | None = None, block: int = USUAL_BLOCK) -> Iterator[Card]:
    """A stage sounds on a card: one whose name holds these words, the usual one, or none at all ("none").

    Raises: AudioError if there is no such card or it refuses.
    """
    if name == NO_CARD:
        stage.engine.start_clock(block)
        try:
            yield Card("no sound card", block, 0.0)
        finally:
            stage.engine.stop_clock()
        return
    system = _portaudio()
    number = None if name is None else _find(name)
    ffi = system._ffi
    try:
        stream = system._StreamBase(
            kind="output", samplerate=stage.sample_rate, blocksize=block, device=number, channels=2, dtype="float32",
            latency="low", callback=ffi.cast("PaStreamCallback *", stage_module._compiled.callback),
            userdata=ffi.cast("void *", stage.engine.address), wrap_callback=None,
        )  # fmt: skip
        stream.start()
    except (system.PortAudioError, ValueError) as error:
        which = name or "the usual sound card"
        raise AudioError(f"{which}: {error}; see `miao live --list`, or --card none") from error
    try:
        device = system.query_devices(number, "output")
        yield Card(device["name"], block, float(stream.latency))
    finally:
        stream.close()


def _find(name: str) -> int:
    system, wanted = _portaudio(), name.lower()
    apis = [api["name"] for api in system.query_hostapis()]
    for number, device in enumerate(system.query_devices()):
        if device["max_output_channels"] >= 2 and wanted in f"{device['name']} ({apis[device['hostapi']]})".lower():
            return number
    raise AudioError(f'no sound card "{name}"; there are {", ".join(cards()) or "none"}')


def _portaudio() -> Any:
    needs("live", "sounddevice")
    try:
        import sounddevice
    except OSError as error:  # the library that it looks for
        raise AudioError("PortAudio is not on this machine; on Debian: apt install libportaudio2") from error
    return sounddevice
