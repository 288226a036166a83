"""Which processor works, with how many threads."""

from __future__ import annotations

import cv2

from tacit.errors import UsageError


def prepare_device(device: str, threads: int) -> None:
    """Sets the threads of torch and OpenCV and checks that the device is there. Raises UsageError."""
    import torch

    if threads < 1:
        raise UsageError(f"--threads {threads}: expected 1 or more")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if device not in ("cpu", "cuda", "auto") and not device.startswith("cuda:"):
        raise UsageError(f"--device {device!r} is unknown; known are cpu, cuda, cuda:N, auto")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: no CUDA device is visible to torch {torch.__version__}; use --device cpu")
