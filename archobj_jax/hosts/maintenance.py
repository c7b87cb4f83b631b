"""Google Cloud's notices that a host will be taken away, as the SIGTERM that a run saves upon."""

import http.client
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

_HOST = "metadata.google.internal"
_NOTICES = {"maintenance-event": ("NONE",), "preempted": ("FALSE",)}
"""What of an instance's metadata tells, and the values that tell nothing
(docs.cloud.google.com/compute/docs/metadata/getting-live-migration-notice, and /preemptible)."""

_ASKED = 300
"""Seconds after which the server answers though nothing has changed."""

_RETRY = 30.0


def watch(host: str | None = None) -> None:
    """Sends this process SIGTERM once the metadata server tells of a maintenance or a preemption.

    Waits in threads of its own, which end with the process.

    Args:
      host: of the metadata server; by default GCE_METADATA_HOST, or Google's.
    """
    host = host or os.environ.get("GCE_METADATA_HOST", _HOST)
    told = threading.Lock()
    for name, nothing in _NOTICES.items():
        arguments = (host, name, nothing, told)
        threading.Thread(target=_wait, args=arguments, daemon=True, name=name).start()


def _wait(host: str, name: str, nothing: tuple[str, ...], told: threading.Lock) -> None:
    value, tag = "", "0"
    while not value or value in nothing:
        try:
            value, tag = _changed(host, name, tag)
        except TimeoutError:
            continue
        except (OSError, http.client.HTTPException):  # it restarts, or this network has none
            time.sleep(_RETRY)
    if told.acquire(blocking=False):
        print(f"archobj: the host will go away ({name}: {value})", file=sys.stderr, flush=True)
        # To the main thread, which handles it: one that is sent to the process may not wake it.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _changed(host: str, name: str, tag: str) -> tuple[str, str]:
    """The value of `name` and its tag, once the tag is not `tag`."""
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/{name}?wait_for_change=true&last_etag={tag}"
        f"&timeout_sec={_ASKED}",
        headers={"Metadata-Flavor": "Google"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=2 * _ASKED) as answer:
        return answer.read(64).decode(errors="replace").strip(), answer.headers.get("ETag", "0")
