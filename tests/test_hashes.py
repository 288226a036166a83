from __future__ import annotations

import numpy as np
from PIL import Image

from tacit.phantom import tissue
from tacit.prepare import hashes as module
from tacit.prepare.hashes import as_hex, distance, hashes

PEERS = {"phash": "phash", "ahash": "average_hash", "dhash": "dhash", "whash": "whash"}


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [tissue.draw(np.random.default_rng(i), (200, 300), 1.0).picture for i in range(3)]
    for shape in ((512, 512), (64, 64), (100, 33), (700, 300), (300, 700), (8, 8), (9, 31), (130, 128)):
        made.append(rng.integers(0, 256, shape, dtype=np.uint8))
        made.append(np.full(shape, 7, np.uint8))
        half_black = rng.integers(0, 256, shape, dtype=np.uint8)
        half_black[: shape[0] * 2 // 3] = 0  # most blocks equal: rounding decides
        made.append(half_black)
        stripe = np.zeros(shape, np.uint8)
        stripe[shape[0] // 3 :, shape[1] // 4 : shape[1] // 2] = 200
        made.append(stripe)
    return made


def test_all_four_hashes_are_those_of_imagehash_bit_by_bit() -> None:
    import imagehash

    for picture in pictures():
        found = hashes(picture)
        for name, theirs in PEERS.items():
            assert as_hex(found[name]) == str(getattr(imagehash, theirs)(Image.fromarray(picture))), (name, picture.shape)


def test_real_slices_hash_alike_too(data) -> None:
    import imagehash

    from tacit.read.nifti import read_volume

    volume = read_volume(data / "covid-ct-md" / "nifti" / "P001.nii.gz").pixels[::12]
    for hu in volume:
        picture = np.clip((hu.astype(float) + 1000) / 1400 * 255, 0, 255).astype(np.uint8)
        for name, theirs in PEERS.items():
            assert as_hex(hashes(picture)[name]) == str(getattr(imagehash, theirs)(Image.fromarray(picture)))


def test_the_short_way_of_the_wavelet_hash_equals_the_long_one() -> None:
    for picture in pictures():
        grey = module.to_grey(picture)
        side = max(2 ** int(np.log2(min(grey.shape))), 8)
        assert module._whash(grey) == module._long_whash(module._square(grey, side))


def test_distance_counts_bits() -> None:
    assert distance(0b1011, 0b0010) == 2 and distance(0, 2**64 - 1) == 64 and as_hex(255) == "00000000000000ff"
