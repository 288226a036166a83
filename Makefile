# Every target makes its own environment in .venv first.
PYTHON ?= python3
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: venv demo test check proof torture docs clean

venv: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(PY) -m pip check
	touch $@

demo: venv
	$(PY) examples/demo.py demo-out

check: venv
	$(PY) -m ruff format --check src tests benchmarks examples docs
	$(PY) -m ruff check src tests benchmarks examples docs
	$(PY) -m mypy

test: check
	$(PY) -m pytest

# Slow proofs; each stops when its rows are done and goes on where it stopped.
proof: venv
	for script in reading cleaning lungs ct_phantom audit_memory contrast views slides byol_step report_backbones search index_memory index_workers query_glas landmarks series_models classify_speed distance distance_use; do $(PY) benchmarks/$$script.py; done
	$(PY) benchmarks/distance.py --memory
	$(PY) benchmarks/lung_unet.py "$${TACIT_DATA:-../shared/data}"
	$(PY) benchmarks/scale.py
	$(PY) -m pip install --quiet --constraint constraints.txt ".[bench]" && $(PY) benchmarks/slides_segment.py
	$(PY) benchmarks/slides_equal.py
	$(PY) benchmarks/slides_cost.py
	$(PY) benchmarks/baselines.py
	$(PY) benchmarks/apply.py
	$(PY) benchmarks/chest.py --seeds 0 1 2
	$(PY) benchmarks/mssg_stages.py
	$(PY) benchmarks/glas.py --seeds 0
	$(PY) benchmarks/glas.py phantom phantom-fast mssg --seeds 1 2
	$(PY) benchmarks/rivals.py --seeds 0 1 2
	$(PY) benchmarks/rivals.py --set jsrt
	$(PY) benchmarks/rivals.py --set drive
	$(PY) benchmarks/vessels.py --seeds 0 1 2
	$(PY) benchmarks/chest.py phantom-chest
	$(PY) benchmarks/few_labels.py
	$(PY) benchmarks/classify.py
	$(PY) benchmarks/classify_ucsd.py
	$(PY) benchmarks/classify_starts.py
	$(PY) benchmarks/classify_memory.py
	$(PY) benchmarks/lesions.py
	$(PY) benchmarks/covid_ct_md.py
	$(PY) benchmarks/classify_gate.py
	$(PY) benchmarks/write_results.py

torture: venv
	$(PY) benchmarks/torture.py 100
	$(PY) benchmarks/torture_index.py 100
	$(PY) benchmarks/torture_index.py 20 2
	$(PY) benchmarks/torture_slides.py 100

docs: venv
	$(PY) docs/write_settings.py
	$(PY) benchmarks/write_results.py

clean:
	rm -rf .venv demo-out benchmarks/work
