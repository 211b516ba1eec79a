"""Reads mutated MIDI files by the ten thousand: none may crash, hang, give a number that is none, or eat memory.

    python bench/fuzz.py FOLDER [FOLDER ...] --files 100000 --journal fuzz.json

Each file is a real one from the folders, shortened (the first bytes of each of its tracks) and then damaged: bytes
changed, left out, put in, moved, taken from another file; the number of the file decides how. What is read is checked
note by note, and of every 500th file a second is played. The journal is written every 500 files: the same command goes
on where it was stopped. A file that fails is kept beside the journal.
"""

import argparse
import json
import logging
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from miao.errors import MiaoError, ScoreError
from miao.midi.score import Score, read_score
from miao.synth.synthesizer import Synthesizer

LONGEST_SECONDS = 10  # of processor time, so that a busy machine makes no hang
MOST_BYTES_A_TRACK = 600
MOST_TRACKS = 8
PLAYED_EVERY = 500
MOST_MEMORY = 4 << 30
INTERESTING = (
    b"\xf0", b"\xf7", b"\xff\x2f\x00", b"\xff\x51\x03\x00\x00\x00", b"\xff\x51\x03\xff\xff\xff", b"\xff\xff\xff\x7f",
    b"\x00\xb0\x65\x00\x00\x64\x00\x00\x06\x7f", b"\x00\xb0\x7e\x01", b"\x00\xb0\x79\x00", b"\x00\xb0\x06\x0f",
    b"\x00\xb0\x64\x06\x00\xb0\x65\x00\x00\xb0\x06\x0f", b"\x00\xf0\x05\x7e\x7f\x09\x01\xf7", b"\x00\xb0\x78\x00",
    b"\x00\xf0\x0a\x41\x10\x42\x12\x40\x00\x7f\x00\x41\xf7", b"\x00\xf0\x08\x43\x10\x4c\x00\x00\x7e\x00\xf7",
    b"\x00\xf0\x12\x7e\x7f\x08\x08\x03\x7f\x7f" + bytes(range(12)) + b"\xf7", b"\x00\xb0\x54\x20", b"\x00\xb0\x41\x7f",
    b"\x00\xff\x21\x01\x05", b"\x00\xff\x09\x01\x41", b"\xf4", b"\xfd", b"\x80" * 8, b"\x00" * 8, b"MTrk", b"MThd",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--journal", type=Path, default=Path("fuzz.json"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    sources = [_shortened(path.read_bytes()) for path in _paths(options.folders)]
    synthesizer = Synthesizer.from_pretrained("gm")
    state: dict = {"next": 0, "outcomes": {}, "worst_seconds": 0.0, "processor_seconds": 0.0, "failed": []}
    if options.journal.exists():
        state = json.loads(options.journal.read_text())
    outcomes = Counter(state["outcomes"])
    for number in range(state["next"], options.files):
        data = _mutated(sources, number)
        began = time.process_time()
        try:
            outcome = _outcome(data, synthesizer if number % PLAYED_EVERY == 0 else None)
        except Exception as error:  # any other end than these is a failure
            outcome = f"failed: {type(error).__name__}"
            state["failed"].append([number, repr(error)[:200]])
            options.journal.with_name(f"failed-{number}.mid").write_bytes(data)
        outcomes[outcome] += 1
        seconds = time.process_time() - began
        state["worst_seconds"] = max(state["worst_seconds"], round(seconds, 3))
        state["processor_seconds"] = round(state["processor_seconds"] + seconds, 3)
        if (number + 1) % 500 == 0 or number + 1 == options.files:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            state |= {"next": number + 1, "outcomes": dict(outcomes)}
            state["megabytes"] = max(state.get("megabytes", 0), memory)
            temporary = options.journal.with_suffix(".tmp")
            temporary.write_text(json.dumps(state, indent=1))
            temporary.rename(options.journal)
    print(json.dumps(state, indent=1))


def _too_long(*_) -> None:
    raise TimeoutError(f"longer than {LONGEST_SECONDS} s")


def _outcome(data: bytes, synthesizer: Synthesizer | None) -> str:
    signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
    try:
        score = read_score(data)
        _check(score)
        if synthesizer is None:
            return "read"
        start = float(min(track.notes["start"][0] for track in score.tracks))
        try:
            audio = synthesizer.render(score, start=start, end=start + 1, gain_db=0.0)
        except ScoreError:
            raise
        except MiaoError as error:
            if "nothing sounds" not in str(error):
                raise
            return "read, silent in its first second"
        assert np.isfinite(audio.samples).all(), "a sample that is no number"
        return "read and played"
    except ScoreError as error:
        assert "\n" not in str(error)
        return "refused in one line"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _check(score: Score) -> None:
    for track in score.tracks:
        notes = track.notes
        for name in ("start", "end", "damp", "glide", "glide_seconds", "tuning", "gain", "pan", "send"):
            assert np.isfinite(notes[name]).all(), name
        assert (notes["start"] >= 0).all() and (notes["end"] >= notes["start"]).all()
        assert (notes["damp"] >= notes["end"]).all() and (notes["cut"] >= notes["start"]).all()
        assert ((notes["velocity"] > 0) & (notes["velocity"] < 128)).all() and (notes["pitch"] >= 0).all()
        for curve in track.controls.values():
            assert (np.diff(curve.times) > 0).all() and np.isfinite(curve.values).all()
    assert np.isfinite(score.duration) and score.end >= score.duration


def _paths(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".rmi", ".kar"))


def _shortened(data: bytes) -> bytes:
    """A file of the first bytes of each of the first tracks."""
    start = data.find(b"MThd")
    if start < 0 or len(data) < 14:
        return data[:MOST_BYTES_A_TRACK]
    chunks, position = [], data.find(b"MTrk", start)
    while 0 <= position <= len(data) - 8 and len(chunks) < MOST_TRACKS:
        size = struct.unpack(">I", data[position + 4 : position + 8])[0]
        body = data[position + 8 : position + 8 + min(size, MOST_BYTES_A_TRACK)]
        body = body if size <= MOST_BYTES_A_TRACK else body + b"\x00\xff\x2f\x00"
        chunks.append(b"MTrk" + struct.pack(">I", len(body)) + body)
        position = data.find(b"MTrk", position + 8 + size)
    return data[start : start + 10] + struct.pack(">H", len(chunks)) + data[start + 12 : start + 14] + b"".join(chunks)


def _mutated(sources: list[bytes], number: int) -> bytes:
    random = np.random.default_rng([number, 13])
    data = bytearray(sources[random.integers(len(sources))])
    for _ in range(random.integers(1, 12)):
        at = int(random.integers(0, max(len(data), 1)))
        size = int(random.integers(1, 40))
        match random.integers(8):
            case 0 | 1:
                data[at : at + 1] = bytes([random.integers(256)])
            case 2:
                data[at : at + 1] = bytes([random.choice([0, 0x7F, 0x80, 0xFF, 0xF0, 0x90])])
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = bytes(random.integers(0, 256, size, dtype=np.uint8))
            case 5:
                data[at:at] = INTERESTING[random.integers(len(INTERESTING))]
            case 6:
                other = sources[random.integers(len(sources))]
                begin = int(random.integers(0, max(len(other), 1)))
                data[at : at + size] = other[begin : begin + 4 * size]
            case _:
                data[at:at] = data[max(at - size, 0) : at]
    return bytes(data[: int(random.integers(1, len(data) + 1))] if random.integers(12) == 0 else data)


if __name__ == "__main__":
    main()
