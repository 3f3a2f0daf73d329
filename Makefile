# make demo: install, fuse the sample pairs with the shipped weights, say where the result is
# make app: install, open the page to fuse photographs in the browser
# make test: install, check the style, run the tests

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo app test clean

demo: $(VENV)/installed
	$(RUN) run_inference.py --input data/samples --output demo --maps
	@echo
	@echo "Fused images, guidance maps and boundary maps are in $(CURDIR)/demo"

app: $(VENV)/installed
	$(RUN) app.py

test: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m pytest -q

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) demo
