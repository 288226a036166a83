"""Tensors on disk as safetensors, and nothing else: nothing that runs when it is read, no path, no time, no host; equal weights are equal files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tacit.errors import ReadError
from tacit.files import write_atomic


def save_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any] | None = None) -> None:
    """Writes `tensors` in the order of their names, with `note` (JSON) in the header. Atomic."""
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    header = {"tacit": json.dumps(note or {}, sort_keys=True)}
    write_atomic(path, save(plain, metadata=header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note of a file that `save_tensors` or anyone else wrote. Raises ReadError on damage."""
    try:
        with safe_open(str(path), framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("tacit", "{}"))
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, note
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ReadError(path, f"these weights cannot be read ({error})", "learn again or restore the file") from error


def check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raises ReadError naming the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise ReadError(path, f"{name} holds {count:,} values that are not finite", "give weights of a training that went well, or learn again")


def load_into(module: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Fills `module` from `path`, every name, shape and value checked. Returns the note."""
    tensors, note = load_tensors(path)
    for prefix, part in module.named_modules():  # what has the sizes of what it learnt
        if hasattr(part, "make_room"):
            inner = f"{prefix}." if prefix else ""
            part.make_room({name.removeprefix(inner): tuple(t.shape) for name, t in tensors.items() if name.startswith(inner)})
    own = module.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    unlike = [n for n in own if n in tensors and own[n].shape != tensors[n].shape]
    if missing or extra or unlike:
        first = (missing or extra or unlike)[0]
        raise ReadError(
            path,
            f"these weights are for another network: {len(missing)} tensors missing, {len(extra)} unknown, {len(unlike)} of another shape (first: {first})",
            "use the model's own config, or learn again",
        )
    check_finite(path, tensors)
    module.load_state_dict(tensors)
    return note
