"""`python paritygate-agent.pyz capture --request FILE --out FOLDER`: records what a source answers.

`stand-by FORMAT` imports what that takes and then waits to be told its arguments on standard input.
"""

import argparse
import os
import sys
import warnings


def main(arguments=None):
    """Exit status: 0 complete, 3 failed with `failure.json`, 4 failed without."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["stand-by"]:
        from paritygate.agent import standby

        standby.prepare(standby.of_source(*arguments[1:]))
        told = standby.told()
        return 0 if told is None else main(told)
    parser = argparse.ArgumentParser(prog="paritygate-agent")
    commands = parser.add_subparsers(dest="command")
    commands.required = True
    capturing = commands.add_parser("capture")
    capturing.add_argument("--request", required=True)
    capturing.add_argument("--out", required=True)
    options = parser.parse_args(arguments)

    def work(folder):
        try:
            from paritygate.agent import capture
        except ImportError as error:
            from paritygate.agent.frameworks.pickles import package_missing

            raise package_missing(error, "the agent")
        capture.run(options.request, folder)

    from paritygate.agent.stage import carry_out

    warnings.simplefilter("default")
    return carry_out(os.path.abspath(options.out), work)


def leave(status):
    """Ends the process at once: threads and exit handlers of the source's code must neither hang nor change it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    leave(main())
