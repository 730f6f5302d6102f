"""What is live on a model right now: pristine tensors plus an ordered set of deltas.

Undo restores, it never subtracts: `W + D - D` differs from `W` in a few per cent of fp32
entries. For each touched parameter one pristine copy W0 is kept, and the parameter is always
W0 + sum of the active changes, summed in the order of application. So any delta can be removed,
in any order, and the rest is exactly what it would be if that delta had never been there. The sum
of all but the last is kept while that one comes and goes, as in a long sequence of edits.

Weights that cannot be written, quantised or away, stand still: the sum of their changes Δ acts beside
them, through a hook that adds `x Δᵀ` to what the map returns. With `side_path` so do those of all
linear maps, and nothing of a small change is lost to rounding. See `storage.py`.

Changes that act on activations are hooks, placed anew whenever the set of active deltas changes:
in order of application, those that can be added as one. Changes of the prompt are asked through
`given`. Removing a delta removes its hooks; no trace is left.

Several module trees may stand over the same weights (`models/twin.py`). There a changed tensor takes
the place of the shared one in its own tree, and nothing is written into what others read.

A tensor that goes by several names (tied embeddings) is one parameter here: it has one pristine
copy, kept under its first name, and a change under any of its names is a change of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .acting import Memory, Pass, first, with_first
from .context import Given
from .errors import DeltaError, ModelError, UnstableEditError, WrongBaseError
from .experts import entering
from .storage import away, dequantized, maps, packed, packed_hash, sizes, stored, tensor_hash

if TYPE_CHECKING:
    from .delta import Delta, Dense, LowRank

__all__ = ["Live", "tensor_hash"]


class Live:
    """The deltas that are active on one module, and the originals of what they touch."""

    def __init__(self, owner: Any, module: nn.Module) -> None:
        self._owner = owner
        self._module = module
        self._originals: dict[str, Tensor] = {}
        self._hashes: dict[str, str] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._sums: dict[str, tuple[tuple[Delta, ...], Tensor]] = {}
        self._active: dict[int, Delta] = {}
        self._next = 0
        self._hooks: list[Any] = []
        self._passes: dict[str, Pass] = {}
        self._ends: Tensor | None = None
        self._side_path = self._merges = self._shared = self._as_it_is = False

    @property
    def deltas(self) -> tuple[Delta, ...]:
        """The active deltas in order of application."""
        return tuple(self._active.values())

    @property
    def touched(self) -> frozenset[str]:
        """First names of the parameters that differ from their originals through a delta."""
        return frozenset(self._originals)

    def parameter(self, name: str) -> nn.Parameter:
        """Look a parameter up by name. Raises `WrongBaseError` if there is none.

        Of a packed weight that is no parameter, the buffer.
        """
        try:
            return self._module.get_parameter(name)
        except AttributeError:
            pass
        try:
            return self._module.get_buffer(name)  # type: ignore[return-value]
        except AttributeError:
            raise WrongBaseError(
                f"The model has no parameter {name}: the delta was made for another architecture."
            ) from None

    def names(self, name: str) -> tuple[str, ...]:
        """All names of a parameter, the first one leading; several where it is tied."""
        if self._packed(name):
            return (name,)
        parameter = self.parameter(name)
        known = self._names.get(name, ())
        if not known or any(self.parameter(n) is not parameter for n in known):
            named = self._module.named_parameters(remove_duplicate=False)
            known = tuple(n for n, p in named if p is parameter) or (name,)
            self._names[name] = known
        return known

    def first_name(self, name: str) -> str:
        """The name under which a parameter is known here."""
        return self.names(name)[0]

    def pristine(self, name: str) -> Tensor:
        """The original value of a parameter, whatever is applied now; of a packed weight (o, i) in
        floating point. Raises `ModelError` for one that cannot be read so."""
        if self._packed(name):
            return dequantized(self._owner_of(name)[0])
        kept = self._originals.get(self.first_name(name))
        return stored(*self._owner_of(name)) if kept is None else kept

    def writable(self, name: str) -> Tensor | None:
        """`pristine`, if it is a tensor that changes can be written into, and None if not."""
        if self._packed(name) or away(self.parameter(name)):
            return None
        return self.pristine(name)

    def pristine_hash(self, name: str) -> str:
        """sha256 of the original value of a parameter, as it is stored."""
        if self._packed(name):
            return packed_hash(self._owner_of(name)[0])
        name = self.first_name(name)
        if name in self._originals:
            if name not in self._hashes:
                self._hashes[name] = tensor_hash(self._originals[name])
            return self._hashes[name]
        return tensor_hash(self.pristine(name))

    def stored_hash(self, name: str, tensor: Tensor) -> str:
        """sha256 of an entry of the module's state dict, as `pristine_hash` gives it for those that
        have parameters; of a weight that is packed or away not that of the entry itself."""
        if self._packed(name) or away(tensor):
            return self.pristine_hash(name)
        return tensor_hash(tensor)

    @torch.no_grad()
    def value(self, name: str, deltas: Iterable[Delta], *, merged: bool = False) -> Tensor:
        """What a parameter would be with exactly these deltas active, in this order.

        W0 + sum of the changes, in fp32 (float64 for float64 parameters), rounded once; where they
        act beside the parameter, not at all, unless it is asked what it would be with them merged.
        """
        names, original = self.names(name), self.pristine(name)
        total = self._sum(names, original, deltas)
        if total is None:
            return original
        exact = torch.promote_types(original.dtype, torch.float32)
        new = original.to(exact) + total
        return new if self.beside(name) and not merged else new.to(original.dtype)

    def _sum(
        self, names: tuple[str, ...], original: Tensor, deltas: Iterable[Delta]
    ) -> Tensor | None:
        """The sum of what these deltas add to one parameter, in their order; None: nothing."""
        mine = tuple(d for d in deltas if any(n in d.changes for n in names))
        known, total = self._sums.get(names[0], ((), None))
        if not known or mine[: len(known)] != known:
            known, total = (), None
        for j, delta in enumerate(mine[len(known) :], start=len(known)):
            for key in (n for n in names if n in delta.changes):
                change = delta.stored(key, original.shape).to(original.device)
                total = change if total is None else total + change
            if total is not None and j == len(mine) - 2 and names[0] in self._originals:
                self._sums[names[0]] = mine[:-1], total
        return total

    # -- changes beside the weights -----------------------------------------------------------

    @property
    def side_path(self) -> bool:
        """Whether changes of linear maps act beside their weights, in fp32, though these could be
        written. Tied weights, embeddings and norms are written as always.

        Raises `DeltaError` when set while deltas are active.
        """
        return self._side_path

    @side_path.setter
    def side_path(self, wanted: bool) -> None:
        if self._active and wanted != self._side_path:
            raise DeltaError(
                "Deltas are active, and they would have to move. Remove them, set side_path, and "
                "apply them again."
            )
        self._side_path = wanted

    def beside(self, name: str) -> bool:
        """Whether the changes of this parameter act beside it."""
        if self._packed(name) or away(self.parameter(name)):
            return True
        return self._side_path and len(self.names(name)) == 1 and maps(*self._owner_of(name))

    def change_beside(self, name: str) -> LowRank | Dense | None:
        """The sum of the active changes of a parameter, where they act beside it."""
        if not self.beside(name):
            return None
        total: LowRank | Dense | None = None
        for change in (d.weights[name] for d in self._active.values() if name in d.weights):
            total = change if total is None else total.plus(change)
        return total

    @contextmanager
    def merging(self) -> Iterator[Any]:
        """The pristine model inside the `with` block, where changes are written into the weights
        whatever `side_path` says. Raises `DeltaError` there for weights that cannot be written."""
        with self.suspended():
            before = self._side_path, self._merges
            self._side_path, self._merges = False, True
            try:
                yield self._owner
            finally:
                self.clear()
                self._side_path, self._merges = before

    def _owner_of(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds a tensor, and the tensor's name in it."""
        path, _, leaf = name.rpartition(".")
        return self._module.get_submodule(path), leaf

    def _packed(self, name: str) -> bool:
        """Whether the name is that of a quantised weight."""
        try:
            module, leaf = self._owner_of(name)
        except AttributeError:
            return False
        return leaf == "weight" and packed(module)

    def check(self, delta: Delta) -> None:
        """Raises `WrongBaseError` if the pristine tensors are not those the delta was made for,
        and `UnstableEditError` if the delta is not finite."""
        delta.check_finite()
        for name, change in delta.weights.items():
            self._check_shape(delta, name, change.shape)
            self._check_path(name)
        for name in delta.acting:
            self._module_at(name)
        for name, wanted in delta.base.items():
            self._check_base(delta, name, wanted)

    def push(self, delta: Delta) -> int:
        """Make a delta active and return its handle. Nothing changes if it is refused.

        Raises `WrongBaseError` if the original tensors are not those it was made for, and
        `UnstableEditError` if it is not finite, or its sum with the weights overflows.
        """
        self.check(delta)
        names = self._written(delta)
        for name in names - self._originals.keys():
            kept = self.parameter(name).data
            self._originals[name] = kept if self._shared else kept.clone()
        handle, self._next = self._next, self._next + 1
        self._active[handle] = delta
        try:
            self._rewrite(names)
            for name in names:
                self._check_overflow(name)
            if self._hooks_of(delta):
                self._rehook()
        except BaseException:
            del self._active[handle]
            self._rewrite(names)
            self._rehook()
            raise
        return handle

    def become(self, deltas: Iterable[Delta]) -> None:
        """Make exactly these deltas active, in this order, each parameter written once. Nothing
        changes if one is refused; raises what `push` does."""
        wanted = list(deltas)
        written = {name for delta in wanted for name in self._written(delta)}
        before, originals, sums = self._active, dict(self._originals), dict(self._sums)
        names = written | originals.keys()
        try:
            for name in written - originals.keys():
                kept = self.parameter(name).data
                self._originals[name] = kept if self._shared else kept.clone()
            for delta in wanted:  # after that, so that no tensor is hashed twice
                self.check(delta)
            self._active = {self._next + j: delta for j, delta in enumerate(wanted)}
            self._rewrite(names)
            for name in written:
                self._check_overflow(name)
            self._rehook()
        except BaseException:
            self._active = before
            self._originals.update(originals)
            self._rewrite(names)
            self._sums.update(sums)
            self._rehook()
            raise
        self._next += len(wanted)

    def pop(self, handle: int) -> Delta:
        """Remove a delta, in any order. Raises `DeltaError` if it is not active."""
        if handle not in self._active:
            raise DeltaError(f"No active delta has the handle {handle}; it was removed already.")
        delta = self._active.pop(handle)
        self._rewrite(self._written(delta))
        if self._hooks_of(delta):
            self._rehook()
        return delta

    def clear(self) -> None:
        """Remove every delta: the module is bit for bit what it was."""
        self._active.clear()
        self._rewrite(self._originals)
        self._rehook()

    @contextmanager
    def pushed(self, delta: Delta) -> Iterator[Any]:
        """Active inside the `with` block, removed after it whatever happens."""
        handle = self.push(delta)
        try:
            yield self._owner
        finally:
            if handle in self._active:  # the block may have cleared everything itself
                self.pop(handle)

    @contextmanager
    def suspended(self) -> Iterator[Any]:
        """The pristine model inside the `with` block, with everything back after it.

        Deltas pushed inside the block and left there are removed with it.
        """
        active, originals, sums = self._active, dict(self._originals), dict(self._sums)
        try:
            self._active = {}
            self._rewrite(originals)
            self._rehook()
            yield self._owner
        finally:
            self._active = active
            self._originals.update(originals)
            self._sums.update(sums)
            self._rewrite(self._originals)
            self._rehook()

    # -- several trees over the same weights --------------------------------------------------

    def share(self) -> None:
        """From now on changed tensors are put in place of those of the module, never written into
        them: other trees may read these."""
        self._shared = True

    def adopt(self, other: Live) -> None:
        """Make live here exactly what is live on another tree over the same weights. Both then use
        the same changed tensors, and what is pushed on one later does not concern the other."""
        if not (self._shared and other._shared):
            raise DeltaError("Only trees that share their weights can adopt what is live.")
        self.clear()
        for name in other._originals:
            self.parameter(name).data = other.parameter(name).data
        self._originals, self._hashes = dict(other._originals), dict(other._hashes)
        self._sums, self._active = dict(other._sums), dict(other._active)
        self._next, self._side_path = other._next, other._side_path
        self._rehook()

    # -- changes of the prompt ----------------------------------------------------------------

    def given(self, prompts: Sequence[str]) -> list[Given]:
        """What the active changes of the prompt make of prompts, the oldest outermost. Those of one
        form act as their sum. A change that asks the model does so with the other changes live."""
        joined: list[Any] = []
        contexts = () if self._as_it_is else (d.context for d in self._active.values())
        for context in (one for one in contexts if one is not None):
            if joined and joined[-1].like(context):
                joined[-1] = joined[-1].plus(context)
            else:
                joined.append(context)
        found = [Given(prompt) for prompt in prompts]
        if not joined:
            return found
        with self.without_context():
            for context in reversed(joined):
                mine = [j for j, one in enumerate(found) if one.by is None]
                new = context.given([found[j].text for j in mine], self._owner)
                for j, one in zip(mine, new, strict=True):
                    found[j] = one
        return found

    def wrap(self, prompt: str) -> str:
        """The text that the model is given in place of one prompt."""
        return self.given([prompt])[0].text

    @property
    def has_context(self) -> bool:
        """Whether any active delta changes the prompt."""
        return not self._as_it_is and any(d.context is not None for d in self._active.values())

    @contextmanager
    def without_context(self) -> Iterator[Any]:
        """Prompts are taken as they are inside the `with` block; other changes stay."""
        before, self._as_it_is = self._as_it_is, True
        try:
            yield self._owner
        finally:
            self._as_it_is = before

    # -- changes of activations ---------------------------------------------------------------

    @property
    def acts(self) -> bool:
        """Whether any active delta acts on activations."""
        return any(delta.acting for delta in self._active.values())

    @contextmanager
    def asking(self, ends: Tensor | None) -> Iterator[None]:
        """Forward passes inside the block read prompts whose last tokens are in columns `ends`
        (b,). Without it, the last token of a row is the end of its prompt."""
        before, self._ends = self._ends, ends
        try:
            yield
        finally:
            self._ends = before

    def passes(self) -> dict[str, Pass]:
        """What is known of the prompts that were read last, by stack. `resume` goes on with them
        after others were read in between."""
        return {path: replace(now, routes=dict(now.routes)) for path, now in self._passes.items()}

    def resume(self, passes: dict[str, Pass]) -> None:
        """Go on with prompts that were read before; see `passes`."""
        for path, kept in passes.items():
            now = self._passes[path]
            now.mask, now.ends, now.decoding = kept.mask, kept.ends, kept.decoding
            now.routes = dict(kept.routes)

    def _rehook(self) -> None:
        """Place the hooks of all active deltas anew."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        # First what belongs to the maps themselves: changes of activations see their sum.
        named = dict.fromkeys(name for delta in self._active.values() for name in delta.weights)
        for name in named:
            if (change := self.change_beside(name)) is not None:
                module, leaf = self._owner_of(name)
                hook = module.register_forward_hook(_beside(change, leaf), with_kwargs=True)
                self._hooks.append(hook)
        plan: dict[str, list[Any]] = {}
        for delta in self._active.values():
            for name, change in delta.acting.items():
                there = plan.setdefault(name, [])
                if change.merges and there and there[-1].like(change):
                    there[-1] = there[-1].plus(change)
                else:
                    there.append(change)
        self._passes = {}
        if not plan:
            return
        # Where prompts are read: the whole model, or encoder and decoder apart.
        stacks: dict[str, bool] = getattr(self._owner, "stacks", {"": True})
        self._passes = {path: Pass() for path in stacks}
        for path, reads in stacks.items():
            module = self._module.get_submodule(path)
            hook = _begins(self._passes[path], lambda: self._ends, reads)
            self._hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        # All decisions before all actions: a memory may read where another one writes.
        for changes in plan.values():
            for memory in (c for c in changes if isinstance(c, Memory)):
                at = memory.scope.at
                self._hook(at, _decides(memory, self._pass(at), at.endswith("@input")))
        for name, changes in plan.items():
            for change in changes:
                self._hook(name, _acts(change, self._pass(name)))

    def _written(self, delta: Delta) -> set[str]:
        """First names of the parameters that a delta is written into."""
        return {self.first_name(name) for name in delta.weights if not self.beside(name)}

    def _hooks_of(self, delta: Delta) -> bool:
        return bool(delta.acting) or any(self.beside(name) for name in delta.weights)

    def _hook(self, at: str, hook: Any) -> None:
        self._hooks.append(self._module_at(at).register_forward_hook(hook, with_kwargs=True))

    def _pass(self, place: str) -> Pass:
        """The pass of the innermost stack that holds the module."""
        inside = [
            p for p in self._passes if not p or f"{place.partition('@')[0]}.".startswith(f"{p}.")
        ]
        return self._passes[max(inside, key=len)]

    # -- checks -------------------------------------------------------------------------------

    def _check_shape(self, delta: Delta, name: str, shape: tuple[int, ...]) -> None:
        found = sizes(self._owner_of(name)[0]) if self._packed(name) else None
        kept = found or tuple(self.parameter(name).shape)
        mathematical = kept[::-1] if name in delta.transposed else kept
        if len(kept) == 3 and len(shape) == 2:  # a stack of experts, as one map
            mathematical = (kept[1], kept[0] * kept[2])
        if mathematical != tuple(shape):
            raise WrongBaseError(
                f"{name} has shape {mathematical}, but the delta changes {tuple(shape)}. "
                "It was made for another model; load the model named in its provenance: "
                f"{delta.provenance.model or 'unknown'}."
            )

    def _check_path(self, name: str) -> None:
        """Whether there is a way for a change of this parameter to act."""
        module, leaf = self._owner_of(name)
        tensor = None if self._packed(name) else self.parameter(name)
        if tensor is not None and tensor.is_floating_point() and not away(tensor):
            return
        how = "away (offloaded)" if away(tensor) else "quantised"
        if self._merges:
            raise DeltaError(
                f"{name} is {how}, so no change can be merged into it. Keep the delta beside the "
                "model, or merge it into the model as it is before: load that without a device "
                "map or quantisation."
            )
        # A stack of experts forms its keys from its own weights, which would have to be here.
        if not maps(module, leaf) or (away(tensor) and tensor is not None and tensor.ndim == 3):
            raise ModelError(
                f"{name} is {how} and cannot be written, and it is no weight or bias of a linear "
                "map, whose change could act beside it. Change a linear map, or load the model "
                "so that this parameter stays on a device (a device_map that says so)."
            )

    def _check_base(self, delta: Delta, name: str, wanted: str) -> None:
        if wanted and wanted != (found := self.pristine_hash(name)):
            raise WrongBaseError(
                f"{name} is not the tensor that this delta was made for (sha256 {wanted[:12]}… "
                f"wanted, {found[:12]}… found). Load the base model named in its provenance "
                f"({delta.provenance.model or 'unknown'}) in the same dtype, or solve the edit "
                "again."
            )

    def _module_at(self, place: str) -> nn.Module:
        """The module of "path@output"."""
        try:
            return self._module.get_submodule(place.partition("@")[0])
        except AttributeError:
            raise WrongBaseError(
                f"The model has no module {place.partition('@')[0]}: the delta was made for "
                "another architecture."
            ) from None

    def _check_overflow(self, name: str) -> None:
        now, original = self.parameter(name).data, self._originals[name]
        if not bool(torch.isfinite(now).all()) and bool(torch.isfinite(original).all()):
            raise UnstableEditError(
                f"With this delta {name} overflows {now.dtype}, so it is refused. Load the model "
                "in float32, or lower the clamp or the learning rate of the edit."
            )

    @torch.no_grad()
    def _rewrite(self, names: Iterable[str]) -> None:
        for name in list(names):
            parameter, value = self.parameter(name), self.value(name, self._active.values())
            if self._shared:
                parameter.data = value
            else:
                parameter.data.copy_(value)
            if not any(n in d.changes for d in self.deltas for n in self.names(name)):
                del self._originals[name]
                self._hashes.pop(name, None)
                self._sums.pop(name, None)


def _beside(change: LowRank | Dense, leaf: str) -> Callable[..., Any]:
    """Adds `x Δᵀ` to what a linear map returns, or the change of its bias; summed in fp32."""
    factors = tuple(change.tensors().values())
    there: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        exact = torch.promote_types(output.dtype, torch.float32)
        place = output.device, exact
        if place not in there:
            there[place] = tuple(t.to(*place) for t in factors)
        if leaf == "bias":
            return (output.to(exact) + there[place][0]).to(output.dtype)
        more = entering(module, args, kwargs).to(*place)
        for factor in reversed(there[place]):  # x vᵀ uᵀ, or x dᵀ
            more = more @ factor.T
        return (output.to(exact) + more.view_as(output)).to(output.dtype)

    return hook


def _begins(now: Pass, ends: Callable[[], Tensor | None], reads: bool) -> Callable[..., None]:
    """Before a stack runs: is this a set of new prompts, or one more token of their answers?

    reads  whether this stack reads the prompts; a decoder does not: there the first token is where
           the answer begins, and nothing is padding.
    """

    def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
        past = kwargs.get("past_key_values")
        told = ends()
        if told is None and past is not None and past.get_seq_length() > 0:
            now.decoding = True
            return
        if reads:
            mask = kwargs.get("attention_mask")
            now.begin(mask if mask is None or mask.dim() == 2 else None, told)
            return
        some = kwargs.get("input_ids", kwargs.get("inputs_embeds", args[0] if args else None))
        now.begin(None, None if some is None else torch.zeros(len(some), dtype=torch.long))

    return hook


def _decides(memory: Memory, now: Pass, of_input: bool) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        x = entering(module, args, kwargs) if of_input else first(output)
        memory.decide(now.rows(x), now)

    return hook


def _acts(change: Any, now: Pass) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        x, y = entering(module, args, kwargs), first(output)
        rows = now.rows(y)
        new = change.act(now.rows(x), rows, now)
        return output if new is rows else with_first(output, new.view_as(y))

    return hook
