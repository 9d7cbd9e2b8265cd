"""First process of a pod that really runs: `unshare … python -I -S pod_init.py FD`. Imports nothing but Python's own.

It is process 1 of the pod's process namespace, in network and mount namespaces of the pod. FD is one end of a socket
pair whose other end the test holds. When that is closed, however the test ended, this process ends, and the kernel
with it everything in the pod. Orders and reports are JSON, one packet each:

    {"start": NAME, …}      starts a container; see `Container`
    {"signal": NAME, "number": N}
    {"connect": PORT}       answered by {"connected": PORT} with a socket of the pod's network, or without one
    {"ended": NAME, "code": CODE, "oom": BOOL}      what a container came to; a signal counts 128 more

Memory limits are kept by looking: the resident memory of all processes of a container is added up every 20 ms, and
what is above its limit is killed, as the kernel does for a control group. That needs no right to make control groups,
and nothing of it outlives the pod.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback

TICK_SECONDS = 0.02
RS_ONLY, BIND, REC, REMOUNT, PRIVATE, NOSUID, NODEV, NOEXEC = 1, 4096, 16384, 32, 1 << 18, 2, 4, 8
NEWNS, NEWUSER, DETACH = 0x20000, 0x10000000, 2
NO_NEW_PRIVS, CAPBSET_DROP = 38, 24
SIOCGIFFLAGS, SIOCSIFFLAGS, UP = 0x8913, 0x8914, 1
LAST_CAPABILITY = 63
CANNOT_START = 128
DEVICES = ("null", "zero", "full", "random", "urandom")
LIBC = ctypes.CDLL(None, use_errno=True)


def called(name, *arguments):
    """Calls the C library. OSError: it says that it failed."""
    ctypes.set_errno(0)
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, options=None):
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    called("mount", *texts, ctypes.c_ulong(flags), None if options is None else options.encode())


def bind(source, target, read_only):
    """Shows a file or folder of the machine in the container."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a"):
            pass
    mount(source, target, flags=BIND | REC)
    # Flags that another user set may not be taken off.
    kept = os.statvfs(target).f_flag & (NOSUID | NODEV | NOEXEC)
    mount(None, target, flags=REMOUNT | BIND | kept | (RS_ONLY if read_only else 0))


def show(path, target):
    """Shows a part of an image, read-only; a link as a link."""
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
    else:
        bind(path, target, read_only=True)


def bring_up_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | UP))


class Container:
    """One container as it was ordered: root, shown, mounts, log, command, environment, folder, user, cpus, memory."""

    def __init__(self, order):
        self.order = order
        self.name = order["start"]
        self.limit = order["memory"]
        self.oom = False
        self.process = os.fork()
        if self.process == 0:
            try:
                self._become()
            except BaseException:  # noqa: BLE001 - a child must not go on as its parent
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(CANNOT_START)

    def _become(self):
        order = self.order
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        for descriptor, number in ((null, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, 4096)
        called("unshare", NEWNS)
        mount(None, "/", flags=REC | PRIVATE)
        self._make_root()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o022)
        if order["cpus"]:
            os.sched_setaffinity(0, order["cpus"])
        give_up_rights(order["user"])
        os.chdir(order["folder"])
        for number in (signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(order["command"][0], order["command"], order["environment"])  # noqa: S606 - as a container does

    def _make_root(self):
        """What an image has: the system's folders and interpreters, read-only; and the container's own mounts."""
        order = self.order
        root = order["root"]
        os.makedirs(root, exist_ok=True)
        mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "mode=755,size=16m")
        # An interpreter below a mount, as in a checkout under /tmp, would be hidden by it.
        tops = tuple(one["target"].rstrip("/") + "/" for one in order["mounts"])
        hidden = [path for path in order["shown"] if path.startswith(tops)]
        for path in order["shown"]:
            if path not in hidden:
                show(path, root + path)
        os.makedirs(root + "/proc")
        mount("proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC)
        os.makedirs(root + "/dev/shm")
        for name in DEVICES:
            bind("/dev/" + name, root + "/dev/" + name, read_only=False)
        os.symlink("/proc/self/fd", root + "/dev/fd")
        mount("tmpfs", root + "/dev/shm", "tmpfs", NOSUID | NODEV, "mode=1777,size=64m")
        for one in order["mounts"]:
            bind(one["source"], root + one["target"], one["readOnly"])
        for path in hidden:
            show(path, root + path)
        if order["readOnlyRoot"]:
            mount(None, root, flags=REMOUNT | BIND | NOSUID | NODEV | RS_ONLY)
        os.chdir(root)
        called("pivot_root", b".", b".")
        called("umount2", b".", DETACH)
        os.chdir("/")

    def kill_all(self):
        """Ends all processes of the container, as a control group's end would."""
        for number in processes():
            if session_of(number) == self.process:
                end(number, signal.SIGKILL)


def give_up_rights(user):
    """Becomes a user. No capability is left, and none can come back."""
    if not user["real"]:
        # Root of a namespace has one user only, and may call it by another name.
        called("unshare", NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", user["user"]), ("gid_map", user["group"])):
            with open("/proc/self/" + name, "w") as stream:
                stream.write(text if name == "setgroups" else f"{text} 0 1")
    for number in range(LAST_CAPABILITY + 1):
        if LIBC.prctl(CAPBSET_DROP, number, 0, 0, 0) != 0:
            break
    if user["real"]:
        os.setgroups(user["groups"])
    os.setgid(user["group"])
    os.setuid(user["user"])
    called("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def session_of(number):
    try:
        return os.getsid(number)
    except OSError:
        return None


def end(number, how):
    try:
        os.kill(number, how)
    except OSError:
        pass


def memory_by_session():
    """Bytes of resident memory, by session, of all processes of the pod."""
    found = {}
    for number in processes():
        try:
            with open(f"/proc/{number}/statm") as stream:
                pages = int(stream.read().split()[1])
        except (OSError, IndexError):
            continue
        session = session_of(number)
        found[session] = found.get(session, 0) + pages * resource.getpagesize()
    return found


class Pod:
    """Carries out orders until nobody gives any more."""

    def __init__(self, line):
        self.line = line
        self.containers = {}

    def serve(self):
        while True:
            readable, _, _ = select.select([self.line], [], [], TICK_SECONDS)
            if readable:
                packet = self.line.recv(1 << 18)
                if not packet:
                    return
                self.obey(json.loads(packet))
            self.watch_memory()
            self.reap()

    def obey(self, order):
        if "start" in order:
            container = Container(order)
            self.containers[container.process] = container
        elif "signal" in order:
            for container in self.containers.values():
                if container.name == order["signal"]:
                    end(container.process, order["number"])
        else:
            self.connect(order["connect"])

    def connect(self, port):
        told = json.dumps({"connected": port}).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
            try:
                found.connect(("127.0.0.1", port))
            except OSError:
                self.line.send(told)
            else:
                socket.send_fds(self.line, [told], [found.fileno()])

    def watch_memory(self):
        limited = [container for container in self.containers.values() if container.limit]
        if not limited:
            return
        held = memory_by_session()
        for container in limited:
            if held.get(container.process, 0) > container.limit:
                container.oom = True
                container.kill_all()

    def reap(self):
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            container = self.containers.pop(process, None)
            if container is not None:
                container.kill_all()
                code = os.waitstatus_to_exitcode(status)
                ended = {"ended": container.name, "code": code if code >= 0 else 128 - code, "oom": container.oom}
                self.line.send(json.dumps(ended).encode())


def main():
    with socket.socket(fileno=int(sys.argv[1])) as line:
        mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC)
        bring_up_loopback()
        line.send(b"{}")
        Pod(line).serve()


if __name__ == "__main__":
    main()
