"""`python -m cluster prepare | run -- COMMAND… | up [--background] | enter -- COMMAND… | down`."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster import bare, existing, models, prerequisites
from cluster.problems import Unavailable
from control_plane.binaries import NotBuilt, NoToolchain
from control_plane.lifetime import StartFailed

_EX_UNAVAILABLE: Final = 69
IMAGES: Final = bare.ROOT / ".build" / "images" / "images.json"


def prepare() -> int:
    """Installs, builds and packs what the cluster needs, as far as it is not there."""
    from cluster import images, programs

    choice = existing.chosen()
    models.make()
    if choice == "existing":
        existing.images_given()
        return 0
    if choice == "bare":
        prerequisites.ensure()
    programs.build()
    return images.main()


def run(command: Sequence[str]) -> int:
    """Runs a command on a cluster of its own, or on the one that is given; the command's exit status."""
    choice = existing.chosen()
    if choice == "existing":
        given = existing.plane.kubeconfig_given()
        if given is None:
            raise Unavailable("PARITYGATE_CLUSTER=existing needs KUBECONFIG to name the file of a cluster")
        return _carried_out(command, existing.environment(given, existing.images_given()))
    if choice == "kind":
        with tempfile.TemporaryDirectory() as folder, existing.kind(_images(), Path(folder)) as kubeconfig:
            return _carried_out(command, existing.environment(kubeconfig, _images()))
    prerequisites.ensure()
    with bare.started(_images()) as cluster:
        _describe(cluster)
        return _carried_out(cluster.inside(command), cluster.environment())


def enter(command: Sequence[str]) -> int:
    """Runs a command in the cluster that is up; its exit status."""
    with bare.kept() as cluster:
        return _carried_out(cluster.inside(command), cluster.environment())


def up(*, background: bool) -> int:
    """Starts a cluster that stays until `down`, or, in the foreground, until Ctrl-C."""
    prerequisites.ensure()
    cluster = bare.keep(_images())
    _describe(cluster)
    folder = os.path.relpath(bare.BUILD)
    print(
        f"\nType next:\n  {folder}/kubectl get pods --all-namespaces\n  {folder}/enter bash   # a shell in its network"
    )
    if not background:
        print("Ctrl-C ends the cluster.")
        _until_interrupted()
        bare.end()
    else:
        print("  make cluster-down   # ends it")
    return 0


def down() -> int:
    """Ends the cluster that `up` left, and what clusters before left that were killed."""
    bare.sweep()
    bare.end()
    return 0


def _images() -> Path:
    given = Path(os.environ.get("PARITYGATE_IMAGES") or IMAGES)
    if not given.is_file():
        raise Unavailable(f"There is no {given}: `python -m cluster prepare` builds the images, as `make e2e` does.")
    return given.absolute()


def _describe(cluster: bare.Cluster) -> None:
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in cluster.ready.items())
    sys.stderr.write(f"A cluster is up; seconds until each part was ready: {parts}\n")


def _carried_out(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Ctrl-C reaches the command by itself; what is sent to us alone is passed on."""
    with subprocess.Popen(list(command), env=dict(environment)) as running:

        def pass_on(number: int, _: object) -> None:
            if number != signal.SIGINT:
                running.send_signal(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        code = running.wait()
    return code if code >= 0 else 128 - code


def _until_interrupted() -> None:
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: interrupted.set())
    interrupted.wait()


def main(arguments: Sequence[str]) -> int:
    """Exit status: the command's; 69 = there can be no cluster here; 1 = it did not come up."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, function in (("prepare", prepare), ("down", down)):
        verbs.add_parser(name, help=function.__doc__)
    verbs.add_parser("up", help=up.__doc__).add_argument("--background", action="store_true")
    for name, function in (("run", run), ("enter", enter)):
        verbs.add_parser(name, help=function.__doc__).add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    command = [part for i, part in enumerate(getattr(given, "command", ())) if (i, part) != (0, "--")]
    if given.verb in ("run", "enter") and not command:
        parser.error(f"{given.verb} needs a command")
    try:
        if given.verb == "up":
            return up(background=given.background)
        if given.verb in ("run", "enter"):
            return (run if given.verb == "run" else enter)(command)
        return (prepare if given.verb == "prepare" else down)()
    except (Unavailable, NoToolchain) as problem:
        sys.stderr.write(f"{problem}\n")
        return _EX_UNAVAILABLE
    except (StartFailed, NotBuilt, subprocess.CalledProcessError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
