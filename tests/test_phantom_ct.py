"""Drawn CTs: exact truth, splits that never meet, a place in the patient, files that read back, and no class for the simplest scores."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tacit
from tacit.config import build
from tacit.errors import ConfigError, InputError, UsageError
from tacit.phantom import ct, generator
from tacit.phantom.ct_config import CONTINUOUS, CtConfig, drawn_parameters
from tacit.phantom.ct_grid import Grid
from tacit.phantom.ct_lesion import CONSOLIDATION, CRAZY_PAVING, GROUND_GLASS, Lesions
from tacit.phantom.ct_tubes import Tubes, paint, tree
from tacit.prepare.lung import find_lungs
from tacit.prepare.space import canonical
from tacit.read.dicom import read_headers
from tacit.read.dicom_write import write_dicom_series
from tacit.read.nifti import read_volume, write_nifti
from tacit.read.series import find_series
from tacit.read.volume import read_series
from tacit.use.draw_ct import class_of, draw_cts, image_of

SMALL = {"spacing_mm": (9.0, 5.0, 5.0)}
TINY = ["matrix=56", "slice_mm=[11.0,12.0]"]


def scanned(seed: int, label: str, **options: object) -> ct.Scan:
    return ct.draw_scan(np.random.default_rng(seed), label=label, **(SMALL | options))


def test_a_seed_gives_one_phantom_and_another_seed_another() -> None:
    one, again, other = scanned(3, "COVID"), scanned(3, "COVID"), scanned(4, "COVID")
    assert one.parameters == again.parameters and one.grid == again.grid
    assert all(np.array_equal(getattr(one, n), getattr(again, n)) for n in ("hu", "lungs", "lesions"))
    assert one.parameters != other.parameters and (one.hu.dtype, one.lungs.dtype, one.lesions.dtype) == (np.int16, np.uint8, np.uint8)


@pytest.mark.parametrize(
    ("seed", "label", "split"), [(1, "COVID", "teach"), (2, "COVID", "fresh"), (1, "CAP", "teach"), (5, "CAP", "fresh"), (3, "lesion", "teach")]
)
def test_a_phantom_differs_from_its_twin_without_lesions_exactly_inside_the_mask(seed: int, label: str, split: ct.Split) -> None:
    patient = ct.draw_patient(np.random.default_rng(seed), label=label, split=split)
    grid = ct.grid_of(patient, spacing_mm=(6.0, 3.0, 3.0))
    sick, twin = ct.scan(patient, grid), ct.scan(ct.without_lesions(patient), grid)
    assert np.array_equal(sick.hu != twin.hu, sick.lesions > 0) and sick.lesions.any() and not twin.lesions.any()
    assert (sick.hu >= twin.hu).all() and np.array_equal(sick.lungs, twin.lungs) and (sick.lungs[sick.lesions > 0] > 0).all()
    denser = (sick.hu.astype(int) - twin.hu)[sick.lesions > 0]
    assert np.median(denser) > 50


def test_a_part_of_the_grid_is_drawn_as_the_whole_is() -> None:
    patient = ct.draw_patient(np.random.default_rng(8), label="CAP")
    grid = ct.grid_of(patient, spacing_mm=(8.0, 5.0, 5.0))
    whole = ct.scan(patient, grid)
    k = int((whole.lesions > 0).sum((1, 2)).argmax())
    alone = ct.scan(patient, replace(grid, shape=(1, *grid.shape[1:]), origin_mm=(grid.z(k), *grid.origin_mm[1:])))
    assert np.array_equal(alone.lesions[0], whole.lesions[k]) and np.abs(alone.hu[0].astype(int) - whole.hu[k]).max() <= 1


def test_fresh_parameters_are_never_drawn_to_teach() -> None:
    drawn = {s: [drawn_parameters(np.random.default_rng([i, len(s)]), CtConfig(), s) for i in range(400)] for s in ("teach", "fresh")}
    assert {"cage_width", "lung_hu", "noise_hu", "covid_share", "ground_glass_hu", "consolidation_hu", "lung_height", "blur_mm"} <= set(CONTINUOUS)
    for name in CONTINUOUS:
        teach, fresh = (np.array([p[name] for p in drawn[s]]) for s in ("teach", "fresh"))
        low, high = getattr(CtConfig(), name)
        if low == high:  # one number, drawn by neither
            assert (teach == low).all() and (fresh == low).all()
            continue
        assert ((fresh < teach.min()) | (fresh > teach.max())).all(), name
        assert (fresh < teach.min()).any() and (fresh > teach.max()).any() and fresh.min() >= low and fresh.max() <= high
        assert teach.max() - teach.min() > 0.5 * (high - low)


def test_covid_lies_in_both_lungs_and_cap_in_one_lobe() -> None:
    for seed in range(2):
        covid, cap, normal = (scanned(seed, label) for label in ("COVID", "CAP", "normal"))
        assert {1, 2} == set(np.unique(covid.lungs[covid.lesions > 0])) and set(np.unique(covid.lesions)) <= {0, GROUND_GLASS, CRAZY_PAVING}
        assert len(np.unique(cap.lungs[cap.lesions > 0])) == 1 and set(np.unique(cap.lesions)) == {0, CONSOLIDATION}
        assert not normal.lesions.any() and normal.lesion_share == 0
        assert 0.5 < covid.lesion_share / covid.parameters["covid_share"] < 2 and 0.5 < cap.lesion_share / cap.parameters["cap_share"] < 2


def test_a_heart_with_fat_keeps_the_lungs_from_the_front() -> None:
    plain = ct.draw_scan(np.random.default_rng(4), label="normal", spacing_mm=(8.0, 4.0, 4.0))
    fat = build(CtConfig, {"heart_fat": [30.0, 30.0]})
    padded = ct.draw_scan(np.random.default_rng(4), label="normal", config=fat, spacing_mm=(8.0, 4.0, 4.0))
    left = build(CtConfig, {"heart_left": [0.2, 0.2]})
    reaching = ct.draw_scan(np.random.default_rng(4), label="normal", config=left, spacing_mm=(8.0, 4.0, 4.0))
    lost = (plain.lungs > 0) & (padded.lungs == 0)
    assert not ((padded.lungs > 0) & (plain.lungs == 0)).any() and lost.any()
    slices, rows, _ = np.nonzero(lost)
    whole = np.nonzero(plain.lungs)
    assert rows.mean() < np.quantile(whole[1], 0.25) and slices.mean() < np.median(whole[0])  # in front, and low
    assert (plain.lungs[lost] == 2).mean() > 0.55  # more on the left
    kept = (padded.lungs > 0) & ~lost
    assert np.median(padded.hu[lost]) == pytest.approx(-100, abs=60) and np.median(np.abs(padded.hu[kept].astype(int) - plain.hu[kept])) < 30
    gone = (plain.lungs > 0) & (reaching.lungs == 0)
    assert gone.any() and (plain.lungs[gone] == 2).mean() > 0.9


def test_dense_glass_is_denser_and_drawn_on_request_alone() -> None:
    wish = build(CtConfig, {"dense_glass": 1.0, "dense_glass_hu": [-420.0, -400.0]})
    some = ct.draw_patient(np.random.default_rng(2), label="COVID", config=wish)
    plain = ct.draw_patient(np.random.default_rng(2), label="COVID")
    assert {f.hu for f in some.lesions.foci} == {some.body.p["dense_glass_hu"], some.body.p["ground_glass_hu"]} and -420 < some.body.p["dense_glass_hu"] < -400
    assert {f.hu for f in plain.lesions.foci} == {plain.body.p["ground_glass_hu"]}


def test_lesions_are_as_dense_as_they_are_called() -> None:
    quiet = build(CtConfig, {"noise_hu": [5.0, 6.0], "blur_mm": [0.4, 0.5], "dependent_hu": [0.0, 20.0], "collapsed_mm": [0.0, 0.5]})
    for seed in range(2):
        patient = ct.draw_patient(np.random.default_rng(seed), label="COVID", config=quiet)
        glass, twin = both(with_foci(patient, GROUND_GLASS))
        inside = glass.lesions == GROUND_GLASS
        assert np.median(glass.hu[inside]) == pytest.approx(patient.body.p["ground_glass_hu"], abs=70)
        assert np.corrcoef(glass.hu[inside], twin.hu[inside])[0, 1] > 0.4  # the vessels are still to be seen
        paved, _ = both(with_foci(patient, CRAZY_PAVING))
        more = (paved.hu.astype(int) - glass.hu)[inside]
        assert np.array_equal(paved.lesions > 0, inside) and more.min() >= 0 and (more == 0).mean() > 0.3 and np.percentile(more, 98) > 60  # septal lines
        dense, _ = both(ct.draw_patient(np.random.default_rng(seed), label="CAP", config=quiet))
        inside = dense.lesions == CONSOLIDATION
        assert np.median(dense.hu[inside]) == pytest.approx(dense.parameters["consolidation_hu"], abs=110)
        assert 0.005 < (dense.hu[inside] < -500).mean() < 0.35  # air in its bronchi


def with_foci(patient: ct.Patient, kind: int) -> ct.Patient:
    """The patient with all foci of one kind."""
    return replace(patient, lesions=Lesions(tuple(replace(f, kind=kind) for f in patient.lesions.foci), patient.body, 5))


def both(patient: ct.Patient) -> tuple[ct.Scan, ct.Scan]:
    """The patient with and without lesions."""
    grid = ct.grid_of(patient, spacing_mm=(11.0, 2.0, 2.0))
    return ct.scan(patient, grid), ct.scan(ct.without_lesions(patient), grid)


def test_the_patient_lies_as_the_axes_say() -> None:
    one = scanned(6, "normal", spacing_mm=(6.0, 3.0, 3.0))
    image = image_of(one)
    assert np.array_equal(canonical(image)[0].pixels, image.pixels)
    middle = {k: np.argwhere(one.lungs == k).mean(0) for k in (ct.RIGHT, ct.LEFT)}
    assert middle[ct.RIGHT][2] < middle[ct.LEFT][2]  # the patient's right comes first
    bone = np.argwhere(one.hu > 350)
    assert np.median(bone[:, 1]) > np.argwhere(one.lungs > 0)[:, 1].mean()  # most bone lies behind
    areas = (one.lungs > 0).sum((1, 2))
    held = np.flatnonzero(areas)
    assert areas[held[-2]] < 0.5 * areas.max()  # apices are small
    between = one.hu[areas.argmax() - 8 : areas.argmax() + 8]
    heart = np.argwhere((between > 0) & (between < 600) & (np.abs(one.grid.y) < 60)[None] & (np.abs(one.grid.x) < 90)[None])
    assert heart[:, 2].mean() > (one.hu.shape[2] - 1) / 2  # the heart is on the left
    litres = [float((scan.lungs > 0).sum() * np.prod(scan.grid.spacing_mm)) / 1e6 for scan in (one, scanned(6, "normal", spacing_mm=(4.0, 5.0, 5.0)))]
    assert litres[0] == pytest.approx(litres[1], rel=0.04) and 2 < litres[0] < 8


def test_vessels_taper_by_murrays_law_and_reach_every_point() -> None:
    points = np.random.default_rng(1).uniform(0, 60, (50, 3)).astype(np.float32)
    grown = tree(np.random.default_rng(0), np.zeros(3, np.float32), points, 0.5)
    ends = grown.end[grown.served == 1]
    assert all(np.linalg.norm(ends - p, axis=1).min() < 1e-4 for p in points)
    assert grown.radius[0, 0] == pytest.approx(0.5 * 50 ** (1 / 3), rel=1e-6) and (grown.radius[:, 1] <= grown.radius[:, 0]).all()


def test_a_painted_rod_holds_its_volume() -> None:
    rod = Tubes.of([((0.0, 0.0, -30.0), (0.0, 0.0, 30.0), 6.0, 6.0)])
    share = paint(rod, Grid((40, 40, 40), (1.0, 1.0, 1.0), (-19.5, -19.5, -19.5)), 0, 40)
    assert share.sum() == pytest.approx(np.pi * 36 * 40, rel=0.02)
    thin = Tubes.of([((0.0, 0.0, -30.0), (0.0, 0.0, 30.0), 0.3, 0.3)])
    assert 0 < paint(thin, Grid((40, 40, 40), (1.0, 1.0, 1.0), (-19.5, -19.5, -19.5)), 0, 40).max() < 0.5


def test_a_dicom_series_reads_back_exactly(tmp_path: Path) -> None:
    one = scanned(2, "CAP")
    image = image_of(one)
    paths = write_dicom_series(tmp_path / "a", image, patient="PHANTOM-0001", name="seed 2")
    slices, errors = read_headers(sorted(paths, reverse=True))
    (series,) = find_series(slices)
    back = read_series(series)
    assert not errors and not series.defects.words and series.patient == "PHANTOM-0001"
    assert np.array_equal(back.pixels, image.pixels) and back.spacing_mm == pytest.approx(image.spacing_mm, abs=1e-5)
    assert back.affine == pytest.approx(image.affine, abs=1e-4)
    first = pydicom.dcmread(paths[0])
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2" and np.array_equal(first.pixel_array * first.RescaleSlope + first.RescaleIntercept, image.pixels[0])
    again = write_dicom_series(tmp_path / "b", image, patient="PHANTOM-0001", name="seed 2")
    other = write_dicom_series(tmp_path / "c", image, patient="PHANTOM-0001", name="seed 3")
    assert paths[3].read_bytes() == again[3].read_bytes() and pydicom.dcmread(other[0]).SeriesInstanceUID != first.SeriesInstanceUID
    assert len({pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in paths}) == len(paths)
    with pytest.raises(InputError, match="12 bits"):
        write_dicom_series(tmp_path / "d", replace(image, pixels=image.pixels * 0 + np.int16(5000)), patient="P", name="n")


def test_nifti_reads_back_exactly(tmp_path: Path) -> None:
    image = image_of(scanned(2, "CAP"))
    write_nifti(tmp_path / "a.nii.gz", image)
    back = read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(back.pixels, image.pixels) and back.affine == pytest.approx(image.affine, abs=1e-3)


def test_the_lung_rule_finds_the_drawn_lungs() -> None:
    dice = []
    for seed in (0, 1, 2):
        one = scanned(seed, "normal", spacing_mm=(3.0, 2.2, 2.2))
        found, truth = find_lungs(image_of(one)).mask, one.lungs
        dice.append(2 * float(((found > 0) & (truth > 0)).sum()) / float((found > 0).sum() + (truth > 0).sum()))
        assert all(((found == k) & (truth == k)).sum() > 0.88 * (truth == k).sum() for k in (ct.RIGHT, ct.LEFT))
    assert min(dice) >= 0.95, dice


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_series_of_phantoms_goes_through_audit_lungs_and_prepare(kind: str, tmp_path: Path) -> None:
    sheet = draw_cts(tmp_path / "drawn", count=3, format=kind, seed=1, set=TINY)
    rows = list(csv.DictReader((tmp_path / "drawn" / "labels.csv").read_text().splitlines()))
    assert [r["case"] for r in rows] == ["ct_0001", "ct_0002", "ct_0003"] and {r["class"] for r in rows} == {"normal", "COVID", "CAP"}
    assert [r["patient"] for r in rows] == ["PHANTOM-0001", "PHANTOM-0002", "PHANTOM-0003"] and sheet.exists()
    looked = tacit.audit(tmp_path / "drawn", tmp_path / "audit", labels=tmp_path / "drawn" / "labels.csv")
    assert looked.failed == 0 and looked.series == 3
    images = list(csv.DictReader((tmp_path / "audit" / "tables" / "images.csv").read_text().splitlines()))
    assert {r["label"] for r in images if r["kind"] in ("dicom", "volume")} == {"normal", "COVID", "CAP"}
    found = tacit.lungs(tmp_path / "drawn", tmp_path / "lungs")
    assert found.failed == 0 and set(found.litres) == {"ct_0001", "ct_0002", "ct_0003"}
    truth = read_volume(tmp_path / "drawn" / "masks" / "lungs" / "ct_0001.nii.gz").pixels
    assert truth.shape == read_volume(tmp_path / "lungs" / "masks" / "ct_0001.nii.gz").pixels.shape and set(np.unique(truth)) == {0, 1, 2}
    prepared = tacit.prepare_images(tmp_path / "drawn", tmp_path / "prepared", steps="covnet")
    assert prepared.failed == 0 and prepared.written >= 3


def test_a_case_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    for name, count in (("two", 2), ("one", 1)):
        draw_cts(tmp_path / name, count=count, seed=5, format="dicom", set=TINY)
    files = [sorted((tmp_path / name / "dicom" / "ct_0001").iterdir()) for name in ("two", "one")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    c = CtConfig()
    assert all({class_of(i + k, 9, c) for k in range(3)} == {"normal", "COVID", "CAP"} for i in (0, 3, 6))


def test_teacher_slices_hold_what_their_targets_say() -> None:
    made = list(ct.teacher_slices(np.random.default_rng(0), 12, matrix=72))
    assert len(made) == 12 and {s.label for s in made} == {"normal", "COVID", "CAP"}
    for s in made:
        assert s.hu.shape == s.place.shape == s.lungs.shape == (72, 72) and (s.kind == 0) == (not s.place.any())
        assert s.share == pytest.approx((s.place > 0).sum() / max((s.lungs > 0).sum(), 1)) and (s.place == s.kind).any()
        assert s.label != "normal" or s.kind == 0
    assert sum(s.kind > 0 for s in made) >= 4


def test_the_generator_draws_slices_as_others_draw_pictures() -> None:
    module = generator("ct")
    drawing = module.draw(np.random.default_rng(2), (80, 90), 4500.0)
    assert drawing.picture.shape == (80, 90, 3) and drawing.labels.shape == (80, 90) and drawing.planes.shape == (len(module.CLASSES), 80, 90)
    for k in range(len(module.CLASSES)):
        assert np.array_equal(drawing.planes[k] > 0, drawing.labels == k + 1)


def test_the_simplest_scores_do_not_tell_who_has_a_lesion() -> None:
    """On 40 fresh phantoms; benchmarks/ct_phantom.py asks more of them."""
    labels = ("normal", "COVID", "normal", "CAP")
    rows, sick = [], []
    for i in range(40):
        one = ct.draw_scan(np.random.default_rng([70, i]), label=labels[i % 4], split="fresh", spacing_mm=(12.0, 5.0, 5.0))
        inside = one.hu[one.lungs > 0]
        rows.append([inside.mean(), inside.max(), *np.histogram(inside, 32, (-1024, 400))[0] / len(inside)])
        sick.append(labels[i % 4] != "normal")
    x, y = np.asarray(rows), np.asarray(sick)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    by_histogram = cross_val_predict(model, x[:, 2:], y, groups=np.arange(40), cv=GroupKFold(5), method="decision_function")
    mean, most = (max(a, 1 - a) for a in (roc_auc_score(y, x[:, 0]), roc_auc_score(y, x[:, 1])))
    assert max(mean, most, roc_auc_score(y, by_histogram)) <= 0.75


def test_the_pages_python_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "ct_phantom.md").read_text(), re.S)
    assert code is not None
    done = subprocess.run([sys.executable, "-c", code.group(1)], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 4 and "(176, 176)" in done.stdout


def test_the_verb_refuses_what_is_not_for_it(tmp_path: Path) -> None:
    for words in (["phantom", "ct", "--mpp", "2"], ["phantom", "tissue", "--split", "fresh"], ["segment", str(tmp_path), "--phantom", "ct"]):
        done = subprocess.run([sys.executable, "-m", "tacit", *words, "-o", str(tmp_path / "o")], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and ("no option of tacit phantom" in done.stderr or "--phantom ct: drawn CT series" in done.stderr), done.stderr
        assert not (tmp_path / "o").exists()


def test_wrong_wishes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'flu'.*known are normal, COVID, CAP, lesion"):
        ct.draw_patient(np.random.default_rng(0), label="flu")
    for wrong in ({"format": "png"}, {"split": "both"}, {"count": 0}, {"seed": -1}):
        with pytest.raises(UsageError, match="--format nifti or dicom"):
            draw_cts(tmp_path / "o", **wrong)
    with pytest.raises(ConfigError, match="low <= high"):
        build(CtConfig, {"lung_hu": [-700.0, -900.0]})
    with pytest.raises(ConfigError, match="nearest known one is 'noise_hu'"):
        draw_cts(tmp_path / "o", set=["noise_h=3"])
    with pytest.raises(UsageError, match="three whole numbers"):
        ct.grid_of(ct.draw_patient(np.random.default_rng(0)), shape=(0, 5, 5), spacing_mm=(1.0, 1.0, 1.0))
