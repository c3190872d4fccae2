"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background has them ignore SIGINT, and so would everything
# that they start; the tests of the stop button need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
