"""TorchScript: `.pt` files of torch.jit.save."""

import os

from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import pickles, torchlike


def load(path, loader=None):
    """The ScriptModule in evaluation mode. AgentError: it cannot be read."""
    torch = torchlike.require_torch("format TorchScript")
    if os.path.isdir(path):
        path = pickles.only_file(path, (".pt", ".pth", ".ts"))
    pickles.require_file(path)
    try:
        module = torch.jit.load(path, map_location="cpu")
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = (
            "%s is not a whole TorchScript file: %s; it may be truncated, hold only weights (format PyTorch) or an "
        )
        message += "exported program (format TorchExport)"
        raise AgentError("ModelUnreadable", message % (os.path.basename(path), one_line(error))) from error
    return module


def adapt(native, request):
    """The ScriptModule as a `Model`."""
    model = TorchScriptModel(native, request)
    if any(part.training for part in native.modules() if hasattr(part, "training")):
        native.eval()
        model.find(
            "MODE-CHANGED",
            "Warning",
            "the TorchScript file was saved in training mode",
            "dropout and batch statistics make answers of training mode random or dependent on the batch",
            "the module was put in evaluation mode; save it after module.eval() so that others do the same",
        )
    return model


class TorchScriptModel(torchlike.TorchModel):
    """A torch.jit.ScriptModule."""

    def arguments(self):
        schema = self.native.forward.schema
        arguments = [one for one in schema.arguments if one.name != "self"]
        return [one.name for one in arguments], [one.name for one in arguments if one.has_default_value()]

    def forward(self, tensors):
        return self.native(**tensors)
