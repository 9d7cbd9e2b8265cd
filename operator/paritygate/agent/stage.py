"""Frame of a stage process: its output folder appears whole or holds only `failure.json`; progress lines."""

import json
import os
import shutil
import sys
import traceback

from paritygate.agent.failures import AgentError, failure_of

COMPLETE = 0
FAILED = 3
PROGRESS = "PARITYGATE_PROGRESS"
UNLESS = "PARITYGATE_UNLESS"
TERMINATION = "PARITYGATE_TERMINATION"
_MESSAGE = 1500


def carry_out(out, work, explain=failure_of):
    """Calls `work(folder)` on a folder aside and renames it to `out`; exit status of the stage.

    What is raised, `SystemExit` of foreign code included, becomes `failure.json` by `explain(error)` and status 3.
    KeyboardInterrupt passes. Where not even `failure.json` can be written, the error goes to standard error and the
    status is 4, so that the stage counts as died.
    """
    aside = out.rstrip(os.sep) + ".part"
    if any(os.path.exists(path) for path in os.environ.get(UNLESS, "").split(os.pathsep) if path):
        return COMPLETE
    try:
        shutil.rmtree(aside, ignore_errors=True)
        _require_free(out)
        os.makedirs(aside)
        work(aside)
        _put(aside, out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        traceback.print_exc()
        return _fail(aside, out, explain(error))
    return COMPLETE


def tell(content):
    """Writes JSON-ready data to the file that `PARITYGATE_TERMINATION` names, if any: where a cluster looks for it."""
    path = os.environ.get(TERMINATION)
    if not path:
        return
    if len(content.get("message", "")) > _MESSAGE:
        content = dict(content, message=content["message"][:_MESSAGE] + "…")
    try:
        with open(path, "wb") as stream:
            stream.write(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("utf-8"))
    except OSError as error:
        sys.stderr.write("termination message: %s\n" % error)


def progress(message, done=0, total=0):
    """Appends one line to the progress file, if there is one. Losing a line never fails a stage."""
    path = os.environ.get(PROGRESS)
    if not path:
        return
    line = json.dumps({"message": message, "done": int(done), "total": int(total)}) + "\n"
    try:
        with open(path, "a") as stream:
            stream.write(line)
    except OSError:
        sys.stderr.write("progress: " + line)


def _fail(aside, out, failure):
    sys.stderr.write("%s: %s\n" % (failure["reason"], failure["message"]))
    tell(failure)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        _require_free(out)
        os.makedirs(aside)
        with open(os.path.join(aside, "failure.json"), "w") as stream:
            json.dump(failure, stream, sort_keys=True)
        _put(aside, out)
    except (OSError, AgentError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        sys.stderr.write("failure.json could not be written: %s\n" % error)
        return 4
    return FAILED


def _require_free(out):
    if os.path.isdir(out) and set(os.listdir(out)) <= {"failure.json"}:
        return
    if os.path.lexists(out):
        raise AgentError(
            "OutputExists", "--out %s exists already and is not empty; name a folder that does not exist" % out
        )


def _put(aside, out):
    if os.path.isdir(out):
        shutil.rmtree(out)
    os.rename(aside, out)
