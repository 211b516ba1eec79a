"""MIDI: bytes, what they mean, and the score that they make."""
