"""A `gcloud` that keeps its TPUs in a folder, $FAKE_CLOUD: records calls, and fails on cue.

calls             every call: its arguments, separated by NUL, ended by two
creations         for each queued resource to come, a line: the states that it is described with,
                  one after the other; the last one stays
failures          a line each: times|words of a call|what it says; such calls fail so often
hangs             words of a call whose first time does not end
workers           number of hosts of each TPU VM (2)
missing           names of TPU VMs that are not there although their queued resource is
resources/NAME    accelerator type, and states that are left to describe
vms/NAME          the state of a TPU VM without a queued resource
hosts/NODE-w-I    the home of a host; `ssh` has a shell evaluate the command there

It is called hundreds of times, so it imports only what a call needs.
"""

import os
import sys

CLOUD = os.environ["FAKE_CLOUD"]


def main(arguments):
    with open(f"{CLOUD}/calls", "a") as calls:
        calls.write("\0".join(arguments) + "\0\0")
    failures = read("failures").splitlines()
    for index, failure in enumerate(failures):
        times, words, says = failure.split("|")
        if int(times) and words in " ".join(arguments):
            failures[index] = f"{int(times) - 1}|{words}|{says}"
            write("failures", "\n".join(failures))
            print(says, file=sys.stderr)
            return 1
    hangs = read("hangs")
    if hangs and hangs in " ".join(arguments):
        write("hangs", "")
        os.waitpid(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600"), 0)
    assert arguments[:2] == ["compute", "tpus"], arguments
    kind, verb, name = arguments[2:5]
    flags = dict(each[2:].partition("=")[::2] for each in arguments[5:])
    return VERBS[kind, verb](name, flags)


def create_resource(name, flags):
    first, *later = read("creations").splitlines()
    write("creations", "\n".join(later))
    write(f"resources/{name}", f"{flags['accelerator-type']} {first}")
    return 0


def describe_resource(name, _flags):
    if not os.path.exists(f"{CLOUD}/resources/{name}"):
        return not_found(name)
    accelerator, state, *later = read(f"resources/{name}").split()
    if later:
        write(f"resources/{name}", " ".join([accelerator, *later]))
    if state in ("SUSPENDING", "SUSPENDED"):
        lose_hosts(name)
    error = '"error": {"message": "no capacity"}' if state == "FAILED" else ""
    print(f"""{{"name": "projects/p/locations/z/queuedResources/{name}",
      "state": {{"state": "{state}", "{state.lower()}Data": {{{error}}}}},
      "tpu": {{"nodeSpec": [{{"nodeId": "{name}",
        "node": {{"acceleratorType": "{accelerator}"}}}}]}}}}""")
    return 0


def delete_resource(name, flags):
    assert "force" in flags, "with nodes only by --force"
    assert "quiet" in flags, "would ask"
    os.unlink(f"{CLOUD}/resources/{name}")
    lose_hosts(name)
    return 0


def describe_vm(name, _flags):
    state = read(f"vms/{name}")
    owned = any(name.startswith(owner) for owner in os.listdir(f"{CLOUD}/resources"))
    if name in read("missing").split() or not (state or owned):
        return not_found(name)
    hosts = ", ".join(['{"port": 8470}'] * workers())
    print(f"""{{"name": "projects/p/locations/z/nodes/{name}", "state": "{state or "READY"}",
      "acceleratorType": "v4-16", "networkEndpoints": [{hosts}]}}""")
    return 0


def create_vm(name, _flags):
    write(f"vms/{name}", "READY")
    return 0


def delete_vm(name, _flags):
    os.unlink(f"{CLOUD}/vms/{name}")
    return 0


def ssh(node, flags):
    told = range(workers()) if flags["worker"] == "all" else [int(flags["worker"])]
    # gcloud splits at spaces, ssh joins by spaces, and the login shell evaluates the result.
    command = " ".join(flags["command"].split(" "))
    started = []
    for worker in told:
        home = f"{CLOUD}/hosts/{node}-w-{worker}"
        os.makedirs(home, exist_ok=True)
        environment = {
            "HOME": home,
            "PATH": f"{CLOUD}/host_bin:/usr/bin:/bin",
            "FAKE_CLOUD": CLOUD,
            "FAKE_WORKER": str(worker),
            "FAKE_HOST": f"{node}-w-{worker}",
        }
        pid = os.fork()
        if pid == 0:
            os.chdir(home)
            if "output-directory" in flags:
                with open(f"{flags['output-directory']}/{worker}.log", "w") as output:
                    os.dup2(output.fileno(), 1)
            os.execve("/bin/bash", ["bash", "-c", command], environment)
        started.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started)


def lose_hosts(name):
    """What runs on the hosts is killed, and their disks are gone."""
    import shutil

    for host in os.listdir(f"{CLOUD}/hosts"):
        if host.startswith(name):
            for file in os.listdir(f"{CLOUD}/hosts/{host}"):
                if file.startswith("pid.") and os.path.exists(f"/proc/{file[4:]}"):
                    os.kill(int(file[4:]), 9)
            shutil.rmtree(f"{CLOUD}/hosts/{host}")


def workers():
    return int(read("workers") or 2)


def read(name):
    try:
        with open(f"{CLOUD}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(name, text):
    with open(f"{CLOUD}/{name}", "w") as file:
        file.write(text)


def not_found(name):
    print(f"ERROR: (gcloud) NOT_FOUND: Resource '{name}' was not found", file=sys.stderr)
    return 1


VERBS = {
    ("queued-resources", "create"): create_resource,
    ("queued-resources", "describe"): describe_resource,
    ("queued-resources", "delete"): delete_resource,
    ("tpu-vm", "create"): create_vm,
    ("tpu-vm", "describe"): describe_vm,
    ("tpu-vm", "delete"): delete_vm,
    ("tpu-vm", "ssh"): ssh,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
