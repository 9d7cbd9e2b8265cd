"""Runs one command and outlives nobody: `python -I -S supervisor.py FD COMMAND…`.

FD is the reading end of a pipe that its starter holds open. When that end of file comes, the starter is gone, even by
SIGKILL, and the whole process group is killed. Ends as the command ends, by the same signal or status. Works without
Linux's PR_SET_PDEATHSIG, which would spare grandchildren. Imports nothing of ours.
"""

import os
import resource
import signal
import sys
import threading


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    """Exit status of the command."""
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(descriptor, False)
    # A stop is meant for the command, which is in the same process group and decides when it ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        child = os.posix_spawnp(
            command[0], command, os.environ, setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: cannot be started: {error.strerror}\n")
        return 127
    threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


if __name__ == "__main__":
    STATUS = main()
    sys.stdout.flush()
    os._exit(STATUS)
