# make demo   sets up .venv, plays the bundled bag through the nodes, writes demo_out/
# make test   sets up .venv, runs the tests
# make test-slow   runs the tests that take minutes each: from an unlabelled bag to a model to the node
PYTHON ?= python3
VENV := $(CURDIR)/.venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check -q install
REQUIREMENTS := $(wildcard requirements/*.txt)

# ROS 2 from wheels lives in the venv; the DDS profile gives images room in shared memory.
export AMENT_PREFIX_PATH := $(VENV)
export CMAKE_PREFIX_PATH := $(VENV)
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export FASTDDS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds_shm.xml
# A venv inside a sourced ROS or another wheel environment must start clean.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONPATH

.PHONY: demo test test-slow venv clean

venv: $(VENV)/.complete

$(VENV)/.complete: $(REQUIREMENTS) setup.py package.xml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: Python 3.10 or later is needed, $$($(PYTHON) --version) was found: make PYTHON=python3.x"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || { echo "make: first run: sudo apt install python3-venv"; exit 2; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libusb-1.0.so.0")' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq libusb-1.0-0; } || echo "make: the camera node and its tests need libusb-1.0-0: sudo apt install libusb-1.0-0"
	@echo "setting up .venv (some minutes, about 2 GB)"
	$(PYTHON) -m venv $(VENV)
	touch $(VENV)/COLCON_IGNORE
	$(PIP) -r requirements/torch.txt
	$(PIP) $(foreach name,core ros camera train synth eval peer test,-r requirements/$(name).txt)
	$(PIP) --no-deps -r requirements/synth-nodeps.txt
	$(PIP) --no-deps --no-build-isolation -e .
	$(RUN) -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'instseg_compat.pth').write_text('$(CURDIR)/compat\n')"
	touch $@

demo: venv
	$(RUN) -m instseg_ros.nodes.demo --out demo_out

# Two processes: half of the time goes by waiting for ROS. The tests of a file stay together and share what they set up.
test: venv
	$(RUN) -m pytest -n 2 --dist loadfile --max-worker-restart 0

test-slow: venv
	$(RUN) -m pytest -m slow

clean:
	rm -rf $(VENV) demo_out build install log
