"""TensorBoard events, written where they are made, so that a full disk is an error there."""

import time

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

TENSORBOARD_DIR = "tensorboard"
_FLUSH_SECONDS = 30.0


class Events:
    """Scalars of one life of a run, in a file of its own.

    tensorboardX's SummaryWriter writes from a thread, and waits for ever once that has failed.

    Args:
      folder: of the run.
      start_step: what earlier lives recorded beyond it is hidden; 0 hides nothing.

    Raises:
      OSError: from every method, if the file cannot be written.
    """

    def __init__(self, folder: epath.Path, start_step: int):
        (folder / TENSORBOARD_DIR).mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / TENSORBOARD_DIR / "events"), f".{start_step}")
        if start_step:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(step=start_step + 1, session_log=start))
        self.flush()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds one point of a curve."""
        self._add(event_pb2.Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
