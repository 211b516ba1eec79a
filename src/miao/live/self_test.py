"""How well this machine plays live: from a key to its first sample, voices a core, and what a busy minute loses."""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

import miao.live.stage as stage_module
from miao.bank.bank import Bank
from miao.live.card import open_card
from miao.live.instrument import N_CHANNELS, Instrument
from miao.live.stage import Stage, clock_ns
from miao.midi.events import NOTE_OFF, NOTE_ON
from miao.synth.settings import PlaySettings

HELD = 32  # notes that sound all the time
ORGAN, STRINGS = 19, 48  # programs (from 0) that go on as long as they are held
COUNTED_VOICES, COUNTED_SECONDS = 64, 2.0
PREPARING_SECONDS = 20.0  # at most, until attacks are at hand as they are soon after one has sat down
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True)
class Found:
    """What was measured; latencies in seconds."""

    card: str
    block: int
    sample_rate: int
    seconds: float
    latencies: (
        np.ndarray
    )  # from note-on to the moment that the card asks for the block with the first sample, and to it
    card_latency: float  # from there on, as the system says
    limiter_latency: float
    n_unheard: int
    n_dropouts: int
    n_own_dropouts: int  # those before which a block of ours had asked for more processor time than it lasts
    n_overruns: int
    longest_block: float  # seconds that a block took, at most, by the clock
    most_worked: float  # and in processor time
    n_withheld: int  # times that a thread of that priority without any work was late by a block and more,
    most_withheld: float  # and by how many seconds at most
    most_voices: int
    load: float
    voices_a_core: float

    def __str__(self) -> str:
        ms = 1000 * (self.latencies + self.limiter_latency)
        if not len(ms):
            return f"{self.card}: no note was heard within {_PATIENCE_SECONDS} s; is the card playing?"
        period = 1000 * self.block / self.sample_rate
        return "\n".join(
            (
                f"card              {self.card}, {self.block} samples at {self.sample_rate} Hz ({period:.1f} ms)",
                f"note-on to sound  median {np.median(ms):.1f} ms, p99.9 {np.percentile(ms, 99.9):.1f} ms "
                f"({len(ms)} notes, {self.n_unheard} unheard)",
                f"                  with {1000 * self.limiter_latency:.1f} ms of the limiter, without "
                f"{1000 * self.card_latency:.1f} ms of the card",
                f"dropouts          {self.n_own_dropouts} by us, {self.n_dropouts - self.n_own_dropouts} by the system "
                f"in {self.seconds:.0f} s, up to {self.most_voices} voices, a busy Python thread beside",
                f"blocks            {self.n_overruns} took longer than they last, the longest "
                f"{1000 * self.longest_block:.2f} ms; {1000 * self.most_worked:.2f} ms of processor time at most",
                f"this machine      let an idle thread wait for {1000 * self.most_withheld:.1f} ms at most, "
                f"{self.n_withheld} times for a block and more",
                f"load              {self.load:.0%} of a core; {self.voices_a_core:.0f} voices would fill one",
            )
        )


def measure(bank: Bank, card: str | None, block: int, sample_rate: int, seconds: float) -> Found:
    """Plays quietly for some seconds and listens to itself. Raises: AudioError if the card cannot be opened."""
    voices = voices_a_core(bank, block, sample_rate)
    settings = PlaySettings(sample_rate=sample_rate, polyphony=128)
    stage = Stage(bank, range(N_CHANNELS), settings, gain_db=-30.0)
    instrument = Instrument(stage)
    instrument.choose(1, ORGAN)
    stage.player.prefetch(ORGAN, range(36, 36 + HELD))
    is_over = threading.Event()
    busy = threading.Thread(target=_work, args=(is_over,), daemon=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        with open_card(stage, card, block) as where:
            instrument.expect(0, 0)
            instrument.start()
            for key in range(36, 36 + HELD):
                instrument.put(bytes([NOTE_ON | 1, key, 80]))
            time.sleep(1.0)
            until = time.monotonic() + PREPARING_SECONDS
            while stage.attacks.is_waiting and time.monotonic() < until:
                time.sleep(0.05)
            busy.start()
            watch = stage_module._compiled.Watch(block / sample_rate)
            counts, latencies, n_unheard = stage.engine.counts(), [], 0
            until = time.monotonic() + seconds
            random = np.random.default_rng(0)
            while time.monotonic() < until:
                found = _one_note(instrument, int(random.integers(60, 84)), int(random.integers(40, 120)))
                if found is None:
                    n_unheard += 1
                else:
                    latencies.append(found)
                time.sleep(float(random.uniform(0.02, 0.06)))
            after = stage.engine.counts()
            watch.stop()
            _, n_withheld, most_withheld = watch.counts()
            instrument.stop()
            name, latency = where.name, where.latency
    finally:
        is_over.set()
        sys.setswitchinterval(before)
    made = (after["blocks"] - counts["blocks"]) * after["block_samples"] / sample_rate
    load = (after["busy_ns"] - counts["busy_ns"]) * 1e-9 / max(made, 1e-9)
    return Found(
        name, int(after["block_samples"]), sample_rate, seconds, np.array(latencies), latency, stage.limiter_seconds,
        n_unheard, after["dropouts"] - counts["dropouts"], after["own_dropouts"] - counts["own_dropouts"],
        after["overruns"] - counts["overruns"],
        after["longest_ns"] * 1e-9, after["most_worked_ns"] * 1e-9, n_withheld, most_withheld,
        after["most_voices"], load, voices,
    )  # fmt: skip


def voices_a_core(bank: Bank, block: int, sample_rate: int) -> float:
    """How many held notes (organ and strings, with the room) would take all of a core's time."""
    stage = Stage(bank, range(N_CHANNELS), PlaySettings(sample_rate=sample_rate, polyphony=COUNTED_VOICES))
    instrument = Instrument(stage)
    instrument.choose(0, ORGAN)
    instrument.choose(1, STRINGS)
    for n in range(COUNTED_VOICES):
        instrument.play(0.0, bytes([NOTE_ON | n % 2, 36 + n // 2, 80]))
    out, times, position = np.empty((2, block), np.float32), [], 0
    while position < COUNTED_SECONDS * sample_rate:
        stage.advance((position + block) / sample_rate)
        stage.look_ahead(position / sample_rate)
        began = time.thread_time_ns()
        stage.engine.render(out)
        times.append(time.thread_time_ns() - began)
        position += block
    return COUNTED_VOICES * block / sample_rate / (float(np.mean(times[len(times) // 2 :])) * 1e-9)


def _one_note(instrument: Instrument, key: int, velocity: int) -> float | None:
    """Seconds from a note-on to its first sample; None if it was not heard."""
    heard = instrument.stage.heard
    heard.clear()
    began = clock_ns()
    instrument.put(bytes([NOTE_ON, key, velocity]), at_ns=began)
    until = time.monotonic() + _PATIENCE_SECONDS
    while not heard and time.monotonic() < until:
        time.sleep(0.002)
    instrument.put(bytes([NOTE_OFF, key, 64]))
    if not heard:
        return None
    first = heard[0]
    return (first.clock_ns - began) * 1e-9 + (first.sample - first.block) / instrument.stage.sample_rate


def _work(is_over: threading.Event) -> None:
    """What a busy Python program does beside."""
    kept: deque[int] = deque(maxlen=1000)
    while not is_over.is_set():
        kept.append(sum(range(200)))
