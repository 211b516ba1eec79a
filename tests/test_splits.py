"""Who is trained on and who is not, name by name: a piece that changes sides would make every result untrue."""

from types import SimpleNamespace

import joblib
import pytest

from miao.datasets import bank_pairs, folder, guitarset, musicnet, slakh, urmp
from miao.datasets.recordings import SPLITS


def test_urmp_holds_out_the_nine_pieces_of_mt3_and_no_other(tmp_path):
    for number in range(1, 45):
        piece = tmp_path / f"{number:02d}_Piece_vn"
        piece.mkdir()
        for name in (f"AuSep_1_vn_{number:02d}_Piece.wav", f"Notes_1_vn_{number:02d}_Piece.txt"):
            (piece / name).touch()
    by_split = {split: [] for split in SPLITS}
    for recording in urmp.recordings(tmp_path):
        by_split[recording.split].append(int(recording.name[:2]))
    held_out = [1, 2, 12, 13, 24, 25, 31, 38, 39]  # Gardner et al. 2022, appendix
    assert by_split == {"train": [n for n in range(1, 45) if n not in held_out], "validation": [], "test": held_out}


def test_musicnet_keeps_its_test_and_the_fifteen_of_mt3_for_validation(tmp_path):
    test = (1759, 1819, 2106, 2191, 2298, 2303, 2382, 2416, 2556, 2628)
    validation = (1733, 1765, 1790, 1818, 2160, 2198, 2289, 2300, 2308, 2315, 2336, 2466, 2477, 2504, 2611)
    for part, numbers in (("train", (1727, 1728, *validation)), ("test", test)):
        for suffix, kind in (("wav", "data"), ("csv", "labels")):
            (tmp_path / f"{part}_{kind}").mkdir()
            for number in numbers:
                (tmp_path / f"{part}_{kind}" / f"{number}.{suffix}").write_text(
                    "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n1,2,1,60,0,1,Quarter\n"
                )
    splits = {int(recording.name): recording.split for recording in musicnet.recordings(tmp_path)}
    assert {n for n, split in splits.items() if split == "test"} == set(test)
    assert {n for n, split in splits.items() if split == "validation"} == set(validation)
    assert (splits[1727], splits[1728], len(splits)) == ("train", "train", 27)


@pytest.mark.parametrize(("number", "split"), [
    (1, "train"), (1500, "train"), (1501, "validation"), (1875, "validation"), (1876, "test"), (2100, "test"),
])  # fmt: skip
def test_a_slakh_song_without_a_folder_is_placed_by_its_number(tmp_path, number, split):
    assert slakh.split_of(tmp_path / f"Track{number:05d}") == split
    assert slakh.split_of(tmp_path / "validation" / f"Track{number:05d}") == "validation"


def test_guitarset_holds_out_every_third_progression(tmp_path):
    found = {}
    for name in ("00_Jazz1-130-D_comp", "00_Jazz2-130-D_solo", "05_Rock3-117-Bb_comp", "03_Funk1-97-C_solo"):
        for place, file in (("annotation", f"{name}.jams"), ("audio_mono-mic", f"{name}_mic.wav")):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / file).write_text("{}")
    found = {recording.name: recording.split for recording in guitarset.recordings(tmp_path)}
    assert found == {name: "test" if "3-" in name else "train" for name in found} and len(found) == 4


# your own recordings and the songs of pairs: by the hash of the name, whatever folder they lie in

KEPT_PIECES = ["piece 5", "piece 12", "piece 38", "piece 41", "piece 42", "piece 59"]
KEPT_SONGS = ["song-13.mid", "song-27.mid", "song-39.mid"]


def test_of_your_own_pieces_the_same_tenth_is_kept_wherever_the_folder_lies(tmp_path):
    for root in (tmp_path / "here", tmp_path / "train" / "elsewhere"):
        root.mkdir(parents=True)
        for n in range(60):
            (root / f"piece {n}.mid").write_bytes(b"")
            (root / f"piece {n}.wav").write_bytes(b"")
        splits = {recording.name: recording.split for recording in folder.recordings(root)}
        assert sorted(name for name, split in splits.items() if split == "validation") == sorted(KEPT_PIECES)
        assert set(splits.values()) == {"train", "validation"}
    assert folder.split_of("test/a/piece 1") == "test" and folder.split_of("a/train/piece 5") == "train"
    assert folder.split_of("test") == "train", "a piece's own name is no folder"


def test_the_songs_of_pairs_are_shared_out_by_name_and_none_is_on_both_sides(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(bank_pairs, "SoundFont", lambda path: SimpleNamespace(close=lambda: None))
    table = SimpleNamespace(save=lambda path: None)
    monkeypatch.setattr(bank_pairs, "_voices_in", lambda notes: ([0], table))
    monkeypatch.setattr(bank_pairs, "_shard", lambda *job: jobs.append(job))
    monkeypatch.setattr(joblib, "Parallel", lambda n_jobs, return_as: lambda calls: (f(*a) for f, a, _ in calls))
    for place in ("a", "b/train"):
        (tmp_path / place).mkdir(parents=True)
        jobs.clear()
        for n in range(60):
            (tmp_path / place / f"song-{n}.mid").write_bytes(b"")
        list(bank_pairs.make_pairs(tmp_path / "x.sf2", [tmp_path / place], tmp_path, tmp_path / "out" / place,
                                   bank_pairs.PairSettings(n_pairs=10), 1))  # fmt: skip
        heard = {is_held_out: {f.name for f in files} for _, files, _, _, _, is_held_out, _ in jobs}
        assert heard[True] == set(KEPT_SONGS)
        assert heard[False] == {f"song-{n}.mid" for n in range(60)} - heard[True]
        assert {path.parent.name for *_, path, _, held, _ in jobs if held} == {"validation"}
