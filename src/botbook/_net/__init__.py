"""The only sockets, timers and tokens."""
