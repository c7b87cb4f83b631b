"""A notice of Google Cloud's metadata server becomes SIGTERM."""

import http.server
import signal
import threading

import pytest

from archobj_jax.hosts import maintenance


class Metadata:
    """A metadata server; `tell` changes a value."""

    def __init__(self):
        self.values = {"maintenance-event": ("NONE", 1), "preempted": ("FALSE", 1)}
        self.changed = threading.Condition()
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path, _, query = self.path.partition("?")
                name = path.rpartition("/")[2]
                outer.asked.append((self.path, self.headers["Metadata-Flavor"]))
                tag = query.rpartition("=")[2]
                with outer.changed:
                    outer.changed.wait_for(lambda: str(outer.values[name][1]) != tag, 30)
                    value, now = outer.values[name]
                self.send_response(200)
                self.send_header("ETag", str(now))
                self.end_headers()
                self.wfile.write(value.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tell(self, name, value):
        with self.changed:
            self.values[name] = (value, self.values[name][1] + 1)
            self.changed.notify_all()


@pytest.fixture
def metadata():
    made = Metadata()
    yield made
    made.server.shutdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"), ("preempted", "TRUE")],
)
def test_a_notice_is_sigterm_and_none_is_not(metadata, name, value, capsys):
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        maintenance.watch(f"127.0.0.1:{metadata.server.server_port}")
        metadata.tell(name, metadata.values[name][0])  # a change that tells nothing
        assert not came.wait(0.5)
        metadata.tell(name, value)
        assert came.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert f"archobj: the host will go away ({name}: {value})" in capsys.readouterr().err
    assert {flavor for _, flavor in metadata.asked} == {"Google"}
