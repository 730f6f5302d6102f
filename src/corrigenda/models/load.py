"""Get a model to edit: the embedded one, one from a hub, a directory, or one in memory.

Only safetensors are read; nothing is ever unpickled, and no code from a checkpoint is run.
Whatever goes wrong in the libraries underneath comes out as an error of this package, which says
what was asked, what was found and what to do next.
"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from huggingface_hub import constants as hub
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from ..errors import CorrigendaError, InputError, ModelError, OfflineError, UnknownNameError
from .layouts import Layout
from .text import TextModel
from .verify import verify

__all__ = ["kind_of", "load", "place"]

_PACKAGED = (
    "atlas",
    "atlas-llama",
    "atlas-t5",
    "atlas-bert",
    "atlas-census",
    "atlas-lingual",
)
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load(
    name: str | os.PathLike[str] | tuple[Any, Any],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    layout: Layout | None = None,
    revision: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    side_path: bool = False,
) -> TextModel:
    """Load a language model (causal, encoder-decoder or masked) with its tokenizer, ready to edit.

    name      "atlas", "atlas-llama", "atlas-t5", "atlas-bert", "atlas-census" or "atlas-lingual"
              for the embedded models, which need no network; a hub id ("gpt2-xl",
              "meta-llama/Llama-3.1-8B", "google/flan-t5-xl"); a directory; or (module, tokenizer)
              as they are in memory. A module in memory is used in place, not copied.
    device    where to put it; CUDA if there is one, else the CPU. A module in memory stays where
              it is unless this is given.
    dtype     "float32", "bfloat16", "float16", or a torch dtype; the checkpoint's own by default
              (float32 for "atlas"). Edits are tied to the dtype that they were made in.
    layout    where the parts of an architecture are that this package does not know. It is
              verified numerically before use.
    revision  a branch, tag or commit on the hub.
    device_map
              in place of `device`, how accelerate is to spread the model over several devices, the
              memory of the machine and its disk: "auto", or {module: device}. Weights that do not
              stay on a device are edited beside the model; see docs/large-models.md.
    side_path keep the changes of linear maps beside their weights, in fp32, so that nothing of
              them is lost to the model's dtype. Quantised weights are always edited so.

    The tokenizer gets its end-of-text token for padding if it has no padding token; embeddings
    are never resized.

    Raises `ModelError` for what is no usable language model, `UnknownLayoutError` with a
    proposed layout for an unknown architecture, `UnknownNameError` for a misspelt name,
    `InputError` for an unknown device or dtype, or for both a device and a device map, and
    `OfflineError` if the model is not cached and cannot be downloaded.
    """
    wanted_dtype = _dtype(dtype)
    wanted_device = _device(device)
    if device_map is not None:
        _check_map(device_map, device, name)
    if layout is not None and not isinstance(layout, Layout):
        raise InputError(f"layout is a {type(layout).__name__}; give a corrigenda.models.Layout.")
    if isinstance(name, tuple):
        if revision is not None:
            raise InputError("A revision belongs to a hub id; (module, tokenizer) has none.")
        module, tokenizer, id = _given(name)
        if device is not None or wanted_dtype is not None:
            _check_movable(module, id)
            module = _moved(module, wanted_device, wanted_dtype)
    elif isinstance(name, str | os.PathLike):
        source, id = _locate(name)
        packaged = isinstance(name, str) and name in _PACKAGED
        if isinstance(source, Path):
            if revision is not None:
                raise InputError(f"A revision belongs to a hub id; {id!r} is a directory.")
            _check_folder(source)
        elif revision is not None:
            id = f"{id}@{revision}"
        if packaged and wanted_dtype is None:
            wanted_dtype = torch.float32
        with _quiet(packaged or not sys.stderr.isatty()):
            module, tokenizer = _fetch(str(source), id, wanted_dtype, revision, device_map)
        if device_map is None and not getattr(module, "hf_device_map", None):
            module = _moved(module, wanted_device or _best_device(), None)
    else:
        raise InputError(
            f"A model is a name, a path or (module, tokenizer), not a {type(name).__name__}. "
            'Example: load("atlas")'
        )
    tokenizer = _ready(tokenizer, module, id)
    if layout is not None:
        failed = [c for c in verify(module, layout, tokenizer) if not c.passed]
        if failed:
            raise ModelError(
                f"The layout given for {id} does not describe it:\n"
                + "\n".join(f"    {check}" for check in failed)
                + "\ncorrigenda.models.discover.propose(module) suggests one."
            )
    model = TextModel.of(module, tokenizer, id, layout)
    model.side_path = side_path
    return model


def kind_of(name: str | os.PathLike[str]) -> str:
    """causal, encoder-decoder or masked, from the configuration alone.

    Raises what `load` raises for a name that is none.
    """
    source, id = _locate(name)
    with _explained(id, "configuration"):
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    kinds = {AutoModelForSeq2SeqLM: "encoder-decoder", AutoModelForMaskedLM: "masked"}
    return kinds.get(_auto_class(config, id), "causal")


def place(name: str | os.PathLike[str]) -> Path | str:
    """The directory that a model is loaded from, or the hub id where it is none.

    Raises what `load` raises for a name that is none.
    """
    return _locate(name)[0]


# -- what is asked for ------------------------------------------------------------------------


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    known = {
        "float32": torch.float32,
        "fp32": torch.float32,
        "bfloat16": torch.bfloat16,
        "bf16": torch.bfloat16,
        "float16": torch.float16,
        "fp16": torch.float16,
        "float64": torch.float64,
    }
    if dtype is None or dtype == "auto":
        return None
    if isinstance(dtype, torch.dtype):
        if dtype not in known.values():
            raise InputError(f"Models are not edited in {dtype}; use float32, bfloat16 or float16.")
        return dtype
    if dtype not in known:
        raise UnknownNameError("dtype", str(dtype), known)
    return known[dtype]


def _device(device: str | torch.device | None) -> torch.device | None:
    if device is None:
        return None
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(
            f"There is no device called {device!r}. Use 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise InputError(
                f"The device {device} was asked for, and this machine offers {count} CUDA devices "
                "to this installation of torch. Use device='cpu'."
            )
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("The device mps was asked for, and it is not available. Use device='cpu'.")
    return found


def _check_map(device_map: Any, device: Any, name: Any) -> None:
    """Raises `InputError` for a device map that cannot be, `ModelError` without accelerate."""
    if device is not None:
        raise InputError(
            f"Both device={device!r} and a device_map were given. The map says where every part "
            "goes: leave the device out, or give it alone for a model that fits there."
        )
    if isinstance(name, tuple):
        raise InputError(
            "A device_map is for a model that is loaded by name. Spread a module in memory with "
            "accelerate.dispatch_model(module, device_map) and give it as it is then."
        )
    if not isinstance(device_map, str | Mapping):
        raise InputError(
            f"A device_map is 'auto' or a table of modules and devices, not a "
            f"{type(device_map).__name__}. Example: device_map='auto'"
        )
    if importlib.util.find_spec("accelerate") is None:
        raise ModelError(
            "A device_map needs the library accelerate, which is not installed. Install it with "
            "`pip install 'corrigenda[large]'`, or give a device in place of the map."
        )


def _check_movable(module: Any, id: str) -> None:
    """Raises `ModelError` for a model whose parts are where something else has put them."""
    spread = len(set((getattr(module, "hf_device_map", None) or {}).values())) > 1
    if spread or getattr(module, "is_quantized", False):
        how = "spread over devices by a device map" if spread else "quantised"
        raise ModelError(
            f"{id} is {how} and stays as it is. Leave device and dtype out, or load it anew with "
            "those."
        )


def _best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _locate(name: str | os.PathLike[str]) -> tuple[Path | str, str]:
    """The directory of a model, or its hub id; and the id that deltas will name."""
    text = os.fspath(name)
    if isinstance(name, str) and text in _PACKAGED:
        return _packaged(text), text
    if not text.strip():
        raise InputError('The name of the model is empty. Give "atlas", a hub id or a path.')
    path = Path(text).expanduser()
    if path.exists():
        return path, text
    looks_like_path = (
        not isinstance(name, str)
        or text.startswith((".", "/", "~", os.sep))
        or text.endswith(("/", os.sep))
        or text.count("/") > 1
        or "\\" in text
    )
    if looks_like_path:
        parent = path.parent
        near = ""
        if parent.is_dir():
            names = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=3)
            near = f" Did you mean {' or '.join(str(parent / n) for n in names)}?" if names else ""
        raise ModelError(f"There is no directory {text}.{near}")
    if "/" not in text and difflib.get_close_matches(text.lower(), _PACKAGED, cutoff=0.6):
        raise UnknownNameError("model", text, _PACKAGED)
    return text, text


def _packaged(name: str) -> Path:
    from ..atlas import weights_path

    path = Path(weights_path(name))
    if not (path / "config.json").is_file():
        raise ModelError(
            f"The weights of {name} are missing from this installation ({path}). Install "
            "corrigenda again, or make them with `corrigenda atlas train`."
        )
    return path


def _check_folder(path: Path) -> None:
    """Say early what is wrong with a directory, in words about the directory."""
    if path.is_file():
        raise ModelError(
            f"{path} is a file. Give the directory that holds config.json, the tokenizer and "
            "model.safetensors."
        )
    names = sorted(p.name for p in path.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if "delta.json" in names:
        raise ModelError(
            f"{path} holds a saved edit (delta.json), not a model. Load the model that the edit "
            "was made for, and apply Delta.load(path) to it."
        )
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise ModelError(
                f"{path} holds an adapter, not a model: {shown}. Load its base model, named in "
                "adapter_config.json, or merge the adapter into it and save the result."
            )
        inner = [n for n in names if (path / n / "config.json").is_file()]
        hint = (
            f"Models are in its subdirectories: {', '.join(str(path / n) for n in inner[:4])}."
            if inner
            else "Give a directory written by save_pretrained, or a hub id such as "
            "openai-community/gpt2."
        )
        raise ModelError(f"{path} has no config.json. It holds: {shown or 'nothing'}. {hint}")
    if not any(n in names for n in _SAFE):
        pickled = [n for n in names if n.endswith(_PICKLED)]
        if pickled:
            raise ModelError(_pickled(str(path), ", ".join(pickled[:4])))
        raise ModelError(
            f"{path} has a config.json but no model.safetensors. It holds: {shown}. Download or "
            "save the weights into it."
        )


def _pickled(name: str, found: str) -> str:
    return (
        f"{name} has no safetensors weights (found: {found}). Pickled checkpoints can run any code "
        "when they are read, so they are refused. Use a repository with model.safetensors, or, if "
        "you trust the file, convert it once: AutoModelForCausalLM.from_pretrained(..., "
        "use_safetensors=False).save_pretrained(new_directory)."
    )


def _given(pair: tuple[Any, ...]) -> tuple[Any, Any, str]:
    if len(pair) != 2 or not isinstance(pair[0], torch.nn.Module):
        kinds = ", ".join(type(x).__name__ for x in pair)
        raise InputError(f"Give (module, tokenizer), in this order; found ({kinds}).")
    module, tokenizer = pair
    if not callable(tokenizer) or not hasattr(tokenizer, "is_fast"):
        raise InputError(
            f"The second of (module, tokenizer) is a {type(tokenizer).__name__}, not a tokenizer "
            "of transformers. Wrap a tokenizers.Tokenizer in PreTrainedTokenizerFast."
        )
    if not isinstance(module, transformers.PreTrainedModel):
        kind = type(module).__name__
        hint = "Load it with AutoModelForCausalLM."
        if hasattr(module, "merge_and_unload"):
            hint = "It seems to be an adapter: give `module.merge_and_unload()`."
        raise ModelError(f"The module is a {kind}, not a transformers.PreTrainedModel. {hint}")
    config: Any = module.config
    id = config._name_or_path or config.model_type
    _auto_class(config, id, known=False)
    if module.get_output_embeddings() is None:
        raise ModelError(
            f"{type(module).__name__} has no language-model head, so it cannot say anything. "
            "Load the model with AutoModelForCausalLM, ...Seq2SeqLM or ...MaskedLM."
        )
    return module, tokenizer, id


def _auto_class(config: Any, id: str, *, known: bool = True) -> Any:
    """The class of transformers that loads this kind of language model.

    known  transformers must be able to build it from its configuration.

    Raises `ModelError` for what is no language model.
    """
    kind = config.model_type
    named = config.architectures or ()
    if getattr(config, "is_encoder_decoder", False):
        if not known or kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return AutoModelForSeq2SeqLM
    elif any(a.endswith("ForMaskedLM") for a in named) or (
        kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    ):
        return AutoModelForMaskedLM
    elif not known or kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForCausalLM
    raise ModelError(
        f"{id} is of type {kind}, which transformers {transformers.__version__} does not know as a "
        "language model: causal, encoder-decoder or masked. Give a model that answers in text."
    )


# -- getting it -------------------------------------------------------------------------------


def _fetch(
    source: str,
    id: str,
    dtype: torch.dtype | None,
    revision: str | None,
    device_map: str | Mapping[str, Any] | None,
) -> tuple[Any, Any]:
    """Configuration first: it is small, and says whether the rest is worth downloading."""
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    with _explained(id, "configuration"):
        config = AutoConfig.from_pretrained(source, **options)
    kind = _auto_class(config, id)
    with _explained(id, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if device_map is not None:
        options["device_map"] = device_map if isinstance(device_map, str) else dict(device_map)
    with _explained(id, "weights"), _no_conversion():
        loaded: Any = kind.from_pretrained(
            source,
            config=config,
            dtype=dtype or "auto",
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    module, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"The checkpoint of {id} lacks {len(missing)} of the model's tensors "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); they would be random. "
            "It may have been saved without its language-model head, or belong to another "
            "config.json. Use a complete checkpoint."
        )
    if not module.can_generate():
        return module, tokenizer
    old = module.generation_config
    # Sampling settings and repetition penalties that a checkpoint recommends would change greedy
    # answers, by which edits are judged. Only the special tokens are kept.
    module.generation_config = GenerationConfig(
        bos_token_id=old.bos_token_id,
        eos_token_id=old.eos_token_id,
        pad_token_id=old.pad_token_id,
        decoder_start_token_id=old.decoder_start_token_id,
        forced_bos_token_id=old.forced_bos_token_id,
        forced_eos_token_id=old.forced_eos_token_id,
    )
    return module, tokenizer


def _moved(module: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    try:
        return module.to(device=device, dtype=dtype)
    except torch.OutOfMemoryError:
        raise ModelError(
            f"The model does not fit on {device}. Load it in a smaller dtype (dtype='bfloat16') "
            "or on another device (device='cpu')."
        ) from None


def _ready(tokenizer: Any, module: Any, id: str) -> Any:
    """The tokenizer, or a copy with a padding token. Raises `ModelError` if it cannot serve."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{id} has only a slow tokenizer ({type(tokenizer).__name__}). Edits find their "
            "subject by character offsets, which fast tokenizers give. Convert it to a "
            "tokenizer.json with the tokenizers library, or use another model."
        )
    rows = module.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"The tokenizer of {id} has {tokenizer.vocab_size} tokens and the model embeds {rows}: "
            "they do not belong together. Give the tokenizer that the model was trained with."
        )
    pad = tokenizer.pad_token_id
    if pad is not None and pad < rows:
        return tokenizer
    # Padding is masked, so any token that has an embedding will do.
    stand_in = next(
        (t for t in (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token) if t), None
    )
    if stand_in is None or tokenizer.convert_tokens_to_ids(stand_in) >= rows:
        stand_in = tokenizer.convert_ids_to_tokens(0)
    tokenizer = copy.deepcopy(tokenizer)  # the caller's keeps what it has
    tokenizer.pad_token = stand_in
    return tokenizer


@contextmanager
def _no_conversion() -> Iterator[None]:
    """Keep transformers from asking a web service to convert a pickled checkpoint."""
    name = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet(no_bars: bool) -> Iterator[None]:
    """No warnings about what is checked here, and no progress bars where nobody watches."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    if no_bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


# -- what can go wrong underneath -------------------------------------------------------------


@contextmanager
def _explained(id: str, part: str) -> Iterator[None]:
    """Turn whatever the libraries raise into an error that says what to do."""
    try:
        yield
    except CorrigendaError:
        raise
    except Exception as error:
        raise _translated(error, id, part) from None


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = cast(BaseException, error.__cause__ or error.__context__)
    return found


def _translated(error: Exception, id: str, part: str) -> CorrigendaError:
    chain = _chain(error)
    name = id.partition("@")[0]

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(e, kinds) for e in chain)

    # The order matters: several of these classes derive from one another.
    if has(hub_errors.GatedRepoError):
        return ModelError(
            f"{name} is gated: its owners ask for consent first. Accept the terms on its page, "
            "then log in with `hf auth login` or set HF_TOKEN."
        )
    if has(hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled):
        return _offline(name)
    if has(hub_errors.RevisionNotFoundError):
        revision = id.partition("@")[2]
        return ModelError(f"{name} has no revision {revision!r}. Name a branch, tag or commit.")
    if has(hub_errors.RepositoryNotFoundError):
        return ModelError(
            f"There is no model {name!r}: no directory of that name here, and no public repository "
            "on the hub. Hub ids look like openai-community/gpt2-xl; private ones need "
            '`hf auth login`. The embedded model is called "atlas".'
        )
    if has(hub_errors.HFValidationError):
        return ModelError(
            f"{name!r} is neither a directory nor a possible hub id. Give a path that exists, an "
            'id such as openai-community/gpt2-xl, or "atlas".'
        )
    if has(ConnectionError, TimeoutError, socket.gaierror) or any(_transport(e) for e in chain):
        return _offline(name)
    text = " ".join(str(error).split())
    if has(SafetensorError):
        return ModelError(
            f"The weights of {name} cannot be read ({text}). The file is truncated, or no "
            "safetensors file at all (a git-lfs pointer?). Download it again."
        )
    if part == "weights" and "safetensors" in text and "file named" in text:
        return ModelError(_pickled(name, "no model.safetensors"))
    if "custom code" in text or "trust_remote_code" in text:
        return ModelError(
            f"{name} needs code from its repository, which is never run here. Load it yourself "
            "and pass load((module, tokenizer))."
        )
    if "size mismatch" in text or "ignore_mismatched_sizes" in text:
        return ModelError(
            f"The weights of {name} have other shapes than its config.json says. They do not "
            "belong together: download both again."
        )
    if part == "tokenizer":
        return ModelError(
            f"{name} has no tokenizer that can be read ({text[:160]}). Save one next to the model "
            "(tokenizer.json), or pass load((module, tokenizer))."
        )
    return ModelError(f"The {part} of {name} cannot be loaded: {text[:300]}")


def _transport(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0].rstrip("2") in {
        "httpx",
        "httpcore",
        "requests",
        "urllib3",
    }


def _offline(name: str) -> OfflineError:
    why = (
        "HF_HUB_OFFLINE forbids downloads" if hub.is_offline_mode() else "the hub cannot be reached"
    )
    return OfflineError(
        f"The model {name} is not in the local cache ({hub.HF_HUB_CACHE}), and {why}. On a machine "
        f"with network: `hf download {name}`, then copy the cache or the directory here and give "
        'its path. load("atlas") needs no network.'
    )
