"""Where events are kept, and how they become a frame."""
