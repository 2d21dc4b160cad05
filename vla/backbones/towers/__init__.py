"""Vision towers: images become tokens."""
