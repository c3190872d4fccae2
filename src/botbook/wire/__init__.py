"""The wires: frames to events, actions to frames. Pure: no socket, no clock, no thread."""
