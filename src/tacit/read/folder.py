"""A file, folder, glob, zip or list → `Cases`: what is an input image, and what only lies beside one.

Masks are recognised by their folder (`masks`, `Annotation` …) or their name (`*_anno`, `*_mask` …) and never become input.
The layouts of GlaS (`train_1.bmp`, `train_1_anno.bmp`, `Grade.csv`) and CRAG (`train/Images`, `train/Annotation`) are
read as they are. A DICOM file is input where it holds one radiograph or photograph; slices of series are left to the verbs that read series.
"""

from __future__ import annotations

import glob
import io
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import InputError, ReadError
from tacit.read.dicom_picture import refusal
from tacit.read.facts import text_columns
from tacit.read.picture import SUFFIXES
from tacit.read.slide import is_slide
from tacit.read.tree import kind_of
from tacit.read.walk import is_printable, is_run, walk

if TYPE_CHECKING:
    import pandas as pd

MASK_FOLDERS = frozenset(
    [
        "mask",
        "masks",
        "annotation",
        "annotations",
        "label",
        "labels",
        "labelcol",
        "truth",
        "groundtruth",
        "ground_truth",
        "ground-truth",
        "gt",
        "manual",
        "1st_manual",
        "2nd_manual",
        "seg",
        "segmentation",
        "segmentations",
        "overlay",
        "overlays",
        "probability",
    ]
)
MASK_ENDINGS = ("_anno", "_annotation", "_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_truth", "_instances")
LIST_SUFFIXES = (".csv", ".parquet")
MOST_UNZIPPED = 50 * 2**30  # bytes
MOST_LABELS = 20_000
A_MASK, NO_PICTURE = "an annotation, not an image", "not a picture"
KNOWN = f"pictures end in {', '.join(SUFFIXES)}, or are DICOM radiographs or photographs (.dcm, or any name)"
MOST_RATIO = 200  # uncompressed : compressed, of one member; pictures stay far below


def find_cases(source: str | Path, *, unpack_to: Path | None = None, slides: bool = False) -> Cases:
    """Every input image that `source` names, sorted by path.

    source: a picture, a folder (searched through, symbolic links to folders not followed), a glob, a zip (unpacked below
    `unpack_to`), or a CSV/Parquet list with a column `path` (or `wsi`) and optionally `patient`, `label`, `split`, `mpp`.
    slides: whole slides are images too. Raises InputError when nothing usable is there.
    """
    path = Path(source)
    if is_pattern(source):
        return _from_files([Path(p) for p in sorted(glob.glob(str(source), recursive=True))], f"the pattern {source}", slides)
    if not path.exists():
        raise InputError(f"{source} does not exist; INPUT is a picture, a folder, a glob in quotes, a zip, or a CSV/Parquet list")
    if path.is_dir() and is_run(path):
        if not (path / "images").is_dir():
            raise InputError(f"{path} is the OUT of a run, whose pictures are answers; give the folder of the images")
        path = path / "images"
    if path.is_dir():
        files, problems = walk(path)
        return _with_grades(_from_files(files, f"the folder {path}", slides, below=path, problems=problems), path)
    if path.suffix.lower() in LIST_SUFFIXES:
        return _from_list(path, slides)
    if path.suffix.lower() == ".zip":
        if unpack_to is None:
            raise InputError(f"{path} is a zip and there is no folder to unpack it to; unpack it first")
        return find_cases(unpack(path, unpack_to), slides=slides)
    if (why := _why_not(path, slides)) is not None:
        raise InputError(f"{path} has the suffix {path.suffix or '(none)'}; {KNOWN}" if why.remedy == KNOWN else str(why))
    return Cases.of([path])


def named_files(source: str | Path) -> Iterator[Path]:
    """INPUT itself, then each file that it names: those of a glob, the rows of a list, all below a folder. Members of a zip are none."""
    path = Path(source)
    if is_pattern(source):
        yield from (p for p in map(Path, glob.iglob(str(source), recursive=True)) if p.is_file())
        return
    yield path
    if path.is_dir():
        yield from walk(path)[0]
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from (path.parent / str(p) for p in read_list(path)["path"])


def is_pattern(source: str | Path) -> bool:
    """Whether a name is a glob and not a file."""
    return any(sign in str(source) for sign in "*?[") and not Path(source).exists()


def is_mask(path: Path, below: Path | None = None) -> bool:
    """Whether a picture is named or filed as an annotation; `below` hides the folders above the one being searched."""
    folders = path.relative_to(below).parts[:-1] if below and path.is_relative_to(below) else path.parts[-2:-1]
    stem = path.stem.lower()
    return any(f.lower() in MASK_FOLDERS or f.lower().replace("-", "_").split("_")[-1] in MASK_FOLDERS for f in folders) or stem.endswith(MASK_ENDINGS)


def _from_files(files: list[Path], where: str, slides: bool, *, below: Path | None = None, problems: Iterable[ReadError] = ()) -> Cases:
    pictures, skipped = [], [(str(p.path), p.reason) for p in problems]
    for path in files:
        if not is_printable(path):
            skipped.append((repr(str(path)), "the file name is not UTF-8; rename it"))
        elif (why := _why_not(path, slides)) is not None:
            if path.is_file():
                skipped.append((str(path), why.reason if why.remedy == KNOWN else f"{why.reason}: {why.remedy}"))
        elif is_mask(path, below):
            skipped.append((str(path), A_MASK))
        else:
            pictures.append(path)
    if not pictures:
        whys = Counter(why for _, why in skipped if why != NO_PICTURE)
        masks = whys.pop(A_MASK, 0)
        note = f"; {masks} annotation files are there, which are never input" if masks else ""
        note += "".join(f"; {count} × {why}" for why, count in whys.most_common(3))
        raise InputError(f"no images in {where}{note}; {KNOWN}")
    return Cases.of(pictures, tuple(skipped))


def _why_not(path: Path, slides: bool) -> ReadError | None:
    """Why a file is no input, by its name and, where it is DICOM, by its header; None where it is one, or seems to be one and is damaged."""
    if path.suffix.lower() in SUFFIXES or (slides and is_slide(path)):
        return None
    if kind_of(path) == "dicom":
        return refusal(path)
    return ReadError(path, NO_PICTURE, KNOWN)


def pictures_of_manifest(table: pd.DataFrame, place: Path, *, slides: bool) -> pd.DataFrame:
    """The rows of an audit's manifest that are pictures, DICOM or not (and slides, where asked for). Raises InputError where none is."""
    kinds = table["kind"].isin(("picture", "slide") if slides else ("picture",))
    shown = [kind == "dicom" and refusal(place.parent / str(path)) is None for kind, path in zip(table["kind"], table["path"], strict=True)]
    table = table[kinds | np.array(shown, bool)]
    if table.empty:
        raise InputError(f"the manifest {place} holds no pictures{' and no slides' if slides else ''} that are kept")
    return table


def read_list(path: Path) -> pd.DataFrame:
    """A CSV or Parquet list or an audit's manifest with a column `path`; rows that say keep=false are left out. Raises InputError."""
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path, dtype=text_columns(path))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"the list {path} cannot be read: {str(error).splitlines()[0]}") from error
    column = next((c for c in ("path", "wsi", "file", "image") if c in table.columns), None)
    if column is None or table.empty:
        raise InputError(f"the list {path} needs a column 'path' with at least one row; it has {list(table.columns)}")
    if "keep" in table.columns:
        table = table[table["keep"].astype(str).str.lower().isin(("1", "true", "yes"))]
        if table.empty:
            raise InputError(f"the list {path} keeps no row: its column 'keep' is false throughout")
    return table.rename(columns={column: "path"})


def _from_list(path: Path, slides: bool) -> Cases:
    import pandas as pd

    table = read_list(path)
    if "kind" in table.columns:  # a manifest: this job takes its pictures
        table = pictures_of_manifest(table, path, slides=slides)
    paths = [p if p.is_absolute() else path.parent / p for p in map(Path, table["path"].astype(str))]
    if "mpp" in table:
        numbers = pd.to_numeric(table["mpp"], errors="coerce")
        wrong = table["mpp"].notna() & ~((numbers > 0.01) & (numbers < 100))
        if wrong.any():
            raise InputError(f"the list {path} has mpp {table['mpp'][wrong].iloc[0]!r}: expected µm per pixel between 0.01 and 100, or nothing")
        table = table.assign(mpp=numbers)
    known = {c: table[c].where(table[c].notna(), None).tolist() for c in ("patient", "label", "split", "mpp") if c in table}
    return Cases.of(paths, (), **known)


def unpack(path: Path, folder: Path) -> Path:
    """The zip's pictures and tables below `folder`. Refuses members that would land elsewhere, and bombs."""
    target = folder / path.stem
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            if sum(m.file_size for m in members) > MOST_UNZIPPED:
                raise InputError(f"{path} would unpack to more than {MOST_UNZIPPED >> 30} GiB; unpack it yourself and pass the folder")
            for member in members:
                inner = PurePosixPath(member.filename)
                if inner.is_absolute() or ".." in inner.parts or "\\" in member.filename:
                    raise InputError(f"{path} holds the member {member.filename!r}, which would be written outside; it was not unpacked")
                if member.file_size > MOST_RATIO * max(member.compress_size, 1) and member.file_size > 2**24:
                    raise InputError(f"{path} holds {member.filename!r}, which unpacks {MOST_RATIO}-fold or more: a zip bomb; not unpacked")
            for member in members:
                place = target / member.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, place.open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except OSError as error:
        raise InputError(f"{path} cannot be unpacked to {target} ({error.strerror or error}); unpack it yourself and pass the folder") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path} is not a whole zip file ({error}); download or pack it again") from error
    if not target.exists():
        raise InputError(f"{path} is an empty zip: no images in it")
    return target


def _with_grades(cases: Cases, folder: Path) -> Cases:
    """Patient and grade from a GlaS `Grade.csv` beside or above the images (its original has CR-only line ends)."""
    table = read_grades(folder)
    if table is None:
        return cases
    known = table.set_index("name")
    stems = [Path(p).stem for p in cases.table["path"]]
    filled = cases.table.copy()
    for column in ("patient", "label"):
        values = [known[column].get(s) for s in stems]
        filled[column] = [old if old is not None else new for old, new in zip(filled[column], values, strict=True)]
    return Cases(filled, cases.skipped)


def read_grades(folder: Path) -> pd.DataFrame | None:
    """The table name, patient, label of a `Grade.csv` in `folder` or its parent; None where there is none."""
    import pandas as pd

    places = [p / n for p in (folder, folder.parent) for n in ("Grade.csv", "grade.csv")]
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        return None
    text = place.read_bytes().decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    try:
        table = pd.read_csv(io.StringIO(text), skipinitialspace=True, dtype=str)
    except (pd.errors.EmptyDataError, pd.errors.ParserError):
        return None
    columns = {c.strip().lower(): c for c in table.columns}
    name = columns.get("name")
    patient = next((c for low, c in columns.items() if "patient" in low), None)
    grade = next((c for low, c in columns.items() if "grade" in low or low in ("label", "class")), None)
    if name is None:
        return None

    def column(of: str | None) -> list[str | None]:
        return [v.strip() if isinstance(v, str) and v.strip() else None for v in (table[of] if of else [None] * len(table))]

    found = pd.DataFrame({"name": column(name), "patient": column(patient), "label": column(grade)}, dtype="object")
    return found.dropna(subset="name").drop_duplicates("name").reset_index(drop=True)


def read_labels(path: Path) -> dict[str, str]:
    """name → class from a CSV or Parquet table: its first column names files, cases, series or patients, a column class, label or grade the class.

    Raises InputError where there is no such column or a name has two classes.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path, dtype=str)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"the labels {path} cannot be read: {str(error).splitlines()[0]}") from error
    low = {str(c).strip().lower(): c for c in table.columns}
    label = next((low[n] for n in ("class", "label", "grade", "diagnosis") if n in low), None)
    name = next((low[n] for n in ("case", "path", "file", "image", "name", "series", "patient") if n in low), None)
    if label is None or name is None:
        raise InputError(f"the labels {path} need a column case (or path, name, patient) and a column class (or label); it has {list(table.columns)}")
    found: dict[str, str] = {}
    for key, value in zip(table[name], table[label], strict=True):
        if pd.isna(key) or pd.isna(value):
            continue
        key, value = Path(str(key)).name, str(value)
        if found.setdefault(key, value) != value:
            raise InputError(f"the labels {path} give {key!r} two classes: {found[key]!r} and {value!r}")
    return found


def find_truth(folder: Path, names: list[str], *, called: str = "the truth folder", like: str = "a prediction") -> dict[str, Path]:
    """name → mask file below `folder`, matched by stem with or without an annotation ending. called, like: what the folder is and who bears the names, for errors. Raises InputError if none fits."""
    if not folder.is_dir():
        raise InputError(f"{called} {folder} does not exist or is no folder")
    by_stem: dict[str, Path] = {}
    for path in walk(folder)[0]:
        if path.suffix.lower() in SUFFIXES:
            stem = path.stem
            bare = next((stem[: -len(e)] for e in MASK_ENDINGS if stem.lower().endswith(e)), None)
            if bare is not None:
                by_stem[bare] = path
            elif stem not in by_stem or is_mask(path, folder):
                by_stem[stem] = path
    found = {name: by_stem[name] for name in names if name in by_stem}
    if not found:
        few = ", ".join(sorted(by_stem)[:3]) or "no pictures at all"
        raise InputError(f"{called} {folder} holds no mask named like {like} ({', '.join(names[:3])} …), but {few} …")
    return found


def count_masks(folder: Path) -> int:
    """How many true masks lie below `folder`: those named or filed as annotations, or all pictures where none is."""
    pictures = [p for p in walk(folder)[0] if p.suffix.lower() in SUFFIXES]
    named = [p for p in pictures if p.stem.lower().endswith(MASK_ENDINGS) or is_mask(p, folder)]
    return len(named or pictures)


def read_mask(path: Path) -> NDArray[np.int32]:
    """A label map (h, w) int32 from a PNG, BMP or TIFF; colours become labels. Raises ReadError on damage."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with Pillow.open(path) as file:
            values = np.asarray(file.convert("RGB") if file.mode in ("RGBA", "CMYK", "RGB") else file.convert("L") if file.mode == "LA" else file)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, Pillow.DecompressionBombError) as error:
        raise ReadError(path, f"this mask cannot be read ({str(error)[:120]})") from error
    if values.ndim == 3:
        values = values.astype(np.int64) @ [65536, 256, 1]
        names, flat = np.unique(values, return_inverse=True)
        values = (flat + int(names[0] != 0)).reshape(values.shape)
    if not np.isfinite(values).all():
        raise ReadError(path, "this mask has pixels that are not finite", "give whole numbers, 0 for background")
    labels = values.astype(np.int32)
    if len(np.unique(labels)) > MOST_LABELS:
        raise ReadError(path, f"this has more than {MOST_LABELS} values and looks like a picture, not a mask", "give the folder of the masks")
    return labels
