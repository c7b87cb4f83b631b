"""Starts runs elsewhere: TPU VMs (`tpu_vm`), GKE (`gke`), or several processes here (`local`).

Needs Python's standard library only, so that it runs on a machine without the stack.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - no installer has checked it
    sys.exit("launch: error: needs Python 3.11 or newer")
