"""A DICOM series beside pydicom + numpy and beside SimpleITK, a compressed NIfTI beside nibabel; one thread, files in the page cache.

    python benchmarks/reading.py          prints a table, writes benchmarks/results/reading.json

The series: 200 slices of 512 × 512, 16 bit, uncompressed, one file each, with the header of a CT scanner's axial slice. Every way ends in one array
of Hounsfield units in order of position. Memory is the peak resident size of a process that reads the series, less that of
one that only imports. The NIfTI: 150 × 256 × 256 int16 of the same body; ours checks the CRC, nibabel does not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from interleaved import ROOT, one_thread, race, write
from tacit.image import Image
from tacit.read.dicom import read_header_by_pydicom, read_headers
from tacit.read.nifti import read_volume, write_nifti
from tacit.read.series import find_series
from tacit.read.volume import read_series

sys.path.insert(0, str(ROOT / "tests"))
SLICES, SIDE = 200, 512


def ours(folder: Path) -> np.ndarray:
    return read_series(find_series(read_headers(sorted(folder.iterdir()))[0])[0]).pixels


def by_pydicom(folder: Path) -> np.ndarray:
    import pydicom

    slices = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    return np.stack([(s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept)).astype(np.int16) for s in slices])


def by_itk(folder: Path) -> np.ndarray:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute())


def by_nibabel(path: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)


def peak(folder: Path, reads: bool) -> int:
    """Peak resident bytes of a fresh process that reads the series, or that imports all that it would."""
    import_all = "import pydicom, tacit.read.volume, tacit.read.series"
    one = f"sorted(Path({str(folder)!r}).iterdir())" + ("" if reads else "[:1]")
    job = f"from pathlib import Path\n{import_all}\nfrom tacit.read.dicom import read_headers\n"
    job += f"tacit.read.volume.read_series(tacit.read.series.find_series(read_headers({one})[0])[0])\n"
    job += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    return 1024 * int(subprocess.run([sys.executable, "-c", job], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    from scans import body, write_series

    one_thread()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "series"
        few = body(20, SIDE, mm=5.0)
        volume = np.concatenate([few] * (SLICES // len(few)))
        scanner = {
            "Manufacturer": "SIEMENS",
            "StudyDate": "20200305",
            "KVP": 110,
            "ConvolutionKernel": "B41s",
            "SliceLocation": 0.0,
            "WindowCenter": [50, -600],
        }
        write_series(folder, volume, mm=1.0, **scanner)
        assert np.array_equal(ours(folder), volume) and np.array_equal(by_pydicom(folder), volume) and np.array_equal(by_itk(folder), volume)
        files = sorted(folder.iterdir())
        assert read_headers(files)[0] == [s for f in files for s in read_header_by_pydicom(f)]
        rows = {
            "DICOM series, beside pydicom + numpy": race(lambda: ours(folder), lambda: by_pydicom(folder), calls=1),
            "its headers alone, beside pydicom": race(lambda: read_headers(files), lambda: [read_header_by_pydicom(f) for f in files], calls=1),
            "DICOM series, beside SimpleITK": race(lambda: ours(folder), lambda: by_itk(folder), calls=1),
        }
        grown = peak(folder, True) - peak(folder, False)
        packed = Path(place) / "a.nii.gz"
        nifti = np.ascontiguousarray(np.concatenate([few[:, ::2, ::2]] * 8)[:150])
        write_nifti(packed, Image(nifti, "dhw", (2.0, 1.0, 1.0)))
        assert np.array_equal(read_volume(packed).pixels, nifti) and np.array_equal(by_nibabel(packed).T, nifti)
        rows["nii.gz with its CRC checked, beside nibabel"] = race(lambda: read_volume(packed), lambda: by_nibabel(packed), calls=1)
        memory = {"volume_bytes": volume.nbytes, "peak_grown_bytes": grown, "peak_over_volume": round(grown / volume.nbytes, 3)}
    print(memory)
    write("reading", rows, ["pydicom", "SimpleITK", "nibabel", "imagecodecs"], memory=memory)


if __name__ == "__main__":
    main()
