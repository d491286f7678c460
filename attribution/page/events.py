"""Say what the page's events have in common: where they wait, how a mistake is told, what borrows a GPU.

In: a handler. Out: one that ends in an answer or in one sentence. It knows no panel.
"""

import html
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from attribution.errors import InputError
from attribution.page.guards import data_of
from attribution.page.hall import Stopped, Superseded
from attribution.page.inputs import whole
from attribution.page.language import say

HEAVY = {
    "concurrency_id": "model",
    "concurrency_limit": 20,
}  # they wait in a line of ours (line.py)
MARKS = {"concurrency_id": "marks", "concurrency_limit": 1}  # on the model, when nobody waits
LONG = {"concurrency_id": "long", "concurrency_limit": 1}  # on a copy, and in nobody's way
LIGHT = {"concurrency_id": "light", "concurrency_limit": 8}
TICK = {"concurrency_id": "tick", "concurrency_limit": 1}  # else two would add to the same list
PRIVATE = {"api_visibility": "private"}
QUICK = LIGHT | PRIVATE | {"show_progress": "hidden"}
RAW = {"preprocess": False}  # else gradio opens an upload, and tells the names that it knew before
LAST = {"trigger_mode": "always_last"}  # while one runs, only the last of those after it counts
NEWEST = {"trigger_mode": "multiple"}  # a newer one overtakes (hall.py), and none is turned away
PROGRESS = gr.Progress()  # gradio tells the calls apart
STOPPED = "Stopped. Nothing was changed."
# what happened -> how its message is headed
REFUSED, ENDED, FAILED = "That did not work", "Stopped", "A fault of this page"
FAULT = "This is a fault of the page, not yours; what went wrong is in its log. Try again."
KINDS = ["look", "artist", "turn", "tick", "example", "drawn", "word", "clear", "back"]


def sentence_of(error: InputError) -> str:
    """Write a mistake in the input as a sentence of the page."""
    text = say(error.args[0])
    return html.escape(f"{text[:1].upper()}{text[1:]}.")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a mistake in the input into a message of one sentence; a fault of ours, too, which is printed."""
    try:
        yield
    except InputError as error:
        raise gr.Error(sentence_of(error), title=say(REFUSED), print_exception=False) from error
    except Stopped as error:
        raise gr.Error(say(STOPPED), title=say(ENDED), print_exception=False) from error
    except Superseded as error:  # nobody is to hear of it
        raise gr.Error(say(STOPPED), visible=False, print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(say(FAULT), title=say(FAILED)) from error  # which gradio prints


def plainly(handler: Callable) -> Callable:
    """Make a handler's mistakes in the input messages; those of one that streams, too."""

    @wraps(handler)
    def answered(*given: Any, **named: Any) -> Any:
        with one_sentence():
            return handler(*given, **named)

    def streamed(given: tuple, named: dict) -> Iterator:
        with one_sentence():
            yield from handler(*given, **named)

    if not inspect.isgeneratorfunction(inspect.unwrap(handler)):
        return answered
    # a lambda, as a checker of types would wrap a function, and gradio not see that it streams
    return wraps(handler)(lambda *given, **named: (yield from streamed(given, named)))


def on_gpu(handler: Callable) -> Callable:
    """Borrow a GPU for a handler on a ZeroGPU Space; anywhere else leave it as it is."""
    try:
        import spaces
    except ImportError:
        return handler
    return spaces.GPU(duration=60)(handler)


def sent(event: gr.EventData, name: str, count: int) -> int:
    """Read a number below `count` that came with an event."""
    return whole(data_of(event).get(name), "what was pressed", 0, count - 1)


def numbered(event: str, count: int) -> str:
    """Write what a browser does before an event of `count` inputs: it puts the question's number in the last place.

    `event` is `begun` for a new question, which overtakes older ones, or `again` for a later part of it.
    """
    return f"(...given) => page.{event}(given.slice(0, {count}))"


def live(value: str, name: str, **options: Any) -> gr.HTML:
    """Make HTML whose buttons and boxes send events: page.js tells which."""
    listen = f"page.listen(element, trigger, watch, {KINDS})"
    return gr.HTML(value, elem_id=name, js_on_load=listen, **options)
