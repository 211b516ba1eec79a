"""What librosa makes of a chirp: writes librosa.json beside this file. Needs librosa (0.11 wrote it); the tests do not.

python tests/golden/regenerate.py
"""

import json
from pathlib import Path

import numpy as np

SECONDS = 0.5
BANDS = (0, 10, 40, 70, 95)


def chirp(rate):
    """A tone that rises from 100 Hz to 6 kHz in half a second, over a steady one: [S]."""
    t = np.arange(round(SECONDS * rate)) / rate
    growth = np.log(60) / SECONDS
    return 0.3 * np.sin(2 * np.pi * 100 * np.expm1(growth * t) / growth) + 0.05 * np.sin(2 * np.pi * 440 * t)


def main():
    """Write the file."""
    import librosa

    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96)
    mel = librosa.feature.melspectrogram(
        y=chirp(16_000), sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    )
    centroid = librosa.feature.spectral_centroid(y=chirp(44_100), sr=44_100, n_fft=2048, hop_length=512)[0]
    golden = {
        "librosa": librosa.__version__,
        "filter_sums": np.round(filters.sum(axis=1), 8).tolist(),
        "log_mel": {str(band): np.round(np.log10(10_000 * mel[band] + 1), 6).tolist() for band in BANDS},
        "centroid_hz": np.round(centroid, 3).tolist(),
    }
    (Path(__file__).parent / "librosa.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
