"""TorchExport: `.pt2` files of torch.export.save."""

import os

from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import pickles, torchlike


def load(path, loader=None):
    """The ExportedProgram. AgentError: it cannot be read."""
    torch = torchlike.require_torch("format TorchExport")
    if os.path.isdir(path):
        path = pickles.only_file(path, (".pt2",))
    pickles.require_file(path)
    if not hasattr(torch, "export") or not hasattr(torch.export, "load"):
        raise AgentError("PackageMissing", "format TorchExport needs torch >= 2.1, and this is %s" % torch.__version__)
    try:
        return torch.export.load(path)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = "%s is not a whole torch.export file: %s; it may be truncated, or of another torch version"
        raise AgentError("ModelUnreadable", message % (os.path.basename(path), one_line(error))) from error


def adapt(native, request):
    """The ExportedProgram as a `Model`."""
    return TorchExportModel(native, request)


class TorchExportModel(torchlike.TorchModel):
    """An ExportedProgram."""

    def __init__(self, native, request):
        self.program = native
        fixed = _fixed_batch(native)
        super().__init__(native.module(), request)
        if fixed is not None:
            self.fix_batch(fixed)

    def arguments(self):
        names = [str(name) for name in self.program.graph_signature.user_inputs]
        args, kwargs = _children(self.program.call_spec.in_spec)
        if len(names) != len(_children(args)) + len(_children(kwargs)):
            raise AgentError(
                "WrongFormat", "the exported program takes nested inputs; export it with tensors as arguments"
            )
        self.keywords = list(kwargs.context or ())
        return names, []

    def forward(self, tensors):
        values = list(tensors.values())
        positional = len(values) - len(self.keywords)
        return self.native(*values[:positional], **dict(zip(self.keywords, values[positional:])))


def _children(spec):
    """Parts of a tree specification, as torch of any version gives them."""
    return spec.children() if hasattr(spec, "children") else spec.children_specs


def _fixed_batch(program):
    """The only batch size that the program takes, or None where it is dynamic."""
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name in program.graph_signature.user_inputs:
        value = placeholders.get(name)
        shape = getattr(value, "shape", ())
        if len(shape) and isinstance(shape[0], int):
            return int(shape[0])
    return None
