"""The page of ``app.py``, with telemetry disabled."""

import os

os.environ.update(  # read by the libraries when they are imported
    GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", ORT_DISABLE_TELEMETRY="1"
)
