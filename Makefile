# Two environments: .venv holds the renderer as a user installs it, .venv-dev everything that development needs.
PYTHON ?= python3
VENV ?= .venv
DEV_VENV ?= .venv-dev
SONG ?= examples/greensleeves.mid
SOUNDFONT ?= MuseScore_General.sf2
BANK ?= runs/bank
PRESET ?= gm
JOBS ?= 2
N ?= 20

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt
NAME = $(basename $(notdir $(SONG)))
BUILD_FILES = pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/miao/s*/*.cpp src/miao/s*/*.h)
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# the processes that tests start need not translate everything anew, even where the environment asks for no bytecode
TESTING = $(ONE_THREAD) PYTHONDONTWRITEBYTECODE=
ALL_FILES = $(BUILD_FILES) README.md $(shell find src/miao -type f ! -name '*.pyc')

.PHONY: help demo test test-slow test-processors planted mutants check bench bank examples clean

help:
	@echo "make demo       install the renderer and turn $(SONG) into demo/$(NAME).wav and .png"
	@echo "make test       run the fast tests        make test-slow  run the slow ones"
	@echo "make test-processors  the fast ones as other processors would run them"
	@echo "make planted    plant faults one by one and see that the tests notice each"
	@echo "make mutants    draw small faults by lot and see how many the tests notice; writes docs/mutants.md"
	@echo "make check      lint and type-check       make bench      measure the speed"
	@echo "make bank       train a bank from SOUNDFONT, from notes to variations (hours; goes on where it was stopped)"
	@echo "make examples   write examples/*.mid anew make clean      remove what make has made"

demo: $(VENV)/.installed
	@mkdir -p demo
	$(VENV)/bin/miao render $(SONG) -o demo/$(NAME).wav --force
	$(VENV)/bin/miao plot $(SONG) demo/$(NAME).wav -o demo/$(NAME).png --force
	@echo "listen to demo/$(NAME).wav, look at demo/$(NAME).png"

test: $(DEV_VENV)/.installed
	@sh tests/setup_system.sh
	$(TESTING) $(DEV_VENV)/bin/python -m pytest -m "not slow" -rs -n $(JOBS) --dist worksteal

test-slow: $(DEV_VENV)/.installed
	@sh tests/setup_system.sh
	$(TESTING) $(DEV_VENV)/bin/python -m pytest -m slow -rs -n $(JOBS)

# Each line: loops of the oscillators (skipped where this processor cannot run them), and what torch and NumPy may use.
test-processors: $(DEV_VENV)/.installed
	@sh tests/setup_system.sh
	for settings in "plain default SSE41 Nehalem" "avx2 avx2 AVX2 Haswell" "avx512 avx512 AVX512_CORE SkylakeX"; do \
	    set -- $$settings; \
	    $(DEV_VENV)/bin/python -c "import sys; from miao.synth.oscillators import variants as v; sys.exit('$$1' not in v())" \
	        || { echo "this processor has no $$1"; continue; }; \
	    echo "=== loops $$1, torch $$2, oneDNN $$3, BLAS $$4"; \
	    ATEN_CPU_CAPABILITY=$$2 ONEDNN_MAX_CPU_ISA=$$3 OPENBLAS_CORETYPE=$$4 $(TESTING) \
	        $(DEV_VENV)/bin/python -m pytest -m "not slow" -q -n $(JOBS) --dist worksteal --kernels $$1 || exit 1; \
	done

planted: $(DEV_VENV)/.installed
	$(DEV_VENV)/bin/python tests/mutants/planted.py --only "$(ONLY)"

mutants: $(DEV_VENV)/.installed
	$(ONE_THREAD) $(DEV_VENV)/bin/python tests/mutants/run.py $(FILES) -n $(N)

check: $(DEV_VENV)/.installed
	$(DEV_VENV)/bin/ruff check
	$(DEV_VENV)/bin/ruff format --check
	$(DEV_VENV)/bin/mypy
	$(DEV_VENV)/bin/python docs/build_api.py

bench: $(DEV_VENV)/.installed
	@sh tests/setup_system.sh
	OPENBLAS_NUM_THREADS=1 $(DEV_VENV)/bin/python bench/speed.py $(if $(filter command,$(origin SONG)),$(SONG)) $(BENCH)
	OPENBLAS_NUM_THREADS=1 $(DEV_VENV)/bin/python bench/memory.py $(if $(filter command,$(origin SONG)),$(SONG))

bank: $(DEV_VENV)/.installed  # from a sound bank to a finished bank; go on with the same command if it is stopped
	$(DEV_VENV)/bin/miao data soundfont $(SOUNDFONT) -o $(BANK)/notes $(if $(VOICES),--voices $(VOICES))
	$(DEV_VENV)/bin/miao train $(PRESET) --data $(BANK)/notes --devices 2 -o $(BANK)/run
	test -f $(BANK)/bank/config.toml \
	    || $(DEV_VENV)/bin/miao export $(BANK)/run --data $(BANK)/notes --no-context -o $(BANK)/bank
	$(DEV_VENV)/bin/miao finish $(BANK)/bank --soundfont $(SOUNDFONT) --data $(BANK)/notes

examples: $(DEV_VENV)/.installed
	for name in ode_to_joy greensleeves gymnopedie; do $(DEV_VENV)/bin/python examples/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) $(DEV_VENV) build dist demo .mypy_cache .pytest_cache .ruff_cache
	find src tests examples bench -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: $(ALL_FILES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) '.[plot]'
	@touch $@

$(DEV_VENV)/.installed: $(BUILD_FILES)
	$(PYTHON) -m venv $(DEV_VENV)
	$(DEV_VENV)/bin/python $(PIP_INSTALL) -e '.[dev,train,evaluate,plot,dask,live,web]'
	$(DEV_VENV)/bin/python $(PIP_INSTALL) --no-deps basic-pitch==0.4.0 musicnn==0.1.0  # for their weights alone
	@touch $@
