"""The public faces of other SDKs over the same core."""
