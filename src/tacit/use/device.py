"""Which processor works, with how many threads."""

from __future__ import annotations

import cv2

from tacit.errors import UsageError


def prepare_device(device: str, threads: int) -> str:
    """Sets the threads of torch and OpenCV; gives torch's name of the device, checked to be there. Raises UsageError."""
    import torch

    if threads < 1:
        raise UsageError(f"--threads {threads}: expected 1 or more")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if device not in ("cpu", "cuda", "auto") and not device.startswith("cuda:"):
        raise UsageError(f"--device {device!r} is unknown; known are cpu, cuda, cuda:N, auto")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is visible to torch {torch.__version__}; use --device cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
