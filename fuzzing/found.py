"""What a fuzzer found: what is wrong, and the inputs that show it, kept as files that tests replay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parents[1] / "tests" / "fuzz"
"""Where found inputs are kept: a directory for each fuzzer, a file for each finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken. `kind` is the promise in a word or two, `what` says how, for a person.

    `inputs` are what breaks it again, as JSON; none if it cannot be told which did.
    """

    kind: str
    what: str
    inputs: Sequence[Any] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"

    def keep(self, directory: Path) -> Path | None:
        """Write it into `directory`, under a name that is the same for the same inputs; None if there are no inputs."""
        if not self.inputs:
            return None
        inputs = json.dumps(self.inputs, indent=1)
        name = f"{self.kind.replace(' ', '-')}-{hashlib.sha256(inputs.encode()).hexdigest()[:10]}.json"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(json.dumps({"found": str(self)[:2000], "inputs": self.inputs}, indent=1) + "\n")
        return path


def kept(target: str) -> list[Path]:
    """The files of what the fuzzer `target` has found, sorted."""
    return sorted((KEPT / target).glob("*.json"))


def inputs_of(path: Path) -> list[Any]:
    """The inputs in a file that `Finding.keep` has written, or that a person wrote like it."""
    return list(json.loads(path.read_text())["inputs"])
