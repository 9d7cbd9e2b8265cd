"""Packs the agent as one file that runs wherever Python ≥ 3.6, numpy and the source's framework are."""

import io
import os
import zipfile

_MAIN = b"""import sys

if sys.version_info < (3, 6):
    sys.stderr.write("the agent needs Python >= 3.6, and this is %s\\n" % sys.version)
    sys.exit(4)

from paritygate.agent.__main__ import leave, main

leave(main())
"""
_PACKAGE = b'"""The part of ParityGate that runs in the source\'s environment."""\n'


def build_zipapp(path):
    """Writes the agent to `path`, as `python PATH capture …` runs it. The same agent always gives the same bytes."""
    root = os.path.dirname(os.path.abspath(__file__))
    members = {"__main__.py": _MAIN, "paritygate/__init__.py": _PACKAGE}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".py"):
                source = os.path.join(folder, name)
                relative = os.path.relpath(source, root).replace(os.sep, "/")
                with open(source, "rb") as stream:
                    members["paritygate/agent/" + relative] = stream.read()
    buffer = io.BytesIO()
    # Stored and dated alike: a Python without zlib can run it, and its digest depends on nothing but the code.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), members[name])
    aside = "%s.part-%d" % (path, os.getpid())
    with open(aside, "wb") as stream:
        stream.write(buffer.getvalue())
    os.replace(aside, str(path))
