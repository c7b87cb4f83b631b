"""A study that was read, and what can be done with it."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from archobj_jax import native_messages
from archobj_jax.errors import UserError
from archobj_jax.study import changes, execution, status, submitting
from archobj_jax.study.design import Study
from archobj_jax.study.graph import Graph, expand
from archobj_jax.study.runner import Runner
from archobj_jax.study.store import Store

_CLEAR = "\033[H\033[2J"
_WATCH_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Session:
    """A study and where its stages lie.

    Attributes:
      graph: its stages.
      study: as it was written.
      store: where they lie.
      environment: of the stages' processes.
    """

    study: Study
    graph: Graph
    store: Store
    environment: Mapping[str, str]

    @classmethod
    def of(cls, study: Study, store: str, environment: Mapping[str, str]) -> "Session":
        """Expands a study.

        Raises:
          UserError: a mistake in a file that it names, or in a binding.
        """
        with native_messages.held_back():
            return cls(study, expand(study), Store(store), environment)

    def run(self, *, dry_run: bool, beside_others: bool) -> None:
        """Says what is to be done, does it, and writes the report.

        Args:
          dry_run: only to say it.
          beside_others: as `Runner` has it.

        Raises:
          UserError: the store is a bucket, or no folder that can be written; or stages failed, and
            the report of the others is written.
          SystemExit: told to stop.
        """
        if "://" in self.store.root:
            raise UserError(
                f"--store={self.store.root}: `archobj study run` runs stages here, into a local or "
                "mounted folder; for a bucket, `archobj study commands` says what to submit."
            )
        print(changes.summary(self.graph, self.store), flush=True)
        if dry_run:
            return
        self._check_writable()
        with self._own_folder():
            self.store.keep_graph(self.graph)
        runner = Runner(
            self.graph, self.store, self.environment, beside_others=beside_others, say=_say
        )
        try:
            runner.run()
        except execution.StoppedError as stopped:
            _say("Stopped. The same command goes on from there.")
            raise SystemExit(stopped.status) from None
        except UserError:
            if any(self.store.is_done(stage) for stage in self.graph):
                with contextlib.suppress(BrokenPipeError):  # what failed is told all the same
                    self.report()
            raise
        self.report()

    def status(self, *, watch: bool) -> None:
        """Prints where every stage stands; again and again with `watch`, until all are done.

        Raises:
          UserError: the store cannot be read.
        """
        self._check_readable()
        while True:
            text = status.status_table(self.graph, self.store)
            print(f"{_CLEAR}{text}" if watch else text, flush=True)
            if not watch or all(self.store.is_done(stage) for stage in self.graph):
                return
            time.sleep(_WATCH_SECONDS)

    def commands(self, launcher: str) -> str:
        """What to submit, stage by stage."""
        return submitting.commands(self.graph, self.store, launcher=launcher)

    def report(self) -> None:
        """Writes the report of what is done, and says where.

        Raises:
          UserError: the store cannot be read, or no training stage is done.
          MachineError: it cannot be written.
        """
        self._check_readable()
        from archobj_jax.study.report.writing import write_report  # the plots' library is heavy

        # A bucket has no locks, and for a mistyped folder none is made.
        local = Path(self.store.root).exists()
        with self._own_folder() if local else contextlib.nullcontext():
            print(write_report(self.study, self.graph, self.store))

    def _own_folder(self) -> AbstractContextManager[int]:
        """The study's folder, to be written by one process at a time."""
        folder = Path(self.store.study_folder(self.study.name))
        return execution.only_one(folder, lambda: None)

    def _check_writable(self) -> None:
        try:
            Path(self.store.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--store={self.store.root}: this is no folder, and none can be made there "
                f"({error.strerror}); expected one that can be written."
            ) from None

    def _check_readable(self) -> None:
        reason = submitting.unreadable(self.graph, self.store)
        if reason:
            raise UserError(f"--store={self.store.root}: cannot be read from here: {reason}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
