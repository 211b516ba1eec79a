"""The nets of the paper, in torch."""
