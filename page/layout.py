"""The components of the page and their events."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from page.actions import Actions, refuse_urls
from page.limits import Limits

STYLE = Path(__file__).with_name("style.css")
THEME = gr.themes.Default(  # with system fonts: none is fetched
    primary_hue=gr.themes.colors.blue,
    neutral_hue=gr.themes.colors.slate,
    font=("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"),
    font_mono=("ui-monospace", "Consolas", "monospace"),
)
INTRO = """# One photograph, sharp everywhere

Give photographs of one scene, each focused at another depth. For every pixel the network (MMF-Net)
decides which of them is sharp; along the edges of foreground objects, where none is, it repairs the
blur that the lens spread over the background.
"""
ALIGN = "For handheld photographs. Not needed with a tripod or if they are registered already."
DECIDED = (
    "White in the guidance map: the first photograph is sharp; black: the second; grey: neither. "
    "There the boundary map is white, and the network repairs the result."
)
IMAGE = {"interactive": False, "buttons": ["fullscreen"]}


def build(actions: Actions, limits: Limits, samples_folder: Path) -> gr.Blocks:
    """Build the page, with the pairs of a folder as samples; visitors see its path."""
    gr.set_static_paths([samples_folder])
    near, far = (sorted(samples_folder.glob(f"*-{letter}.png")) for letter in "AB")

    def pick(chosen: gr.SelectData) -> tuple[list[str], bool]:
        """Choose the files of a sample, which are registered already."""
        return [str(near[chosen.index]), str(far[chosen.index])], False

    with gr.Blocks(title="MMF-Net", analytics_enabled=False) as page:
        gr.Markdown(INTRO, elem_id="intro")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                files = gr.File(
                    label="Your photographs", file_count="multiple", height=150, elem_id="files"
                )
                gr.Markdown("… or a sample:", elem_classes="caption")
                gallery = _thumbnails(near, 3, "samples")
                align = gr.Checkbox(True, label="Align them first", info=ALIGN, elem_id="align")
                button = gr.Button("Fuse", variant="primary", elem_id="fuse")
                stop = gr.Button("Stop", visible=False, elem_id="stop")
                status = gr.HTML(elem_id="status")
                about = f"{limits} They are removed when you close the page."
                gr.Markdown(about, elem_classes="caption")
            with gr.Column(scale=2, min_width=320):
                empty = gr.HTML("<p>The fused photograph appears here.</p>", elem_id="empty")
                with gr.Column(visible=False) as results:
                    label = "One photograph | all of them, fused"
                    slider = gr.ImageSlider(label=label, max_height=560, elem_id="slider", **IMAGE)
                    gr.Markdown("Compare with:", elem_classes="caption")
                    sources = _thumbnails([], 6, "sources")
                    download = gr.DownloadButton(
                        "Download at full size and depth", variant="primary", elem_id="download"
                    )
        with gr.Row():
            origin = _map("Where each pixel comes from", "origin")
            with gr.Column(visible=False, scale=2, min_width=320) as decided:
                with gr.Row():
                    guidance = _map("Guidance map", "guidance")
                    boundary = _map("Boundary map", "boundary")
                gr.Markdown(DECIDED, elem_classes="caption")

        outputs = [status, empty, results, slider, sources, download]
        outputs += [origin, decided, guidance, boundary]
        fusion = {
            "fn": actions.fuse,
            "inputs": [files, align],
            "outputs": outputs,
            "show_progress_on": status,
            "concurrency_limit": 1,
            "concurrency_id": "fusion",
            "preprocess": False,  # Actions checks the files, and takes them without a copy
        }
        quick = {"api_visibility": "private", "show_progress": "hidden"}
        at_once = {**quick, "queue": False}
        for begin in (button.click, gallery.select):  # before the fusing, or they would wait for it
            begin(lambda: gr.Button(visible=True), None, stop, **at_once)
        clicked = button.click(**fusion, api_name="fuse")
        picked = gallery.select(pick, None, [files, align], **at_once)
        events = [clicked, picked.then(**fusion, api_visibility="private")]
        for event in events:
            for after in (event.then, event.failure):
                after(lambda: gr.Button(visible=False), None, stop, **at_once)
        stopped = stop.click(actions.stop, queue=False, api_name="stop", cancels=events)
        stopped.then(lambda: "<p>Stopped.</p>", None, status, **at_once)
        files.upload(actions.note, files, None, **at_once, preprocess=False)
        # Gradio shows errors of queued events only; these do not wait.
        quick["concurrency_limit"] = None
        files.upload(actions.check, files, None, **quick, preprocess=False)
        sources.select(actions.compare, None, slider, **quick)
        page.unload(actions.leave)
    refuse_urls(files)
    return page


def _thumbnails(pictures: Sequence[Path], columns: int, name: str) -> gr.Gallery:
    """Clickable thumbnails."""
    return gr.Gallery(
        pictures,
        columns=columns,
        fit_columns=False,
        object_fit="cover",
        show_label=False,
        allow_preview=False,
        buttons=[],
        interactive=False,
        container=False,
        elem_id=name,
        elem_classes="thumbnails",
    )


def _map(label: str, name: str) -> gr.Image:
    return gr.Image(label=label, visible=False, min_width=220, elem_id=name, **IMAGE)
