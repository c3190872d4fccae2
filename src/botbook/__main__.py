"""``python -m botbook``."""

from __future__ import annotations

import sys

from botbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
