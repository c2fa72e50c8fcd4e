"""Talks to `liftquant.generation_child`: one model in a process of its own."""

import json
import subprocess
import tempfile
from types import TracebackType
from typing import Any

from algo.errors import LiftError
from liftquant.peer_process import start_module

_TAIL = 300  # characters of what a process that broke wrote last


class GenerationProcess:
    """One child; ends with the block it is opened in, or with this process.

    Args:
        name: of the model, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._child = start_module(
            "liftquant.generation_child", stdout=subprocess.PIPE, stderr=self._log, text=True,
            encoding="utf-8",
        )  # fmt: skip

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Args:
            do: a method of `liftquant.generation_child.Served`.
            fields: its arguments.

        Raises:
            LiftError: the child says so, or broke.
        """
        requests, answers = self._child.stdin, self._child.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json.dumps({"do": do, **fields}) + "\n")
            requests.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LiftError(f"{self._name}: its process ended without an answer ({self._tail()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            said = answer["error"]
            raise LiftError(said if self._name in said else f"{self._name}: {said}")
        return answer

    def _tail(self) -> str:
        status = self._child.wait()
        self._log.seek(0)
        written = " ".join(self._log.read().split())[-_TAIL:]
        return f"status {status}; it wrote: {written}" if written else f"status {status}"

    def __enter__(self) -> "GenerationProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.communicate()
        self._log.close()
