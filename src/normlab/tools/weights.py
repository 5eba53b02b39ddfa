"""Weights on disk: read without running what a file says, written whole or not at all."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from normlab import __version__, errors

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
CONVERT = "convert it where it was made: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
LOAD = "normlab.load"  # in the metadata: after what the weights are to be loaded


@dataclass(frozen=True)
class Weights:
    """Tensors by name, what a file says of itself, and what was done to read it."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_weights(path: Path) -> Weights:
    """The weights in a file, on the CPU.

    A `.safetensors` is read as it is. A pickle (`.pt`, `.pth`, `.bin`, `.ckpt`) is read with `weights_only=True`, and
    out of a checkpoint comes what is its one `state_dict`.

    Raises:
        DataError: there is no such file, or it is damaged, holds no weights or those of several models, or needs
            code to be read.
    """
    if not path.is_file():
        raise _refused(path, "there is no such file.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickle(path)
    raise _refused(path, f"weights are in files .safetensors, or {', '.join(PICKLED)}.", got=path.suffix, fix=CONVERT)


def write_weights(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Writes the `state_dict` of a model as safetensors, in one step: an interruption leaves what was there before.

    Tensors that share memory are written one by one, so that any reader finds every name.

    Raises:
        DataError: the model keeps something that is no tensor, or the disk refuses.
    """
    whole: dict[str, torch.Tensor] = {}
    memory: set[int] = set()
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            rule = "safetensors hold tensors only, and the model keeps something else."
            raise _refused(path, rule, got=f"{name}: {type(value).__name__}")
        plain = value.detach().contiguous()
        where = plain.untyped_storage().data_ptr()
        whole[name] = plain.clone() if where in memory else plain
        memory.add(where)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(whole, partial, metadata={"format": "pt", **metadata, "normlab": __version__})
        os.replace(partial, path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise _refused(path, "the weights cannot be written.", got=str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return Weights({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _refused(path, "the file is damaged, or no safetensors.", got=str(error)) from error


def _read_pickle(path: Path) -> Weights:
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of itself
        first = str(error).strip().partition("\n")[0].partition(". ")[0]  # PyTorch goes on with ways around it
        rule = "it is not read, since that would run code that the file brings along, or it is damaged."
        raise _refused(path, rule, got=f"{type(error).__name__}: {first}", fix=CONVERT) from error
    if _is_state(found):
        return Weights(dict(found))  # type: ignore[call-overload]
    inside = {key: each for key, each in found.items() if _is_state(each)} if isinstance(found, Mapping) else {}
    if len(inside) == 1:
        (key,) = inside
        return Weights(dict(inside[key]), notes=(f"read the weights in `{key}` of the checkpoint",))
    if inside:
        rule = "the checkpoint holds several sets of weights."
        fix = f"save the one that is meant: torch.save(checkpoint[{next(iter(inside))!r}], 'weights.pt')."
        raise _refused(path, rule, got=", ".join(map(str, inside)), fix=fix)
    held = ", ".join(map(str, list(found)[:5])) if isinstance(found, Mapping) else type(found).__name__
    raise _refused(path, "there is no state_dict in it.", got=held or "nothing", fix=CONVERT)


def _is_state(value: object) -> bool:
    """Whether these are tensors by name, as a `state_dict` has them; extra state may be anything."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and all(isinstance(each, torch.Tensor) or name.endswith("_extra_state") for name, each in value.items())
    )


def _refused(path: Path, rule: str, got: str = "", fix: str = "") -> errors.DataError:
    return errors.DataError(errors.message(str(path), errors.Problem(rule, got=got, fix=fix)))
