"""The world in a box: the embedded side of every wire."""
