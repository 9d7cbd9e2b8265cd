"""Stands in for worker, agent and server: `fake_stages.py BEHAVIOUR.json ROLE …`.

Started a few hundred times, so it runs without site-packages and imports late.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

BEHAVIOUR = Path(sys.argv[1])


def canonical_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of(value):
    return sha256(canonical_json(value))


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def misbehave(how, out):
    match how:
        case "hang":
            time.sleep(600)
        case "hang-with-child":
            import subprocess

            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(601)", str(BEHAVIOUR)])
            time.sleep(600)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "nothing":
            sys.exit(0)
        case "raise":
            sys.exit("Traceback: boom")
        case "Configuration" | "Infrastructure":
            out.mkdir()
            failure = {"kind": "StageFailure", "failure": how, "reason": "Broken", "message": "it broke"}
            (out / "failure.json").write_text(json.dumps(failure))
            sys.exit(3)
        case "stop-parent":
            os.kill(int(os.environ["PARITYGATE_TEST_PARENT"]), signal.SIGKILL)
            time.sleep(600)


def due(stage, how):
    """How a process misbehaves: 'Infrastructure, once' is meant for the first of its stage."""
    how, _, once = (how or "").partition(", ")
    return None if once and BEHAVIOUR.with_suffix(".started").read_text().split().count(stage) > 1 else how


def work(stage, verdict):
    out = Path(option("--out"))
    with BEHAVIOUR.with_suffix(".started").open("a") as stream:
        stream.write(stage + "\n")
    misbehave(due(stage, verdict), out)
    out.mkdir()
    if stage != "validate":
        given = Path(option("--request")).read_text() if stage in ("capture", "convert") else "{}"
        known = [json.loads(given).get(key) for key in ("datasetDigest", "sourceDigest")]
        known.append(Path(json.loads(given).get("capture", "")).name)
        (out / f"{stage}.txt").write_text(f"{stage} {known}")
        return
    request = json.loads(Path(option("--request")).read_text())
    assert request["serverIdentity"] == request["runtimeDigest"]
    if verdict == "tamper":
        (Path(request["candidate"]) / "convert.txt").write_text("other bytes than those of the digest")
        verdict = None
    measured = {"Passed": 0.5, "Failed": 2.0}[verdict or "Passed"]
    result = verdict or "Passed"
    validation = request["validation"]
    validation["dataset"] = {k: v for k, v in validation["dataset"].items() if k not in ("uri", "digest")}
    subject = {
        "policy": digest_of({"equivalence": request["equivalence"], "validation": validation}),
        "source": digest_of_bytes("m.pkl"), "dataset": digest_of_bytes("d.csv"),
        "capture": request["captureDigest"], "candidate": request["candidateDigest"],
        "runtime": request["runtimeDigest"],
    }  # fmt: skip
    lines = [
        {"name": name, "result": result, "blocking": True, "measured": measured, "limit": 1.0, "rows": 1}
        for name in ("contract", "numeric", "input-contract", "vacuity")
    ]
    measurement = {"subject": "p", "statistic": "s", "rows": 1, "measured": measured, "limit": 1.0, "blocking": True}
    checks = [
        {"name": line["name"], "result": result, "blocking": True, "message": "m", "measurements": [measurement]}
        for line in lines
    ]
    environment = {"python": "3", "platform": "Linux", "packages": {}}
    report = {
        "migration": "m", "candidate": "plain", "format": "SKLearn", "framework": "f", "equivalence": "Numeric",
        "task": "Generic", "confidence": 0.95, "rows": 1, "verdict": result, "sentence": "s", "subject": subject,
        "signature": {"inputs": [], "outputs": []}, "sourceEnvironment": environment,
        "candidateEnvironment": environment, "checks": checks,
    }  # fmt: skip
    summary = {
        "stage": request["stage"], "subject": subject, "report": digest_of(report), "candidate": "plain",
        "equivalence": "Numeric", "verdict": result, "checks": lines,
    }  # fmt: skip
    (out / "report.json").write_bytes(canonical_json(report))
    (out / "summary.json").write_bytes(canonical_json(summary))
    (out / "report.html").write_text("<html>")


def digest_of_bytes(name):
    return sha256((BEHAVIOUR.parent / name).read_bytes())


def serve(how):
    if "--identity" in sys.argv:
        print("{}")  # noqa: T201
        return
    if how == "refuse":
        sys.exit(3)
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)  # noqa: T201
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if how == "die":
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.setitimer(signal.ITIMER_REAL, 0.6)
    while True:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def stand_by(how):
    if how == "die":
        sys.exit(1)
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    told = json.loads(line)
    sys.argv[3:] = told["arguments"]
    os.environ.update(told["environment"])
    if "output" in told:
        os.dup2(os.open(told["output"], os.O_WRONLY | os.O_APPEND), 1)
    with BEHAVIOUR.with_suffix(".stood-by").open("a") as stream:
        stream.write(sys.argv[3] + "\n")


if __name__ == "__main__":
    behaviour = json.loads(BEHAVIOUR.read_text())
    if sys.argv[3] == "stand-by":
        stand_by(behaviour.get("stand-by"))
    if sys.argv[2] == "server":
        serve(behaviour.get("server"))
    else:
        name = sys.argv[3]
        work(name, behaviour.get(name))
