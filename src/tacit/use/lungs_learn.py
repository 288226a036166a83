"""The U-Net of `tacit lungs`: learnt on the volumes of a run, from a person's masks or from those of morphology; kept; loaded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256
from tacit.image import Image
from tacit.learn.lung_unet import LungUnet, LungUnetConfig
from tacit.learn.workshop import Workshop
from tacit.prepare.lung import LungConfig, find_lungs
from tacit.prepare.space import canonical
from tacit.read.nifti import MHA_SUFFIXES, NIFTI_SUFFIXES, read_volume
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.model import load_model, save_model
from tacit.use.tracking import curves_of
from tacit.use.volumes import Found, each_volume

LUNG_METHODS: dict[str, Any] = {"lung-unet": LungUnet}
CARD = """# A Tacit model

A U-Net for the lungs of chest CTs, learnt on {images} volumes at {mm:.3g} mm a pixel, taught by {teacher}.
Research use only, not a medical device.
"""


class LungsConfig(LungConfig):
    """Every setting of `tacit lungs`: those of morphology, and under `unet.` those of the network."""

    unet: LungUnetConfig = LungUnetConfig()


def check_choice(learn: bool, masks: str | Path | None, model: str | Path | None, seed: int, chosen: dict[str, Any]) -> None:
    """Refuses choices that do not go together. Raises UsageError."""
    if learn and model:
        raise UsageError("--learn and --model: a U-Net is either learnt now or taken from an earlier run; give one of them")
    if masks and not learn:
        raise UsageError("--masks names masks to learn from, so it wants --learn too")
    if masks and not Path(masks).is_dir():
        raise UsageError(f"--masks {masks}: no such folder; wanted is one with a mask named as each volume, for example scan1.nii.gz")
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected 0 or more")
    if "unet" in chosen and not learn:
        raise UsageError("settings under unet. are those of learning, so they want --learn" + ("; --model brings its own" if model else ""))


def learn_unet(found: list[Found], masks: str | Path | None, c: LungsConfig, run: Run, *, seed: int, device: str) -> LungUnet:
    """A U-Net taught on at most `c.unet.volumes` of the volumes and kept in OUT/model.

    masks None: nothing but the volumes themselves is read, morphology teaches. Raises InputError where no volume has a mask.
    """
    network = LungUnet(c.unet).to(device)
    shop = Workshop(seed, device, run.folder / "checkpoints", curves_of(run), run.say)
    order = np.random.default_rng([seed, 78]).permutation(len(found))[: c.unet.volumes]
    drawn = [found[i] for i in sorted(order.tolist())]
    taught: list[str] = []
    if masks is None:
        teacher = "masks that morphology made of them; no mask and no label of a person took part"
        pairs = _pairs(drawn, lambda one, image: find_lungs(image, c).mask, run, taught)
    else:
        teacher = "masks that were given with them"
        pairs = _pairs(drawn, lambda one, image: _given_mask(Path(masks), one.name, image, run), run, taught)
    try:
        network.fit(pairs, shop)
    except InputError as error:
        if taught:
            raise
        first = f"; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}" if run.failures else ""
        raise InputError(f"no volume has a mask to learn from{f' in {masks}' if masks else ''}{first}") from error
    run.record |= {"learnt_from": len(taught), "seed": seed, "device": device}
    facts = {"images": len(taught), "seed": seed, "data": run.record["data"], "teacher": "given masks" if masks else "morphology"}
    save_model(run.folder / "model", "lung-unet", network, facts, CARD.format(images=len(taught), mm=c.unet.mm_per_px, teacher=teacher))
    return network


def load_unet(model: str | Path, device: str) -> LungUnet:
    """The U-Net that an earlier run kept, on `device`. Raises MissingError or UsageError where there is none."""
    network: LungUnet = load_model(model, LUNG_METHODS)[0]
    return network.to(device)


def hashes_of(found: list[Found], masks: str | Path | None) -> dict[str, str]:
    """Path → SHA-256 of every file that is read: those of the volumes, and of the masks of their names."""
    paths = [p for one in found for p in one.paths]
    if masks:
        paths += [p for one in found if (p := _mask_path(Path(masks), one.name))]
    hashes: dict[str, str] = {}
    for path in paths:
        try:
            hashes[str(path)] = sha256(path)
        except OSError:
            hashes[str(path)] = "unreadable"  # it is named when it is read
    return hashes


def no_lungs(path: Path, error: InputError) -> ReadError:
    """The row of failures.csv for a volume in which no lungs were found."""
    return ReadError(path, str(error).split(": ", 1)[-1], "look at the picture; give a chest CT in Hounsfield units")


def _pairs(
    found: list[Found], mask_of: Callable[[Found, Image], NDArray[np.uint8] | None], run: Run, taught: list[str]
) -> Iterator[tuple[Image, NDArray[np.uint8]]]:
    """Volumes with their masks, one at a time; `taught` collects their names, failures become rows."""
    with Bar("reading") as bar:
        for one, image in each_volume(found, run, bar.advance):
            try:
                mask = mask_of(one, image)
            except ReadError as error:
                run.fail(error.path, error)
                continue
            except InputError as error:
                run.fail(one.paths[0], no_lungs(one.paths[0], error))
                continue
            if mask is not None:
                taught.append(one.name)
                yield image, mask


def _mask_path(masks: Path, name: str) -> Path | None:
    places = [masks / f"{name}{suffix}" for suffix in (*reversed(NIFTI_SUFFIXES), *MHA_SUFFIXES)]
    return next((p for p in places if p.is_file()), None)


def _given_mask(masks: Path, name: str, image: Image, run: Run) -> NDArray[np.uint8] | None:
    """The mask of a volume in the volume's axes, 0/1; None where there is none. Raises ReadError for one that does not fit."""
    path = _mask_path(masks, name)
    if path is None:
        run.say(f"{name}: no mask of this name in {masks}, so it is not learnt from")
        return None
    (there, back), mask = canonical(image), canonical(read_volume(path))[0]
    if mask.pixels.shape != there.pixels.shape:
        raise ReadError(path, f"the mask has {mask.shape} voxels where its volume has {there.shape} (slices, rows, columns)", "resample it to its volume")
    if mask.affine is not None and there.affine is not None and not np.allclose(mask.affine, there.affine, atol=0.5):
        raise ReadError(path, "the mask lies elsewhere than its volume, or has another spacing, by their headers", "save it on its volume's grid")
    if image.spacing_mm is None or not mask.pixels.any():
        raise ReadError(path, "the mask is empty" if image.spacing_mm else "its volume states no spacing", "leave it out of the folder of masks")
    return np.ascontiguousarray(back((mask.pixels > 0).astype(np.uint8)))
