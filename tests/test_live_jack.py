"""The live instrument on a sound card that waits for nobody: JACK's, which plays to nowhere in real time.

Times on a busy machine say nothing, so none is asked for here; they stand in docs/live.md, with their command.
"""

import shutil
import subprocess
import time
from functools import partial

import numpy as np
import pytest

import miao.live.stage as stage_module
from miao.bank.bank import Bank
from miao.live.card import open_card
from miao.live.instrument import Instrument
from miao.live.ports import Keyboards
from miao.live.stage import Stage
from miao.synth.settings import PlaySettings

rtmidi = pytest.importorskip("rtmidi")
try:
    sounddevice = pytest.importorskip("sounddevice")
except OSError:
    pytest.skip("PortAudio is not installed", allow_module_level=True)
if shutil.which("jackd") is None or stage_module._compiled is None:
    pytest.skip("JACK, or a compiler when the package was installed, is missing", allow_module_level=True)

BLOCK, RATE = 256, 48_000
PATIENCE_SECONDS = 20.0
JACK = rtmidi.API_UNIX_JACK


@pytest.fixture(scope="module")
def jack():
    """A server of its own name, so that one that runs already is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JACK_DEFAULT_SERVER", "miao-test")
        patch.setenv("JACK_NO_START_SERVER", "1")
        command = ["jackd", "-n", "miao-test", "-r", "-d", "dummy", "-r", str(RATE), "-p", str(BLOCK)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not becomes(lambda: server.poll() is not None or is_seen()) or server.poll() is not None:
            server.kill()
            pytest.skip("JACK does not start here, or PortAudio knows nothing of it")
        yield
        sounddevice._terminate()
        server.terminate()
        server.wait()
        sounddevice._initialize()


def is_seen():
    """Whether PortAudio, begun anew, knows of the server."""
    sounddevice._terminate()
    sounddevice._initialize()
    return any("JACK" in api["name"] for api in sounddevice.query_hostapis())


@pytest.fixture(scope="module")
def instrument(jack):
    stage = Stage(Bank.load("gm", 1), range(16), PlaySettings(sample_rate=RATE, polyphony=64), gain_db=0.0)
    instrument = Instrument(stage)
    instrument.choose(0, 19)
    stage.player.prefetch(19, range(60, 72))
    with open_card(stage, "jack", BLOCK) as card:
        assert card.latency > 0
        instrument.start()
        yield instrument
        instrument.stop()


def becomes(condition):
    """Whether something comes true, with more patience than a busy machine needs."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def loudness(stage):
    """The highest sample of what is played from now on, for a tenth of a second."""
    samples = np.empty(RATE, np.float32)
    stage.engine.set_taping(True)
    time.sleep(0.1)
    stage.engine.set_taping(False)
    return float(np.abs(samples[: stage.engine.taped(samples)]).max(initial=0))


def test_the_callback_plays_what_is_put(instrument):
    stage = instrument.stage
    before = stage.engine.counts()["blocks"]
    assert becomes(lambda: stage.engine.counts()["blocks"] > before + 10)
    assert loudness(stage) == 0
    instrument.put(b"\x90\x3c\x64")
    assert becomes(lambda: loudness(stage) > 0.005)
    heard = stage.heard[-1]
    assert heard.block <= heard.sample < heard.block + BLOCK
    instrument.put(b"\xff")
    assert becomes(lambda: stage.engine.counts()["voices"] == 0)


def is_heard(keys, stage):
    """Whether a key that is struck, and struck again where the connection had not been made yet, is heard."""
    keys.send_message([0x80, 64, 64])
    keys.send_message([0x90, 64, 100])
    time.sleep(0.2)
    return stage.engine.counts()["voices"] > 0


def test_a_keyboard_is_found_lost_and_found_again(instrument):
    stage = instrument.stage

    def keyboard():
        out = rtmidi.MidiOut(JACK, name="test-keys")
        out.open_virtual_port("keys")
        return out

    keys = keyboard()
    keyboards = Keyboards(instrument, ["test-keys"], own_port=False, api=JACK)
    try:
        assert becomes(lambda: bool(keyboards.names))
        for _ in range(2):
            assert becomes(partial(is_heard, keys, stage))
            keys.delete()
            began = time.monotonic()
            assert becomes(lambda: not keyboards.names and stage.engine.counts()["voices"] == 0)
            assert time.monotonic() - began < PATIENCE_SECONDS / 2
            keys = keyboard()
            assert becomes(lambda: bool(keyboards.names))
    finally:
        keyboards.close()
        keys.delete()
