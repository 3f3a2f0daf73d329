"""The page of ``app.py``; telemetry is disabled."""

import os

os.environ.update(  # the libraries look at these when they are imported
    GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", ORT_DISABLE_TELEMETRY="1"
)
