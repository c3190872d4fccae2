"""From an event to the handler that answers it."""
