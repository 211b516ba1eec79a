"""Sound: files, mixing desk, room, loudness, limiter, spectra."""
