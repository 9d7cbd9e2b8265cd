"""PyTorch: a folder with code and weights, and a loader `module:callable` in it."""

import contextlib
import importlib
import inspect
import os
import sys

from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import pickles, torchlike

WEIGHTS = (".pt", ".pth", ".safetensors")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def load(path, loader=None):
    """The module in evaluation mode. AgentError: LoaderFailed with the end of the traceback, or WeightsMismatch.

    A loader that takes one argument gets the folder and returns the ready module. One that takes none returns the bare
    module; the folder's only weights file is then loaded into it strictly.
    """
    torch = torchlike.require_torch("format PyTorch")
    if not os.path.isdir(path):
        raise AgentError(
            "WrongFormat", "%s is not a folder; format PyTorch takes a folder with the loader's code and weights" % path
        )
    if not loader:
        raise AgentError("LoaderFailed", "source.loader is missing; name the callable, e.g. loader: model:build")
    with only_here(path):
        module = _built(path, loader)
        if not isinstance(module, torch.nn.Module):
            raise AgentError(
                "LoaderFailed",
                "source.loader %s returned a %s; it must return a torch.nn.Module" % (loader, type(module).__name__),
            )
        if not _takes_folder(_callable(path, loader)):
            _fill(module, path, torch)
    module.paritygate_training = bool(module.training) or any(part.training for part in module.modules())
    return module.eval()


def adapt(native, request):
    """The module as a `Model`."""
    model = PyTorchModel(native, request)
    if getattr(native, "paritygate_training", False) and _changed_by_mode(native):
        model.find(
            "MODE-CHANGED",
            "Warning",
            "the loader returned the module in training mode; %s behave differently there"
            % ", ".join(_changed_by_mode(native)),
            "dropout and batch statistics make answers of training mode random or dependent on the batch",
            "the module was put in evaluation mode (module.eval()), and that is what was captured and converted",
        )
    return model


class PyTorchModel(torchlike.TorchModel):
    """A torch.nn.Module."""

    def arguments(self):
        parameters = [
            one for one in inspect.signature(self.native.forward).parameters.values() if one.kind not in _VARIADIC
        ]
        if not parameters:
            raise AgentError(
                "LoaderFailed", "forward of %s names no argument; give its tensors names" % type(self.native).__name__
            )
        optional = [one.name for one in parameters if one.default is not inspect.Parameter.empty]
        return [one.name for one in parameters], optional

    def forward(self, tensors):
        return self.native(**tensors)


@contextlib.contextmanager
def only_here(folder):
    """Makes a folder's modules importable, before all others of their name."""
    with pickles.importable(os.path.abspath(folder)):
        importlib.invalidate_caches()
        own = [name.removesuffix(".py") for name in os.listdir(folder)]
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if not origin.startswith(os.path.abspath(folder) + os.sep) and _is_ours(folder, name):
                del sys.modules[name]
        yield


def _is_ours(folder, name):
    root = os.path.join(folder, name.split(".")[0])
    return os.path.isfile(root + ".py") or os.path.isfile(os.path.join(root, "__init__.py"))


def _callable(folder, loader):
    module, name = loader.split(":", 1)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        if (getattr(error, "name", None) or "").split(".")[0] == module.split(".")[0]:
            present = ", ".join(sorted(one for one in os.listdir(folder) if one.endswith(".py"))) or "no .py file"
            message = "source.loader is %s, and the folder has no module %s; it has %s" % (loader, module, present)
            raise AgentError("LoaderFailed", message) from error
        raise pickles.package_missing(error, "the loader %s" % loader) from error
    except (Exception, SystemExit) as error:
        raise _failed(loader, error) from error
    if not callable(found):
        raise AgentError(
            "LoaderFailed", "source.loader is %s, and module %s has no callable %s" % (loader, module, name)
        )
    return found


def _built(folder, loader):
    function = _callable(folder, loader)
    try:
        return function(os.path.abspath(folder)) if _takes_folder(function) else function()
    except ImportError as error:
        raise pickles.package_missing(error, "the loader %s" % loader) from error
    except (Exception, SystemExit) as error:
        raise _failed(loader, error) from error


def _takes_folder(function):
    needed = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.default is inspect.Parameter.empty and one.kind not in _VARIADIC
    ]
    if len(needed) > 1:
        raise AgentError(
            "LoaderFailed",
            "the loader needs %d arguments (%s); it may take one, the folder, or none"
            % (len(needed), ", ".join(one.name for one in needed)),
        )
    return len(needed) == 1


def _failed(loader, error):
    if is_out_of_memory(error):
        return error
    return AgentError(
        "LoaderFailed",
        "source.loader %s raised %s\n%s\nCorrect the loader; it runs with the folder importable"
        % (loader, one_line(error), pickles.traceback_tail(error)),
    )


def _fill(module, folder, torch):
    """Loads the folder's only weights file into the module, strictly."""
    path = pickles.only_file(folder, WEIGHTS)
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise pickles.package_missing(error, "the weights file %s" % os.path.basename(path)) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = "%s cannot be read as weights: %s; it may be truncated, or hold more than a state dict"
        raise AgentError("ModelUnreadable", message % (os.path.basename(path), one_line(error))) from error
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        message = "%s does not fit the module that the loader returned: %s; both must come from the same code"
        raise AgentError("WeightsMismatch", message % (os.path.basename(path), one_line(error, 800))) from error


def _changed_by_mode(module):
    """Kinds of layers in a module that behave differently in training mode."""
    kinds = {type(part).__name__ for part in module.modules()}
    return sorted(kind for kind in kinds if "Dropout" in kind or "BatchNorm" in kind or "InstanceNorm" in kind)
