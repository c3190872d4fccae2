"""Run by tests: for each line of input, fork a process that archives a journal until it is killed.

Arguments: path, rows of a segment.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet  # loaded once, before the forks  # noqa: F401

from botbook._data.archive import archive

LATE = datetime(2030, 1, 1, tzinfo=UTC)


def main(path: Path, rows: int) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os.write(1, b"pid %d\n" % os.getpid())
            archive(path, before=LATE, now=LATE, segment_rows=rows, sleep=lambda seconds: None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, b"end %d\n" % status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
