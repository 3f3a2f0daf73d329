# make demo: install, fuse the sample pairs with the shipped weights, say where the result is
# make app: install, open the page to fuse photographs in the browser
# make train-demo: install, train a tiny network on photographs that come with scikit-image: the
#     whole chain in a minute (samples, training, validation); its weights are of no use
# make test: install, check the style, run the tests

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo app train-demo test clean

demo: $(VENV)/installed
	$(RUN) run_inference.py --input data/samples --output demo --maps
	@echo
	@echo "Fused images, guidance maps and boundary maps are in $(CURDIR)/demo"

app: $(VENV)/installed
	$(RUN) app.py

train-demo: $(VENV)/installed
	$(RUN) -m data.prepare demo --root datasets
	$(RUN) main.py configs/smoke.yaml run=runs/demo train.steps=200
	$(RUN) main.py configs/smoke.yaml --evaluate --weights runs/demo/latest.safetensors

test: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m pytest -q

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) demo
