"""Reading pickled objects, and saying what is wrong with those that cannot be read. Unpickling runs the file's code."""

import contextlib
import os
import pickle
import sys
import traceback

from paritygate.agent.failures import AgentError, is_out_of_memory, one_line

# Where the name that is imported is not the name that is installed.
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "skops": "skops",
    "imblearn": "imbalanced-learn",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "category_encoders": "category-encoders",
    "sentence_transformers": "sentence-transformers",
    "onnxruntime": "onnxruntime",
}
_REQUIREMENTS = "source.environment.virtualenv.requirements"
_IN_A_CLUSTER = "in a cluster name an image that has %s in source.environment.image"


def distribution_of(module):
    """The distribution that most likely brings an importable module."""
    root = module.split(".")[0]
    return _DISTRIBUTIONS.get(root, root.replace("_", "-"))


def package_missing(error, what):
    """The AgentError for an ImportError: names the package and how the environment gets it."""
    module = getattr(error, "name", None) or ""
    root = module.split(".")[0]
    if not root:
        return AgentError("ModelUnreadable", "%s cannot be imported: %s" % (what, one_line(error)))
    if root != module and root in sys.modules:
        message = (
            "%s needs module %r, which the installed %s does not have: the file was written by another version; "
            "state that version in %s; %s"
            % (what, module, distribution_of(module), _REQUIREMENTS, _IN_A_CLUSTER % "it")
        )
        return AgentError("PackageMissing", message)
    message = (
        "%s needs package %r (module %r), which is not installed in the source's environment (%s); add it to %s, "
        "e.g. - %s; %s"
        % (
            what,
            distribution_of(module),
            module,
            sys.executable,
            _REQUIREMENTS,
            distribution_of(module),
            _IN_A_CLUSTER % "it",
        )
    )
    return AgentError("PackageMissing", message)


def read(path):
    """The object in a joblib or pickle file. AgentError: ModelUnreadable or PackageMissing."""
    require_file(path)
    try:
        with importable(os.path.dirname(os.path.abspath(path))):
            return _unpickled(path)
    except ImportError as error:
        raise package_missing(error, "the model file %s" % os.path.basename(path)) from error
    except (EOFError, pickle.UnpicklingError, KeyError, IndexError) as error:
        raise AgentError("ModelUnreadable", _not_a_pickle(path, error)) from error
    except AttributeError as error:
        raise AgentError("ModelUnreadable", _missing_name(path, error)) from error
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        message = "%s cannot be unpickled here: %s. A pickle needs the versions that wrote it: state them in %s; %s" % (
            os.path.basename(path),
            one_line(error),
            _REQUIREMENTS,
            _IN_A_CLUSTER % "them",
        )
        raise AgentError("ModelUnreadable", message) from error


def require_file(path):
    """AgentError: there is no such file, or nothing in it."""
    if not os.path.exists(path):
        raise AgentError("ModelUnreadable", "there is no model at %s; correct source.uri" % path)
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise AgentError("ModelUnreadable", "%s is empty (0 bytes); write the model again" % os.path.basename(path))


def only_file(folder, endings):
    """The only file of a folder that ends in one of `endings`. AgentError: there is none, or several."""
    found = sorted(name for name in os.listdir(folder) if name.lower().endswith(tuple(endings)))
    if len(found) != 1:
        message = "folder %s must hold exactly one %s file; found %s" % (
            folder,
            " or ".join(endings),
            ", ".join(found) or "none",
        )
        raise AgentError("ModelUnreadable", message)
    return os.path.join(folder, found[0])


@contextlib.contextmanager
def importable(folder):
    """Makes the modules of a folder importable for the length of the context, without writing to it."""
    before = sys.dont_write_bytecode
    sys.path.insert(0, folder)
    # A __pycache__ in the model's folder would change the model's digest.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        if folder in sys.path:
            sys.path.remove(folder)


def traceback_tail(error, lines=6):
    """The last lines of an exception's traceback, for errors in the user's own code."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _unpickled(path):
    try:
        import joblib
    except ImportError:
        with open(path, "rb") as stream:
            return pickle.load(stream)
    return joblib.load(path)


def _not_a_pickle(path, error):
    with open(path, "rb") as stream:
        head = stream.read(8)
    name, size = os.path.basename(path), os.path.getsize(path)
    if head[:1] == b"\x80" or head[:2] in (b"\x1f\x8b", b"x\x9c", b"BZ"):
        return "%s is truncated or damaged (%d bytes): %s; copy or write it again" % (name, size, one_line(error))
    return "%s is not a pickle (its first bytes are %r): %s; correct source.format or source.uri" % (
        name,
        head,
        one_line(error),
    )


def _missing_name(path, error):
    name = os.path.basename(path)
    if "__main__" in str(error):
        return (
            "%s needs code that was defined in the script that wrote it: %s. Move that code to a module, put the model "
            "file and the module into one folder, and write the model again" % (name, one_line(error))
        )
    return "%s needs a name that is not there: %s. State the versions that wrote it in %s" % (
        name,
        one_line(error),
        _REQUIREMENTS,
    )
