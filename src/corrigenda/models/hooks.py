"""Reading, writing and cutting short a forward pass: once, with hooks that are always removed.

Block outputs are tensors in some architectures and tuples in others; `first` and `with_first`
hide that. A hook that writes returns a new tensor: what autograd or another hook holds is never
changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..acting import first, with_first
from ..experts import entering

__all__ = [
    "Stop",
    "captured",
    "replaced_forward",
    "replaced_input",
    "replaced_output",
    "selected_input",
    "stopping",
]


class Stop(Exception):
    """Raised inside a forward pass that has gone far enough; caught by `stopping`."""


@contextmanager
def captured(
    modules: Mapping[str, tuple[nn.Module, str]], store: Callable[[str, Tensor], None] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Collect inputs or outputs of modules while the model runs.

    modules  name -> (module, "input" | "output").
    store    called with each (name, tensor) in place of keeping the last one.
    """
    found: dict[str, Tensor] = {}
    keep = store or found.__setitem__
    with ExitStack() as stack:
        for name, (module, which) in modules.items():
            if which == "input":

                def read_in(m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                    keep(name, entering(m, args, kwargs))

                handle = module.register_forward_pre_hook(read_in, with_kwargs=True)
            else:

                def read_out(_m: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                    # A copy: Falcon's block adds attention to the MLP's output in place.
                    keep(name, first(output).clone())

                handle = module.register_forward_hook(read_out)
            stack.callback(handle.remove)
        yield found


@contextmanager
def replaced_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The module's hidden states pass through `change`, which must not write in place."""

    def hook(_m: nn.Module, _args: Any, output: Any) -> Any:
        return with_first(output, change(first(output)))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced_input(module: nn.Module, value: Callable[[], Tensor]) -> Iterator[None]:
    """The module receives `value()` as its hidden states, whatever the caller passes."""

    def hook(_m: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (value(), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": value()}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def selected_input(module: nn.Module, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """The module sees only the hidden states at (rows, columns): (b, t, d) -> (1, n, d).

    On the unembedding this keeps the logits at the positions that are read and no others, which
    for a large vocabulary is most of the memory of a forward pass.
    """

    def hook(_m: nn.Module, args: Any) -> Any:
        there = args[0].device  # of several that a model may be spread over
        return (args[0][rows.to(there), columns.to(there)].unsqueeze(0), *args[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """The module computes `forward` instead of its own. Restored afterwards."""
    before = vars(module).get("forward")  # accelerate puts its own there
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if before is None:
            del module.forward  # the class's own method shows again
        else:
            module.forward = before


@contextmanager
def stopping(module: nn.Module, *, before: bool = False) -> Iterator[None]:
    """End the forward pass after this module (or before it), without an error."""

    def after_hook(_m: nn.Module, _args: Any, _output: Any) -> None:
        raise Stop

    def before_hook(_m: nn.Module, _args: Any) -> None:
        raise Stop

    handle = (
        module.register_forward_pre_hook(before_hook)
        if before
        else module.register_forward_hook(after_hook)
    )
    try:
        yield
    except Stop:
        pass
    finally:
        handle.remove()
