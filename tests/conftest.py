"""What several test files share: a bank without a net, and MIDI files made on the spot."""

import io
from pathlib import Path

import mido
import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.voices import HARMONIC, N_PITCHES, N_PROGRAMS, N_VOICES, VoiceTable
from miao.sound.spectrum import mel_filters
from miao.synth import band_noise, oscillators
from miao.synth.synthesizer import Synthesizer

TICKS_PER_SECOND = 960


def make_toy_bank() -> Bank:
    """Plays through the real engine, but knows what it does: a note is one sine, as loud as its velocity, and falls
    silent within 0.1 s; a drum is 0.16 s of noise."""
    shape = (N_VOICES, N_PITCHES)
    table = VoiceTable(
        np.full(N_VOICES, HARMONIC, np.int8),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.full(N_VOICES, -1, np.int16),
        np.zeros((1, N_PITCHES, tk.N_PARTIALS), np.float32),
        np.zeros((*shape, tk.N_CELLS - 1), np.int8),
        np.ones(shape, np.uint8),
        np.zeros(N_VOICES, np.float32),
    )

    def decode(kind, voice, velocity, **_):
        levels = np.zeros((len(voice), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        levels[:, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
        loud = tk.db_to_level(20 * np.log10(velocity) - 12)[:, None]
        is_drum = voice >= N_PROGRAMS
        fall = np.arange(tk.CHUNK_STEPS) * 6.0
        if kind == tk.RELEASE:
            loud = np.maximum(loud - fall, 0)
        levels[~is_drum, :, 0] = np.broadcast_to(loud, levels.shape[:2])[~is_drum]
        if kind == tk.ATTACK:
            levels[is_drum, :, tk.N_PARTIALS + 10] = np.maximum(loud - 12 - fall / 3, 0)[is_drum]
        return levels, np.full_like(levels, 0.5)

    return Bank("toy", Path("toy"), table, decode, lambda frames: np.zeros((len(frames), 256, 4), np.float32), 4)


def pytest_addoption(parser):
    parser.addoption(
        "--kernels", help="run with these loops instead of the fastest: " + ", ".join(oscillators.variants())
    )


def pytest_configure(config):
    name = config.getoption("--kernels")
    if name and name not in oscillators.variants():
        pytest.exit(f"this processor cannot run the loops {name}; there are {', '.join(oscillators.variants())}", 4)
    if name:
        oscillators.set_variant(name)


@pytest.fixture(scope="session", autouse=True)
def noise_tables_made_once():
    """They take longer than what the tests render."""
    tables, make = {}, band_noise.noise_table

    def made(edges_hz, sample_rate, seed):
        if (sample_rate, seed) not in tables:
            tables[sample_rate, seed] = make(edges_hz, sample_rate, seed)
        return tables[sample_rate, seed]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(band_noise, "noise_table", made)
        yield


def rounding(size: float = 1.0, n: int = 16, kind: type = np.float32) -> float:
    """What n roundings of numbers up to a size may come to, whatever order a processor adds them in."""
    return n * float(np.finfo(kind).eps) / 2 * size


@pytest.fixture
def in_double(monkeypatch):
    """NumPy and torch reckon in double precision, also where the code says single: what must be equal but for rounding
    is then equal to some 1e-12 of its size on every processor, and a real difference is not taken for rounding."""
    torch = pytest.importorskip("torch")
    from_numpy, before = torch.from_numpy, torch.get_default_dtype()

    def as_double(array):
        tensor = from_numpy(array)
        return tensor.to(torch.float64) if tensor.is_floating_point() else tensor

    mel_filters.cache_clear()
    monkeypatch.setattr(torch, "from_numpy", as_double)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(np, "float32", np.float64)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
    mel_filters.cache_clear()


@pytest.fixture(scope="session")
def toy_bank() -> Bank:
    return make_toy_bank()


@pytest.fixture(scope="session")
def synthesizer(toy_bank) -> Synthesizer:
    return Synthesizer(toy_bank)


def make_midi(*tracks) -> bytes:
    """A MIDI file at 960 ticks a second; a track is {"notes": [(start, end, pitch, velocity)]} and, if wanted, name,
    channel, program, controls [(time, number, value)]. Times in seconds."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    for track in tracks:
        channel = track.get("channel", 0)
        events = [(0.0, 0, mido.Message("program_change", channel=channel, program=track.get("program", 0)))]
        for time, number, value in track.get("controls", ()):
            events.append((time, 0, mido.Message("control_change", channel=channel, control=number, value=value)))
        for start, end, pitch, velocity in track["notes"]:
            events.append((start, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
            events.append((end, 1, mido.Message("note_off", channel=channel, note=pitch)))
        lines = mido.MidiTrack([mido.MetaMessage("track_name", name=track.get("name", ""))])
        now = 0
        for time, _, message in sorted(events, key=lambda event: event[:2]):
            tick = round(time * TICKS_PER_SECOND)
            lines.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(lines)
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


@pytest.fixture(scope="session")
def midi():
    """`make_midi`."""
    return make_midi


@pytest.fixture(scope="session")
def song() -> bytes:
    """Six seconds of a melody (A5, two blocks long and more), a bass to the left and drums without reverb."""
    melody = [(t, t + 0.5, 81, 100) for t in np.arange(0, 6, 0.75)]
    return make_midi(
        {"name": "Melody", "notes": melody, "program": 73},
        {"name": "Bass: a/b", "notes": [(0, 6, 45, 80)], "channel": 1, "program": 33, "controls": [(0, 10, 20)]},
        {"notes": [(t, t + 0.1, 38, 110) for t in np.arange(0.5, 6, 1.5)], "channel": 9, "controls": [(0, 91, 0)]},
    )
