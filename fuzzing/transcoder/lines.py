"""Which lines of a package have run: what tells an input that leads somewhere new from one that does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Lines:
    """Counts the lines of the modules in `folder` that have run inside of `watching`.

    A function all of whose lines have run is traced no more, so that it costs little once most have.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self._left: dict[CodeType, set[int]] = {}
        self.seen = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count in this thread from here on."""
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        left = self._left.get(frame.f_code)
        if left is None:
            ours = frame.f_code.co_filename.startswith(self._folder)
            left = {line for _, _, line in frame.f_code.co_lines() if line} if ours else set()
            self._left[frame.f_code] = left
        return self._on_line if left else None

    def _on_line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        left = self._left[frame.f_code]
        if event == "line" and frame.f_lineno in left:
            left.discard(frame.f_lineno)
            self.seen += 1
        return self._on_line
