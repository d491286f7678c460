"""Serve the page: behind its doors, with its style, and with nothing of this machine open.

In: a `Hall` and settings. Out: a server that runs.
"""

import json
import re
from pathlib import Path

import gradio as gr

from attribution.page.events import REFUSED
from attribution.page.guards import doors, guard_queue
from attribution.page.hall import Hall
from attribution.page.language import say, spoken
from attribution.page.layout import create_demo
from attribution.page.settings import Settings

FOLDER = Path(__file__).parent
GRADIOS = {  # Gradio's own words, by its own keys
    "common.error": REFUSED,
    "common.progress": "Progress",
    "common.complete": "Complete",
    "common.loading": "Loading",
    "status.queue_position": "Position {position} of {size} in the queue",
}


def read_file(name: str) -> str:
    """Read a file of the page: its style, or what runs in the browser."""
    return (FOLDER / name).read_text()


def texts_of(script: str) -> str:
    """Give what runs in the browser its texts in the page's language."""
    named = re.findall(r'text\("([^"]+)"', script)
    texts = json.dumps({text: say(text) for text in named}).replace("<", "\\u003c")
    return f"window.texts = {texts};\n{script}"


def serve(
    hall: Hall, host: str, port: int, settings: Settings | None = None, block: bool = True
) -> gr.Blocks:
    """Serve the page; no file of this machine is open but pictures that were drawn for programs."""
    settings = settings or Settings()
    most, script = settings.max_upload_mb * 2**20, texts_of(read_file("page.js"))
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none to download
    gradios = gr.I18n(**{spoken().name: {key: say(text) for key, text in GRADIOS.items()}})
    demo = create_demo(hall, settings.mcp)
    demo.queue(max_size=None, default_concurrency_limit=8)
    guard_queue(demo, settings.queue_size)
    demo.launch(
        server_name=host, server_port=port, prevent_thread_lock=not block,
        css=read_file("page.css"), head=f"<script>{script}</script>",
        theme=gr.themes.Base(primary_hue="teal", neutral_hue="stone", **fonts),
        allowed_paths=[], max_file_size=most, state_session_capacity=1000,
        show_error=False, run_history=False, enable_monitoring=False, footer_links=[],
        i18n=gradios, ssr_mode=False, share=False, mcp_server=settings.mcp,
        app_kwargs={"middleware": [doors(hall.uploads, most, script, settings.mcp)]},
    )  # fmt: skip
    return demo
