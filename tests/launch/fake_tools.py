"""`xpk`, `kubectl`, `docker` and the gcloud of a cluster, by the name it is called by.

$FAKE_CLOUD/calls         every call, its name first: words separated by NUL, ended by two
$FAKE_CLOUD/jobset.json   what `kubectl get jobset` says, one after the other; the last one stays;
                          null is nothing of that name
$FAKE_CLOUD/pods.json     what `kubectl get pods` says
$FAKE_CLOUD/workload.json what `xpk workload create` was given last
$FAKE_CLOUD/images        the images that are there
$FAKE_CLOUD/fails         words of a call that fails
$FAKE_CLOUD/context.tar   what `docker build` was given
"""

import json
import os
import sys
from pathlib import Path

CLOUD = Path(os.environ["FAKE_CLOUD"])


def main() -> int:
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    with (CLOUD / "calls").open("a") as calls:
        calls.write("\0".join([name, *arguments]) + "\0\0")
    fails = CLOUD / "fails"
    if fails.exists() and fails.read_text() in " ".join([name, *arguments]):
        print("Unable to connect to the server", file=sys.stderr)
        return 1
    if name == "xpk" and arguments[:2] == ["workload", "create"]:
        (CLOUD / "workload.json").write_text(json.dumps(arguments))
    if name == "docker" and arguments[:2] == ["manifest", "inspect"]:
        return 0 if arguments[2] in (CLOUD / "images").read_text() else 1
    if name == "docker" and arguments[0] == "build":
        (CLOUD / "context.tar").write_bytes(sys.stdin.buffer.read())
    if name == "kubectl" and "jobset" in arguments:
        answers = json.loads((CLOUD / "jobset.json").read_text())
        if len(answers) > 1:
            (CLOUD / "jobset.json").write_text(json.dumps(answers[1:]))
        if answers[0] is None:
            print("Error from server (NotFound): jobsets not found", file=sys.stderr)
            return 1
        print(json.dumps({"status": answers[0], "spec": {"replicatedJobs": jobs()}}))
    if name == "kubectl" and "pods" in arguments:
        print((CLOUD / "pods.json").read_text())
    return 0


def jobs() -> list:
    """What xpk makes of a workload: beside a container with its command, one of xpk's own."""
    path = CLOUD / "workload.json"
    if not path.exists():
        return []
    flags = dict(each[2:].split("=", 1) for each in json.loads(path.read_text())[2:])
    script = f"echo XPK Start: $(date);\n({flags['command']}) & PID=$!;\nwait $PID;\n"
    containers = [
        {"image": flags["docker-image"], "command": ["bash", "-c", script]},
        {"image": "busybox:1.28"},
    ]
    return [{"template": {"spec": {"template": {"spec": {"containers": containers}}}}}]


if __name__ == "__main__":
    sys.exit(main())
