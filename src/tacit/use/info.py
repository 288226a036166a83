"""What a file, a folder or a run is, and what this machine can do."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tacit.errors import InputError
from tacit.read.dicom import read_header
from tacit.read.dicom_picture import refusal
from tacit.read.folder import find_cases
from tacit.read.nifti import read_volume
from tacit.read.picture import SUFFIXES, read_picture
from tacit.read.slide import open_slide
from tacit.read.tree import kind_of
from tacit.read.walk import is_run
from tacit.run import PACKAGES, versions
from tacit.use.index_upkeep import list_index

NEEDED = [
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "lightning_fabric",
    "cv2",
    "skimage",
    "scipy",
    "pandas",
    "pyarrow",
    "sklearn",
    "shapely",
    "safetensors",
    "lancedb",
    "pydicom",
    "gdcm",
    "nibabel",
    "openslide",
    "tifffile",
    "imagecodecs",
    "imblearn",
    "PIL",
]


def describe(path: Path) -> dict[str, Any]:
    """Facts of a picture (size, spacing, how it was converted), of a folder (what would be read), or of a run."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir() and is_run(path):
        try:
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}/run.json is damaged ({error})") from error
        kept = ("command", "status", "images", "ok", "failed", "glands", "mpp", "mpp_source", "seed", "seconds", "warnings")
        return {"kind": "run", **{k: record[k] for k in kept if k in record}}
    if path.is_dir() and (path / "images.lance").is_dir():
        held = list_index(path)
        return {"kind": "index", **held, "files": len(held["files"])}
    kind = kind_of(path) if path.is_file() else ""
    if kind in ("volume", "dicom", "slide"):
        return _DESCRIBE[kind](path)
    if path.is_dir() or path.suffix.lower() not in SUFFIXES:
        with tempfile.TemporaryDirectory() as folder:
            cases = find_cases(path, unpack_to=Path(folder))
        patients = cases.table["patient"].dropna()
        return {
            "kind": "images",
            "images": len(cases),
            "skipped": len(cases.skipped),
            "patients": int(patients.nunique()) or "not known",
            "first": cases.table["path"].iloc[0],
        }
    image = read_picture(path)
    return {
        "kind": image.modality,
        "height_px": image.shape[0],
        "width_px": image.shape[1],
        "um_per_px": f"{image.mpp:.4g} (from the file)" if image.mpp else "not stated by the file; give --mpp, or it is estimated",
        "history": "; ".join(image.history),
    }


def _volume(path: Path) -> dict[str, Any]:
    image = read_volume(path)
    return {
        "kind": "volume",
        "slices_rows_columns": "×".join(map(str, image.shape)),
        "spacing_mm": "×".join(f"{s:.4g}" for s in image.spacing_mm or ()),
        "type": str(image.pixels.dtype),
        "values": f"{image.pixels.min()} … {image.pixels.max()}",
        "history": "; ".join(image.history),
    }


def _dicom(path: Path) -> dict[str, Any]:
    """Facts of a DICOM file that tell nothing of the patient."""
    slices = read_header(path)
    first = slices[0]
    why = refusal(path)
    return {
        "kind": "dicom",
        "frames": len(slices),
        "height_px": first.shape[0],
        "width_px": first.shape[1],
        "spacing_mm": "×".join(f"{s:.4g}" for s in first.spacing) if first.spacing else "not stated",
        "position_mm": ", ".join(f"{p:.4g}" for p in first.position) if first.position else "not stated",
        "slope_intercept": f"{first.slope:g}, {first.intercept:g}",
        "pixels": "compressed" if first.offset < 0 else "uncompressed",
        **{k: v for k, v in first.header.items() if k not in ("StudyDate", "SeriesTime")},
        "as a picture": "; ".join(read_picture(path).history) if why is None else why.reason,
    }


def _slide(path: Path) -> dict[str, Any]:
    with open_slide(path) as slide:
        return {
            "kind": "slide",
            "levels": ", ".join(f"{h}×{w}" for h, w in slide.levels),
            "um_per_px": f"{slide.mpp:.4g} (from the file)" if slide.mpp else "not stated by the file; give --mpp",
        }


_DESCRIBE = {"volume": _volume, "dicom": _dicom, "slide": _slide}


def health() -> tuple[dict[str, Any], bool]:
    """Facts of the installation and whether every needed package imports."""
    import torch

    from tacit.parts.decoder import declare_torchvision_operators

    declare_torchvision_operators()
    rows: dict[str, Any] = {name: version for name, version in versions().items() if name in ("python", *PACKAGES)}
    healthy = True
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            rows[name], healthy = f"cannot be imported: {str(error).splitlines()[0]}", False
    rows["cores"] = os.cpu_count()
    rows["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)"
    rows["bf16 on this cpu"] = "native" if torch.backends.mkldnn.is_available() and _native_bf16() else "emulated (slower)"
    rows["free disk here"] = f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"
    rows["healthy"] = healthy
    return rows, healthy


def _native_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
