"""The six data sets: read from miniatures in their true layout, and verified with faults planted in these."""

import csv
import hashlib
import http.server
import io
import json
import pickle
import re
import shutil
import sys
import threading
import types
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from conftest import make_midi

from miao.datasets import guitarset, maestro, musicnet, urmp, verification
from miao.datasets.catalogue import DATASETS, card, count_splits, dataset, unpack_files
from miao.datasets.download import Remote, chosen, download
from miao.datasets.recordings import SPLITS
from miao.errors import DataError
from miao.sound.audio import Audio

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
SECONDS = 9.0
STARTS = np.array([202, 480, 893, 1536, 1901, 2602, 2899, 3408, 4224, 4522, 5165, 5760, 6038, 6816, 7459]) / 960
"""Seconds, in no step, and on the ticks of `make_midi`."""
PITCHES = 60 + np.arange(len(STARTS)) % 5
LENGTH = 0.25


# miniatures


def sound(starts, rate, channels=1, seconds=SECONDS):
    """A burst at each start, exactly there."""
    samples = np.zeros(round(seconds * rate), np.float32)
    burst = 0.2 * np.sin(np.arange(rate // 8) * 0.4 + 1) * np.exp(-np.arange(rate // 8) / (rate / 40))
    for start in np.rint(np.asarray(starts) * rate).astype(int):
        samples[start : start + len(burst)] += burst[: max(len(samples) - start, 0)]
    return Audio(np.tile(samples, (channels, 1)), rate)


def save(path, audio):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.samples.T, audio.sample_rate)  # faster than Audio.save, which dithers


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def midi(pitches=PITCHES, **track):
    notes = [(s, s + LENGTH, int(p), 64 + n) for n, (s, p) in enumerate(zip(STARTS, pitches, strict=True))]
    return make_midi({"notes": notes} | track)


def make_maestro(root):
    rows = []
    for n, split in enumerate(("train", "validation", "test")):
        name = f"200{n + 4}/piece{n}"
        save(root / f"{name}.wav", sound(STARTS, 44_100, channels=2))
        write(root / f"{name}.midi", midi(controls=[(0.4, 64, 127), (1.5, 64, 0)]))
        rows.append(
            {
                "canonical_composer": "A, B",
                "canonical_title": "Sonata",
                "split": split,
                "year": 2004 + n,
                "midi_filename": f"{name}.midi",
                "audio_filename": f"{name}.wav",
                "duration": SECONDS,
            }
        )
    columns = {key: {str(n): row[key] for n, row in enumerate(rows)} for key in rows[0]}
    write(root / "maestro-v3.0.0.json", json.dumps(columns))


def stem(program, is_drum=False, is_rendered=True, name="Something"):
    return {
        "audio_rendered": is_rendered,
        "midi_saved": is_rendered,
        "inst_class": name,
        "is_drum": is_drum,
        "midi_program_name": name,
        "plugin_name": "patch.nkm",
        "program_num": program,
    }


BAND = {"S00": stem(30), "S01": stem(128, is_drum=True), "S02": stem(4), "S03": stem(33),
        "S04": stem(103, is_rendered=False), "S05": stem(52)}  # fmt: skip


def make_song(song, stems=BAND, suffix=".flac", rate=44_100):
    lines = ["UUID: 1", "stems:"]
    for name, fields in stems.items():
        lines += [f"  {name}:", *(f"    {k}: {json.dumps(v)}" for k, v in fields.items())]
        if fields["audio_rendered"]:
            save(song / "stems" / f"{name}{suffix}", sound(STARTS, rate))
            # the programs in the files are not always those of the metadata
            write(song / "MIDI" / f"{name}.mid", midi(channel=9 if fields["is_drum"] else 0, program=7))
    save(song / f"mix{suffix}", sound(STARTS, rate))
    write(song / "all_src.mid", midi())
    write(song / "metadata.yaml", "\n".join(lines) + "\n")


def make_slakh(root):
    make_song(root / "train" / "Track00001")
    make_song(root / "validation" / "Track01501")
    make_song(root / "test" / "Track01876", {"S00": stem(0), "S01": stem(33)})
    make_song(root / "omitted" / "Track00002", {"S00": stem(0)})


def note(start, length, pitch):
    return {"time": start, "duration": length, "value": pitch, "confidence": None}


def jams(strings, seconds=SECONDS):
    annotations = [{"namespace": "chord", "annotation_metadata": {"data_source": ""}, "data": []}]
    for n in range(6):
        source = {"annotation_metadata": {"data_source": str(n)}}
        contour = {"time": [0.0], "duration": [0.0], "value": [{"frequency": 0.0}], "confidence": [None]}
        annotations.append(source | {"namespace": "pitch_contour", "data": contour})
        annotations.append(source | {"namespace": "note_midi", "data": strings.get(n, [])})
    return json.dumps({"annotations": annotations, "file_metadata": {"duration": seconds}})


def make_guitarset(root):
    low = [note(s, LENGTH, 40.25) for s in STARTS[::2]]
    high = [note(s, LENGTH, 66.8) for s in STARTS[1::2]]
    channels = np.zeros((6, round(SECONDS * 44_100)), np.float32)
    channels[0], channels[5] = sound(STARTS[::2], 44_100).samples[0], sound(STARTS[1::2], 44_100).samples[0]
    for name in ("00_BN1-129-Eb_comp", "03_Jazz2-110-Bb_solo", "05_SS3-98-C_solo"):
        write(root / "annotation" / f"{name}.jams", jams({0: low, 5: high}))
        for kind, suffix in (("debleeded", "hex_cln"), ("original", "hex")):
            save(root / f"audio_hex-pickup_{kind}" / f"{name}_{suffix}.wav", Audio(channels, 44_100))
        save(root / "audio_mono-mic" / f"{name}_mic.wav", sound(STARTS, 44_100))
        save(root / "audio_mono-pickup_mix" / f"{name}_mix.wav", sound(STARTS, 44_100))


def labels(instruments=(1, 41)):
    """Rows of MusicNet's table: sample numbers, instruments from 1."""
    rows = [(round(s * 44_100), round((s + LENGTH) * 44_100), instruments[n % len(instruments)], int(p), 0.0, 1.0, "Q")
            for n, (s, p) in enumerate(zip(STARTS, PITCHES, strict=True))]  # fmt: skip
    return rows


def table(rows):
    text = io.StringIO()
    csv.writer(text).writerows([musicnet.COLUMNS, *rows])
    return text.getvalue()


def make_musicnet(root):
    for part, number in (("train", "1727"), ("train", "1733"), ("test", "1759")):
        save(root / f"{part}_data" / f"{number}.wav", sound(STARTS, 44_100))
        write(root / f"{part}_labels" / f"{number}.csv", table(labels()))


def make_urmp(root):
    for number in ("01", "03"):
        piece = root / f"{number}_Dance_vn_tpt"
        save(piece / f"AuMix_{piece.name}.wav", sound(STARTS, 48_000))
        for n, (code, mine) in enumerate((("vn", STARTS[::2]), ("tpt", STARTS[1::2])), start=1):
            end = f"{n}_{code}_{number}_Dance"
            save(piece / f"AuSep_{end}.wav", sound(mine, 48_000))
            hz = 440 * 2 ** (0.2 / 12)
            write(piece / f"Notes_{end}.txt", "".join(f"{s:.9f}\t{hz:.3f}\t{LENGTH}\n" for s in mine))
            frames = np.arange(0, SECONDS, 0.01)
            is_on = np.array([any(s <= t < s + LENGTH for s in mine) for t in frames])
            f0 = np.where(is_on, hz * 2 ** (0.3 * np.sin(2 * np.pi * 6 * frames) / 12), 0.0)
            f0[np.flatnonzero(is_on)[5]] *= 2  # a wrong octave
            write(piece / f"F0s_{end}.txt", "".join(f"{t:.3f}\t{f:.3f}\n" for t, f in zip(frames, f0, strict=True)))


MAKE = {"maestro": make_maestro, "slakh": make_slakh, "cerberus4": make_slakh, "guitarset": make_guitarset,
        "musicnet": make_musicnet, "urmp": make_urmp}  # fmt: skip


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    """A folder for each data set; not to be changed."""
    roots = {}
    for name, make in MAKE.items():
        roots[name] = tmp_path_factory.mktemp(name)
        make(roots[name])
    return roots


@pytest.fixture
def broken(miniatures, tmp_path):
    """A copy of a data set's miniature, to be broken."""

    def copy(name):
        shutil.copytree(miniatures[name], tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture
def deaf(monkeypatch):
    """`verify` does not listen, which takes it the most time."""
    monkeypatch.setattr(verification, "check_alignment", lambda *_: [])


def by_name(root, name):
    return {recording.name: recording for recording in dataset(name).recordings(root)}


def faults(root, name):
    return {(fault.path, fault.what) for fault in dataset(name).verify(root)}


# what holds for all


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_has_a_card_a_licence_a_citation_and_an_origin(name):
    module = dataset(name)
    text = card(name)
    for row in ("size", "sound", "notes", "version", "split", "layout"):
        assert f"| {row} |" in module.__doc__
    assert "faults" in text or name == "cerberus4"
    assert module.LICENSE in text and module.CITATION in text
    assert re.fullmatch(r"(@\w+\{\w+,\n(.+\n)+\}\n?)+", module.CITATION)
    assert module.REMOTES and len({remote.name for remote in module.REMOTES}) == len(module.REMOTES)
    for remote in module.REMOTES:
        assert remote.url.startswith("https://")
        assert remote.checksum is None or re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", remote.checksum)
        assert remote.name in text


@pytest.mark.parametrize("name", DATASETS)
def test_a_whole_data_set_is_read_and_has_no_faults(name, miniatures):
    recordings = dataset(name).recordings(miniatures[name])
    assert recordings and len({recording.name for recording in recordings}) == len(recordings)
    for recording in recordings:
        assert recording.dataset == name and recording.split in SPLITS
        score = recording.read_score()
        parts = [part for part in (recording.mix, *recording.stems) if part]
        assert parts
        for part in parts:
            samples, rate = part.load()
            assert samples.shape[1] == SECONDS * rate
            assert part.tracks and all(0 <= track < len(score.tracks) for track in part.tracks)
        if recording.mix:
            assert recording.mix.tracks == tuple(range(len(score.tracks)))
        assert [part.tracks for part in recording.stems] == [(n,) for n in range(len(recording.stems))]
    assert dataset(name).verify(miniatures[name]) == []


@pytest.mark.parametrize("name", DATASETS)
def test_notes_start_at_the_sample_at_which_they_sound(name, miniatures):
    for recording in dataset(name).recordings(miniatures[name]):
        score = recording.read_score()
        for part in filter(None, (recording.mix, *recording.stems)):
            samples, rate = part.load()
            starts = np.unique(np.concatenate([score.tracks[track].notes["start"] for track in part.tracks]))
            for before in np.rint(starts * rate).astype(int) - 10:
                assert np.flatnonzero(samples[0, before:])[0] in (9, 10, 11)


@pytest.mark.parametrize("name", DATASETS)
def test_the_folder_above_will_do_as_a_root(name, miniatures, tmp_path):
    folder = dataset(name).FOLDERS[0]
    shutil.copytree(miniatures[name], tmp_path / folder)
    assert by_name(tmp_path, name).keys() == by_name(miniatures[name], name).keys()


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_without_the_data_set_is_refused(name, tmp_path):
    with pytest.raises(DataError, match="is neither there nor in"):
        dataset(name).recordings(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        dataset(name).verify(tmp_path / "nowhere")


def test_an_unknown_data_set_is_named_beside_the_known_ones():
    with pytest.raises(DataError, match="maestra: not a known data set; there are maestro, slakh"):
        dataset("maestra")


# one by one


def test_maestro_keeps_its_split_and_its_pedals(miniatures):
    recordings = maestro.recordings(miniatures["maestro"])
    assert count_splits(recordings) == {"train": 1, "validation": 1, "test": 1}
    (piano,) = recordings[0].read_score().tracks
    assert (piano.notes["program"] == 0).all() and not piano.notes["is_drum"].any()
    assert piano.notes["end"][1] == pytest.approx(0.75) and piano.notes["damp"][1] == pytest.approx(1.5)
    assert list(piano.notes["velocity"][:3]) == [64, 65, 66]


@pytest.mark.usefixtures("deaf")
def test_maestros_tables_say_the_same_as_rows_columns_and_csv(miniatures, tmp_path):
    columns = json.loads((miniatures["maestro"] / "maestro-v3.0.0.json").read_text())
    rows = [{key: column[n] for key, column in columns.items()} for n in columns["split"]]
    names = []
    for kind in ("json", "csv"):
        root = tmp_path / kind
        shutil.copytree(miniatures["maestro"], root)
        (root / "maestro-v3.0.0.json").unlink()
        if kind == "json":
            write(root / "maestro-v2.0.0.json", json.dumps(rows))
        else:
            with open(root / "maestro-v2.0.0.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        names.append([(r.name, r.split) for r in maestro.recordings(root)])
        assert maestro.verify(root) == []
    assert names[0] == names[1] == [(r.name, r.split) for r in maestro.recordings(miniatures["maestro"])]


def test_slakhs_programs_and_drums_are_those_of_the_metadata(miniatures):
    songs = by_name(miniatures["slakh"], "slakh")
    assert {name: song.split for name, song in songs.items()} == {
        "Track00001": "train", "Track01501": "validation", "Track01876": "test"}  # fmt: skip
    score = songs["Track00001"].read_score()
    assert [int(track.notes["program"][0]) for track in score.tracks] == [30, 0, 4, 33, 52]  # S04 was not rendered
    assert [bool(track.notes["is_drum"].all()) for track in score.tracks] == [False, True, False, False, False]
    assert [track.channel for track in score.tracks] == [0, 9, 2, 3, 4]
    assert [part.audio.name for part in songs["Track00001"].stems] == [f"S0{n}.flac" for n in (0, 1, 2, 3, 5)]


def test_babyslakh_has_no_splits_but_its_songs_numbers_tell(tmp_path):
    for number in (1, 1600, 2000):
        stems = {"S00": stem(0) | {"audio_rendered": True}}
        make_song(tmp_path / f"Track{number:05}", stems, ".wav", 16_000)
        metadata = tmp_path / f"Track{number:05}" / "metadata.yaml"
        write(metadata, metadata.read_text().replace("audio_rendered: true", "audio_rendered: false"))
    songs = by_name(tmp_path, "slakh")
    assert [song.split for song in songs.values()] == ["train", "validation", "test"]
    assert songs["Track00001"].stems[0].load()[1] == 16_000


def test_cerberus4_is_all_quartets_of_one_piano_guitar_bass_and_drums(tmp_path):
    make_song(tmp_path / "train" / "Track00001", BAND | {"S06": stem(24), "S07": stem(39)})
    make_song(tmp_path / "test" / "Track01876", {"S00": stem(0), "S01": stem(33)})
    songs = by_name(tmp_path, "cerberus4")
    assert list(songs) == [f"Track00001/S02-{pair}-S01" for pair in ("S00-S03", "S00-S07", "S06-S03", "S06-S07")]
    song = songs["Track00001/S02-S06-S03-S01"]
    assert song.mix is None and song.split == "train"
    assert [part.audio.name for part in song.stems] == ["S02.flac", "S06.flac", "S03.flac", "S01.flac"]
    score = song.read_score()
    assert [int(track.notes["program"][0]) for track in score.tracks] == [4, 24, 33, 0]
    assert score.tracks[3].notes["is_drum"].all() and score.tracks[3].channel == 9


@pytest.mark.usefixtures("deaf")
def test_a_song_without_the_sound_of_a_class_is_none_of_cerberus4(broken):
    root = broken("cerberus4")
    (root / "train" / "Track00001" / "stems" / "S03.flac").unlink()
    assert list(by_name(root, "cerberus4")) == ["Track01501/S02-S00-S03-S01"]
    assert faults(root, "cerberus4") == {("train/Track00001/stems/S03.flac", "missing")}


def test_a_guitars_strings_are_channels_and_tracks(miniatures):
    excerpts = by_name(miniatures["guitarset"], "guitarset")
    assert {name: e.split for name, e in excerpts.items()} == {
        "00_BN1-129-Eb_comp": "train", "03_Jazz2-110-Bb_solo": "train", "05_SS3-98-C_solo": "test"}  # fmt: skip
    excerpt = excerpts["05_SS3-98-C_solo"]
    assert [(part.name, part.channel, part.tracks) for part in excerpt.stems] == [
        ("string E", 0, (0,)), ("string e", 5, (1,))]  # fmt: skip
    assert excerpt.stems[0].audio.parent.name == "audio_hex-pickup_debleeded"
    score = excerpt.read_score()
    assert all((track.notes["program"] == 25).all() for track in score.tracks)


def test_what_rounding_takes_from_a_pitch_is_bend(miniatures):
    low, high = by_name(miniatures["guitarset"], "guitarset")["05_SS3-98-C_solo"].read_score().tracks
    assert set(low.notes["pitch"]) == {40} and set(high.notes["pitch"]) == {67}
    assert low.controls["bend"].at(low.notes["start"]) == pytest.approx(0.25)
    assert high.controls["bend"].at(high.notes["start"]) == pytest.approx(-0.2)
    assert low.controls["bend"].at(0.0) == 0


def test_a_string_plays_one_note_at_a_time(tmp_path):
    write(tmp_path / "a.jams", jams({2: [note(1.0, 2.0, 50.0), note(1.5, 0.5, 53.4)]}))
    (track,) = guitarset.read_guitar(tmp_path / "a.jams").tracks
    assert track.notes["end"] == pytest.approx([1.5, 2.0])
    assert track.controls["bend"].at(np.array([1.2, 1.6])) == pytest.approx([0.0, 0.4])


def test_musicnets_samples_and_instruments_become_seconds_and_programs(miniatures):
    recordings = by_name(miniatures["musicnet"], "musicnet")
    assert {name: r.split for name, r in recordings.items()} == {
        "1727": "train", "1733": "validation", "1759": "test"}  # fmt: skip
    piano, violin = recordings["1727"].read_score().tracks
    assert (piano.name, violin.name) == ("Acoustic Grand Piano", "Violin")
    assert (piano.notes["program"] == 0).all() and (violin.notes["program"] == 40).all()
    assert piano.notes["start"] * 44_100 == pytest.approx([row[0] for row in labels()[::2]], abs=1e-6)
    assert (violin.notes["end"] * 44_100).round().tolist() == [row[1] for row in labels()[1::2]]


def test_urmps_players_have_their_programs_and_their_vibrato(miniatures):
    pieces = by_name(miniatures["urmp"], "urmp")
    assert {name: p.split for name, p in pieces.items()} == {"01_Dance_vn_tpt": "test", "03_Dance_vn_tpt": "train"}
    violin, trumpet = pieces["01_Dance_vn_tpt"].read_score().tracks
    assert (violin.notes["program"] == 40).all() and (trumpet.notes["program"] == 56).all()
    assert set(violin.notes["pitch"]) == {69}
    bend = violin.controls["bend"]
    assert bend.at(violin.notes["start"]) == pytest.approx(0.2, abs=1e-3)
    times = violin.notes["start"][3] + np.arange(0.02, LENGTH - 0.02, 0.005)
    assert bend.at(times) == pytest.approx(0.2 + 0.3 * np.sin(2 * np.pi * 6 * times), abs=0.15)
    assert np.abs(bend.values).max() < 0.6, "the wrong octave is no bend"


@pytest.mark.parametrize(("hz", "program"), [(208.0, 64), (104.0, 66)])
def test_a_saxophone_that_goes_too_low_for_a_soprano_is_a_tenor(hz, program, tmp_path):
    write(tmp_path / "Notes_1_sax_40_Air.txt", f"1.0 440.0 0.5\n2.0 {hz} 0.5\n")
    player = urmp.Player("sax", tmp_path / "Notes_1_sax_40_Air.txt", tmp_path / "none", tmp_path / "none")
    (track,) = urmp.read_players([player]).tracks
    assert (track.notes["program"] == program).all()


@pytest.mark.usefixtures("deaf")
def test_a_mix_with_an_unknown_part_is_not_given_out(broken):
    root = broken("urmp")
    (root / "01_Dance_vn_tpt" / "Notes_2_tpt_01_Dance.txt").unlink()
    piece = by_name(root, "urmp")["01_Dance_vn_tpt"]
    assert piece.mix is None and len(piece.stems) == len(piece.read_score().tracks) == 1
    assert ("01_Dance_vn_tpt/Notes_2_tpt_01_Dance.txt", "missing") in faults(root, "urmp")


# the npz form of MusicNet


@pytest.fixture
def interval_trees(monkeypatch):
    """The two classes of the library that wrote musicnet.npz, as far as it shows in pickles."""
    interval = types.ModuleType("intervaltree.interval")
    tree = types.ModuleType("intervaltree.intervaltree")

    class Interval(tuple):
        __module__, __qualname__ = "intervaltree.interval", "Interval"

        def __reduce__(self):
            return Interval, tuple(self)

        def __new__(cls, *fields):
            return super().__new__(cls, fields)

    class IntervalTree:
        __module__, __qualname__ = "intervaltree.intervaltree", "IntervalTree"

        def __init__(self, intervals):
            self.intervals = intervals

        def __reduce__(self):
            return IntervalTree, (self.intervals,)

    interval.Interval, tree.IntervalTree = Interval, IntervalTree
    for module in (types.ModuleType("intervaltree"), interval, tree):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return Interval, IntervalTree


def npz(path, **members):
    """numpy.savez of Python objects, as MusicNet's was made."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", data.getvalue())


def test_musicnets_npz_form_becomes_the_other_one(tmp_path, interval_trees):
    interval, tree = interval_trees
    samples = sound(STARTS, 44_100).samples[0]
    rows = tree([interval(begin, end, (instrument, pitch, 1.0, 0.5, value))
                 for begin, end, instrument, pitch, _, _, value in labels()])  # fmt: skip
    pair = np.empty(2, object)
    pair[0], pair[1] = samples, rows
    npz(tmp_path / "musicnet.npz", **{"1727": pair, "1759": pair})
    with pytest.raises(DataError, match="miao data unpack musicnet"):
        musicnet.recordings(tmp_path)
    assert unpack_files("musicnet", tmp_path) == ["musicnet.npz"]
    recordings = by_name(tmp_path, "musicnet")
    assert {name: r.split for name, r in recordings.items()} == {"1727": "train", "1759": "test"}
    assert (recordings["1759"].mix.load()[0][0] == samples).all()
    piano = recordings["1759"].read_score().tracks[0]
    assert np.rint(piano.notes["start"] * 44_100).tolist() == [row[0] for row in labels()[::2]]
    assert musicnet.verify(tmp_path) == []


class Evil:
    """Runs a command when it is unpickled the usual way."""

    def __reduce__(self):
        return print, ("evil",)


def test_musicnets_npz_form_runs_no_code(tmp_path, capsys):
    pair = np.empty(2, object)
    pair[:] = [np.zeros(3, np.float32), Evil()]
    npz(tmp_path / "musicnet.npz", **{"1727": pair})
    with pytest.raises(DataError, match=r"builtins.print, which is not admitted"):
        musicnet.unpack(tmp_path)
    assert "evil" not in capsys.readouterr().out
    assert pickle.loads(pickle.dumps(Evil())) is None, "it would have"


# faults


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(("name", "path"), [
    ("maestro", "2004/piece0.wav"), ("maestro", "2005/piece1.midi"),
    ("slakh", "train/Track00001/mix.flac"), ("slakh", "train/Track00001/MIDI/S02.mid"),
    ("slakh", "validation/Track01501/metadata.yaml"), ("cerberus4", "train/Track00001/MIDI/S03.mid"),
    ("guitarset", "audio_mono-mic/05_SS3-98-C_solo_mic.wav"),
    ("musicnet", "train_data/1727.wav"), ("musicnet", "test_labels/1759.csv"),
    ("urmp", "03_Dance_vn_tpt/F0s_1_vn_03_Dance.txt"), ("urmp", "03_Dance_vn_tpt/AuMix_03_Dance_vn_tpt.wav"),
])  # fmt: skip
def test_a_missing_file_is_named(name, path, broken):
    root = broken(name)
    (root / path).unlink()
    assert faults(root, name) == {(path, "missing")}


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(("name", "path"), [
    ("maestro", "2004/piece0.wav"), ("slakh", "train/Track00001/stems/S02.flac"),
    ("guitarset", "audio_hex-pickup_debleeded/05_SS3-98-C_solo_hex_cln.wav"), ("musicnet", "train_data/1727.wav"),
    ("urmp", "03_Dance_vn_tpt/AuSep_1_vn_03_Dance.wav"),
])  # fmt: skip
def test_a_sound_file_that_was_cut_short_is_named(name, path, broken):
    root = broken(name)
    write(root / path, (root / path).read_bytes()[: (root / path).stat().st_size * 2 // 3])
    found = faults(root, name)
    assert (path, "truncated: the file ends before its sound does") in found
    assert {fault[0] for fault in found} == {path}


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(("name", "path", "what"), [
    ("maestro", "2004/piece0.wav", "not a readable sound file"), ("maestro", "2004/piece0.midi", "not a MIDI file"),
    ("slakh", "train/Track00001/MIDI/S02.mid", "not a MIDI file"),
    ("slakh", "train/Track00001/metadata.yaml", "not a song's metadata"),
    ("guitarset", "annotation/05_SS3-98-C_solo.jams", "not GuitarSet's JAMS"),
    ("musicnet", "train_labels/1727.csv", "not MusicNet's labels"),
    ("urmp", "03_Dance_vn_tpt/Notes_1_vn_03_Dance.txt", "not a table of numbers"),
    ("urmp", "03_Dance_vn_tpt/F0s_1_vn_03_Dance.txt", "not a table of numbers"),
])  # fmt: skip
def test_a_file_of_rubbish_is_named(name, path, what, broken):
    root = broken(name)
    write(root / path, b"start_time,end_time,rubbish\n{1,2,3")
    found = {fault for fault in faults(root, name) if fault[0] == path}
    assert len(found) == 1 and what in found.pop()[1]


@pytest.mark.usefixtures("deaf")
def test_a_midi_file_that_was_cut_short_is_named(broken):
    root = broken("maestro")
    write(root / "2004/piece0.midi", (root / "2004/piece0.midi").read_bytes()[:150])
    assert {fault[0] for fault in faults(root, "maestro")} == {"2004/piece0.midi"}


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("name", DATASETS)
def test_notes_outside_the_sound_are_named(name, broken):
    root = broken(name)
    recording = dataset(name).recordings(root)[0]
    part = recording.mix or recording.stems[0]
    part.audio.unlink()
    save(part.audio, sound(STARTS, 44_100, seconds=3.0))
    path = str(part.audio.relative_to(root))
    n_outside = sum((recording.read_score().tracks[n].notes["start"] >= 3.0).sum() for n in part.tracks)
    found = [what for where, what in faults(root, name) if where == path and "before the notes" in what]
    last = max(recording.read_score().tracks[n].notes["end"][-1] for n in part.tracks)
    assert found == [f"sound ends {last - 3:.1f} s before the notes; {n_outside} notes lie outside it"]


def test_sound_that_is_not_as_long_as_published_is_named(broken):
    root = broken("maestro")
    save(root / "new.wav", sound(STARTS, 44_100, seconds=12.0))
    (root / "new.wav").replace(root / "2004/piece0.wav")
    assert faults(root, "maestro") == {("2004/piece0.wav", "lasts 12.00 s, 9.00 s are published")}


def test_sound_that_goes_on_long_after_the_notes_is_named(broken):
    root = broken("musicnet")
    (root / "train_data/1727.wav").unlink()
    save(root / "train_data/1727.wav", sound(STARTS, 44_100, seconds=60.0))
    assert faults(root, "musicnet") == {("train_data/1727.wav", "notes end 52.0 s before the sound")}


@pytest.mark.parametrize(
    ("name", "shift", "side"),
    [(name, *((0.4, "after"), (-0.15, "before"))[n % 2]) for n, name in enumerate(DATASETS)],
)
def test_sound_that_stands_beside_its_notes_is_named(name, shift, side, broken):
    root = broken(name)
    recording = dataset(name).recordings(root)[0]
    mix = (recording.mix or recording.stems[2]).audio
    mix.unlink()
    save(mix, sound(STARTS + shift, 44_100))
    (fault,) = faults(root, name)
    assert fault[0] == str(mix.relative_to(root))
    seconds = float(re.fullmatch(rf"sound comes ([\d.]+) s {side} the notes", fault[1])[1])
    assert seconds == pytest.approx(abs(shift), abs=0.021)


def test_nothing_is_said_of_the_alignment_of_music_in_even_steps_or_without_attacks():
    steps = np.arange(0.5, 8, 0.25)
    assert verification.misalignment(sound(steps + 0.25, 44_100), steps) is None
    hum = np.sin(np.arange(9 * 44_100) * 0.02)[None].astype(np.float32)
    assert verification.misalignment(Audio(hum, 44_100), STARTS) is None
    assert verification.misalignment(Audio(np.zeros((1, 9 * 44_100)), 44_100), STARTS) is None


@pytest.mark.usefixtures("deaf")
def test_a_pitch_that_a_string_does_not_have_is_named(broken):
    root = broken("guitarset")
    path = "annotation/05_SS3-98-C_solo.jams"
    write(root / path, (root / path).read_text().replace("66.8", "120.1", 1))
    assert (path, "pitch 120.1 at 0.50 s is out of the reach of string e") in faults(root, "guitarset")


@pytest.mark.usefixtures("deaf")
def test_a_pickup_without_a_strings_channel_is_named(broken):
    root = broken("guitarset")
    path = "audio_hex-pickup_debleeded/05_SS3-98-C_solo_hex_cln.wav"
    (root / path).unlink()
    save(root / path, sound(STARTS[::2], 44_100, channels=4))
    assert faults(root, "guitarset") == {(path, "4 channels; channel 6 is wanted")}


@pytest.mark.parametrize(("row", "what"), [
    ((400, 100, 1, 60, 0, 1, "Q"), "note 1 is none"), ((100, 400, 0, 60, 0, 1, "Q"), "numbers from 1 to 128"),
    ((100, 400, 1, 200, 0, 1, "Q"), "note 1 is none"), ((), "holds no notes"),
])  # fmt: skip
def test_a_note_that_cannot_be_is_refused(row, what, tmp_path):
    write(tmp_path / "1.csv", table([row] if row else []))
    with pytest.raises(DataError, match=what):
        musicnet.read_labels(tmp_path / "1.csv")


@pytest.mark.usefixtures("deaf")
def test_a_split_that_does_not_exist_is_named(broken):
    root = broken("maestro")
    text = (root / "maestro-v3.0.0.json").read_text()
    write(root / "maestro-v3.0.0.json", text.replace('"validation"', '"valid"'))
    assert faults(root, "maestro") == {
        ("maestro-v3.0.0.json", "2005/piece1.midi: valid is no split; there are train, validation, test")}  # fmt: skip


@pytest.mark.usefixtures("deaf")
def test_an_instrument_that_does_not_exist_is_named(broken):
    root = broken("urmp")
    (root / "03_Dance_vn_tpt").rename(root / "03_Dance_vn_kazoo")
    assert any("kazoo is no instrument; there are vn, va" in what for _, what in faults(root, "urmp"))
    assert urmp.PROGRAMS.keys() == urmp.NAMES.keys() and len(urmp.PROGRAMS) == 13


# the real layout: excerpts of a second or two, with the annotations of the whole

needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason="the excerpts of the data sets are not here")


@pytest.mark.data
@needs_clips
def test_real_maestro():
    (recording,) = maestro.recordings(CLIPS / "maestro")
    (piano,) = recording.read_score().tracks
    assert recording.split == "train" and len(piano.notes) == 4197
    assert (piano.notes["damp"] > piano.notes["end"] + 0.1).mean() > 0.1, "there are pedals"
    assert recording.mix.load()[1] == 48_000
    whats = [fault.what for fault in maestro.verify(CLIPS / "maestro")]
    assert whats == [
        "lasts 2.00 s, 698.66 s are published",
        "sound ends 696.7 s before the notes; 4195 notes lie outside it",
    ]


@pytest.mark.data
@needs_clips
def test_real_guitarset():
    (recording,) = guitarset.recordings(CLIPS / "guitarset")
    assert recording.split == "test" and [part.channel for part in recording.stems] == [4, 5]
    assert recording.stems[0].load()[0].shape == (1, 22_050)
    high = recording.read_score().tracks[1]
    assert high.notes["pitch"][0] == 67
    assert high.controls["bend"].at(high.notes["start"][0]) == pytest.approx(0.0576, abs=1e-4)
    found = faults(CLIPS / "guitarset", "guitarset")
    assert ("audio_mono-mic/03_BN3-119-G_solo_mic.wav", "lasts 2.00 s, 32.26 s are published") in found
    assert ("audio_mono-mic/00_BN1-129-Eb_comp_mic.wav", "missing") in found


@pytest.mark.data
@needs_clips
@pytest.mark.parametrize(("folder", "rate"), [("slakh2100_flac_redux", 44_100), ("babyslakh_16k", 16_000)])
def test_real_slakh(folder, rate):
    (song,) = dataset("slakh").recordings(CLIPS / "slakh" / folder)
    assert (song.name, song.split, len(song.stems)) == ("Track00001", "train", 10)
    drums = song.read_score().tracks[1]
    assert drums.channel == 9 and drums.notes["is_drum"].all() and len(drums.notes) == 1076
    assert song.mix.load()[1] == rate
    assert any("sound ends 234.6 s before the notes" in what for _, what in faults(CLIPS / "slakh" / folder, "slakh"))
    quartets = dataset("cerberus4").recordings(CLIPS / "slakh" / folder)
    assert [quartet.name.split("-")[1] for quartet in quartets] == ["S00", "S07", "S08"], "it has three guitars"


# downloads


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file in pieces, and breaks off after the first if told to."""

    data = bytes(range(256)) * 2000
    knows_ranges, breaks_off = True, False
    asked: ClassVar[list] = []

    def do_GET(self):
        if self.path != "/file.zip":
            self.send_error(404)
            return
        span = self.headers.get("Range")
        type(self).asked.append(span)
        start = int(span[len("bytes=") : -1]) if span and self.knows_ranges else 0
        if start >= len(self.data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.data) - start))
        self.end_headers()
        self.wfile.write(self.data[start:][: 100_000 if self.breaks_off else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """(handler class, address of its file)."""
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield handler, f"http://127.0.0.1:{running.server_port}/file.zip"
        running.shutdown()
        thread.join()


MD5 = "md5:" + hashlib.md5(Server.data).hexdigest()


def test_a_download_goes_on_where_it_broke_off(server, tmp_path):
    handler, url = server
    remote = Remote("file.zip", url, len(Server.data), MD5)
    handler.breaks_off = True
    with pytest.raises(DataError, match=r"broke after 100,000 of 512,000 bytes; the same command goes on from here"):
        download(remote, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.zip.part"]
    handler.breaks_off = False
    shares = []
    assert download(remote, tmp_path / "new", shares.append).read_bytes() == Server.data
    assert handler.asked == [None, "bytes=100000-"] and shares[-1] == 1.0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.zip"]
    download(remote, tmp_path / "new")
    assert len(handler.asked) == 2, "what is there is not fetched again"


def test_a_download_begins_anew_where_the_server_cannot_go_on(server, tmp_path):
    handler, url = server
    handler.knows_ranges = False
    write(tmp_path / "file.zip.part", b"something else")
    assert download(Remote("file.zip", url, None, MD5), tmp_path).read_bytes() == Server.data


def test_a_whole_part_is_checked_and_named(server, tmp_path):
    _, url = server
    write(tmp_path / "file.zip.part", Server.data)
    assert download(Remote("file.zip", url, None, MD5), tmp_path).read_bytes() == Server.data


@pytest.mark.parametrize(("n_bytes", "checksum", "what"), [
    (None, "sha256:" + "0" * 64, "sha256 is"), (5, None, "512,000 bytes, 5 are published"),
])  # fmt: skip
def test_what_is_not_as_published_is_not_kept(server, tmp_path, n_bytes, checksum, what):
    with pytest.raises(DataError, match=what):
        download(Remote("file.zip", server[1], n_bytes, checksum), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_says_why_it_failed(server, tmp_path):
    with pytest.raises(DataError, match="the server says 404"):
        download(Remote("x", server[1] + "x"), tmp_path)
    with pytest.raises(DataError, match="refused"):
        download(Remote("x", "http://127.0.0.1:1/x"), tmp_path)
    with pytest.raises(DataError, match="with a browser"):
        download(urmp.REMOTES[0], tmp_path)


def test_optional_files_come_only_by_name():
    assert [remote.name for remote in chosen(maestro.REMOTES, None)] == ["maestro-v3.0.0.zip"]
    assert [r.name for r in chosen(maestro.REMOTES, ["maestro-v3.0.0-midi.zip"])] == ["maestro-v3.0.0-midi.zip"]
    with pytest.raises(DataError, match=r"there is no file x; there are maestro-v3.0.0.zip"):
        chosen(maestro.REMOTES, ["x"])


def test_archives_are_unpacked_where_the_loader_looks(miniatures, tmp_path):
    for remote in guitarset.REMOTES:
        folder = miniatures["guitarset"] / remote.folder
        with zipfile.ZipFile(tmp_path / remote.name, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    assert len(unpack_files("guitarset", tmp_path)) == 5
    assert by_name(tmp_path, "guitarset").keys() == by_name(miniatures["guitarset"], "guitarset").keys()
    write(tmp_path / "annotation.zip", b"rubbish")
    with pytest.raises(DataError, match=r"annotation.zip: cannot be unpacked"):
        unpack_files("guitarset", tmp_path)
    with pytest.raises(DataError, match=r"there is none of slakh2100_flac_redux.tar.gz"):
        unpack_files("slakh", tmp_path)
