"""A simulated instance: some slots that work at a speed, a queue before them, and the ways in which it can go wrong."""

from __future__ import annotations

import enum
import random
from collections import deque
from typing import Protocol

from grpc import StatusCode

from grpc_registry import Instance
from simulation.clock import VirtualClock


class Job(Protocol):
    """An attempt as the server sees it."""

    @property
    def work(self) -> float:
        """Seconds that it takes one slot of a server of speed 1."""

    def answer(self, code: StatusCode) -> None:
        """Send the status to the client."""


class Mode(enum.Enum):
    WORKING = "answers"
    FROZEN = "holds what it has and answers nothing, as after SIGSTOP; its connections stay"
    DOWN = "the process is gone"


class Server:
    """Works on up to `slots` calls at a time, in the order of their arrival.

    `slowness` multiplies the time that each call takes from then on. Of the calls, `failure_rate` fail with UNAVAILABLE
    after `failure_seconds`, without a slot: a server whose database is gone answers faster than one that works.
    """

    def __init__(
        self, clock: VirtualClock, rng: random.Random, instance: Instance, slots: int, slowness: float = 1.0
    ) -> None:
        self.instance = instance
        self.slowness = slowness
        self.failure_rate = 0.0
        self.failure_seconds = 0.001
        self.mode = Mode.WORKING
        self.jobs: dict[Job, bool] = {}
        """All calls that are here, in the order of their arrival, and whether a slot has them."""
        self.arrived = 0
        self.peak = 0
        self._clock = clock
        self._rng = rng
        self.slots = self._free = slots
        self._queue: deque[Job] = deque()
        self._unsent: list[Job] = []  # finished while frozen

    def arrive(self, job: Job) -> None:
        self.arrived += 1
        if self.mode is Mode.DOWN:
            job.answer(StatusCode.UNAVAILABLE)  # by the machine: a reset
            return
        self.jobs[job] = False
        if len(self.jobs) > self.peak:
            self.peak = len(self.jobs)
        if self.failure_rate and self._rng.random() < self.failure_rate:
            self._clock.after(self.failure_seconds, self._send, job, StatusCode.UNAVAILABLE)
        elif self._free and self.mode is Mode.WORKING:
            self._begin(job)
        else:
            self._queue.append(job)

    def leave(self, job: Job) -> None:
        """The client has cancelled the call; a slot that has it is free at once."""
        if self.jobs.pop(job, False):
            self._free += 1
            self._begin_next()

    def _begin(self, job: Job) -> None:
        self._free -= 1
        self.jobs[job] = True
        self._clock.after(job.work * self.slowness, self._finish, job)

    def _begin_next(self) -> None:
        while self._queue and self._free and self.mode is Mode.WORKING:
            job = self._queue.popleft()
            if job in self.jobs:
                self._begin(job)

    def _finish(self, job: Job) -> None:
        if job not in self.jobs:
            return
        if self.mode is Mode.FROZEN:
            self._unsent.append(job)
            return
        self._free += 1
        self._send(job, StatusCode.OK)
        self._begin_next()

    def _send(self, job: Job, code: StatusCode) -> None:
        if job in self.jobs and self.mode is Mode.WORKING:
            del self.jobs[job]
            job.answer(code)

    def freeze(self) -> None:
        self.mode = Mode.FROZEN

    def thaw(self) -> None:
        """Go on, as after SIGCONT: first with what was finished meanwhile."""
        self.mode = Mode.WORKING
        unsent, self._unsent = self._unsent, []
        for job in unsent:
            self._finish(job)
        self._begin_next()

    def drop(self, job: Job) -> None:
        """The call loses its connection."""
        self.leave(job)
        job.answer(StatusCode.UNAVAILABLE)

    def stop(self) -> None:
        """The process ends, and every call here loses its connection."""
        self.mode = Mode.DOWN
        self._unsent.clear()
        for job in list(self.jobs):
            self.drop(job)
