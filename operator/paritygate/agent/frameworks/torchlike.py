"""What PyTorch, TorchScript and TorchExport models have in common: tensors in, tensors out."""

import contextlib
from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError, is_out_of_memory
from paritygate.agent.frameworks import pickles
from paritygate.agent.frameworks.model import TENSORS, Demand, Model

MOST = 64
"""Modules whose values are recorded."""
MOST_DOUBLED = 250000000
"""Parameters up to which a module is also run in double precision: 2 GB while it is."""


class TorchModel(Model):
    """A module in evaluation mode, called without gradients on the CPU."""

    framework = "torch"
    batch = 64
    costly = True
    narrow_outputs = False

    def __init__(self, native, request):
        super().__init__(native, request)
        import torch

        self.refuse_call("forward, which is what is called without source.call")
        self.torch = torch
        self.version = torch.__version__.split("+")[0]
        self.floating = self._floating()
        if self.floating == torch.float32:
            self.cell_datatype = "FP32"
        elif self.floating in (torch.float16, torch.bfloat16):
            self.cell_datatype = "FP16" if self.floating == torch.float16 else "BF16"

    def arguments(self):
        """Names of the tensor arguments in order, and those among them that may be left out."""
        raise NotImplementedError

    def forward(self, tensors):
        """Calls the model with tensors in the order of its arguments, by name."""
        return self.native(**tensors)

    def demand(self, table, free):
        names, optional = self.arguments()
        return Demand(TENSORS, names, tuple(optional), None)

    def settle(self, inputs):
        """Integers from several columns are given as floats where the module refuses them as they are."""
        (name, column), *rest = inputs.items()
        whole = isinstance(column, Category) or column.dtype.kind not in "iub" or column.ndim != 2
        if rest or whole or self.floating is None:
            return inputs
        try:
            self.answer(OrderedDict([(name, column[:2])]))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            floats = column.astype(np.float32)
            try:
                self.answer(OrderedDict([(name, floats[:2])]))
            except Exception:
                return inputs
            return OrderedDict([(name, floats)])
        return inputs

    def answer(self, inputs):
        tensors = OrderedDict((name, self._tensor(name, column)) for name, column in inputs.items())
        with self.torch.no_grad():
            return self._named(self.forward(tensors))

    def finer(self, batches):
        """Parameters go to double and back, which loses nothing; a module that does not take it is left out."""
        held = [one for one in list(self.native.parameters()) + list(self.native.buffers()) if one.is_floating_point()]
        single = self.torch.float32
        if any(one.dtype != single for one in held) or not 0 < sum(one.numel() for one in held) <= MOST_DOUBLED:
            return super().finer(batches)
        try:
            self.native.double()
            self.floating = self.torch.float64
            return [self._answer_if_it_can(batch) for batch in batches]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return super().finer(batches)
        finally:
            self.native.float()
            self.floating = single

    def _answer_if_it_can(self, inputs):
        """The answers; None where the module refuses to compute in the precision that it was given."""
        try:
            return self.answer(inputs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return None

    def steps(self, inputs):
        modules, found = _observable(self.native), []

        def observe(name, kind):
            def hook(_module, _inputs, made):
                made = next(iter(made), None) if isinstance(made, (list, tuple)) else made
                if isinstance(made, self.torch.Tensor):
                    again = sum(1 for seen, _, _, _ in found if seen.split("#")[0] == name)
                    # Copied at once: what follows may work in place.
                    values = np.array(self._array(made), copy=True)
                    found.append((name + ("#%d" % (again + 1) if again else ""), kind, (), values))

            return hook

        handles = [part.register_forward_hook(observe(name, type(part).__name__)) for name, part in modules]
        try:
            self.answer(inputs)
        finally:
            for handle in handles:
                handle.remove()
        return found

    @contextlib.contextmanager
    def threads(self, count):
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(count)
        try:
            yield True
        finally:
            self.torch.set_num_threads(before)

    def _floating(self):
        """Dtype of the module's floating parameters, else of its buffers; None = it has neither."""
        for tensors in (self.native.parameters(), self.native.buffers()):
            for tensor in tensors:
                if tensor.dtype.is_floating_point:
                    return tensor.dtype
        return None

    def _tensor(self, name, column):
        if isinstance(column, Category) or column.dtype == object:
            raise AgentError(
                "DatasetMismatch", "input %r of the module is a tensor, and the dataset's column holds text" % name
            )
        if column.dtype in (np.uint16, np.uint32, np.uint64):
            column = column.astype(np.int64)
        tensor = self.torch.from_numpy(np.array(column, order="C", copy=True))
        if tensor.dtype.is_floating_point and self.floating is not None:
            tensor = tensor.to(self.floating)
        return tensor

    def _named(self, found):
        if isinstance(found, self.torch.Tensor):
            return OrderedDict(output=self._array(found))
        if hasattr(found, "items"):
            items = list(found.items())
        elif isinstance(found, (list, tuple)):
            fields = getattr(found, "_fields", ["output_%d" % place for place in range(len(found))])
            items = list(zip(fields, found))
        else:
            raise AgentError(
                "OutputNotTensor",
                "the module returns a %s; it must return a tensor, or a tuple or dict of tensors"
                % type(found).__name__,
            )
        named = OrderedDict()
        for name, value in items:
            if value is None:
                continue
            if not isinstance(value, self.torch.Tensor):
                raise AgentError(
                    "OutputNotTensor",
                    "output %r of the module is a %s, not a tensor; return tensors only" % (name, type(value).__name__),
                )
            named[name] = self._array(value)
        return named

    def _array(self, tensor):
        tensor = tensor.detach().cpu()
        if tensor.dtype == self.torch.bfloat16:
            tensor = tensor.float()
        return tensor.numpy()


def _observable(module):
    """(name, module) of the innermost modules where these are at most 64, else of the deepest level that is."""
    names = [(name, part) for name, part in module.named_modules() if name]
    chosen = []
    for depth in range(1, max([name.count(".") + 1 for name, _ in names] or [0]) + 1):
        level = [
            (name, part)
            for name, part in names
            if name.count(".") + 1 == depth or (name.count(".") + 1 < depth and not any(True for _ in part.children()))
        ]
        if len(level) > MOST and chosen:
            break
        chosen = level
    return chosen[:MOST]


def require_torch(what):
    """The torch module. AgentError: PackageMissing."""
    try:
        import torch
    except ImportError as error:
        raise pickles.package_missing(error, what) from error
    return torch
