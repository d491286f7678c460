"""The entry point of the page, and of the Hugging Face Space: settings -> page, until a signal ends it."""

import os
import signal
import sys

from attribution.errors import InputError
from attribution.page.hall import load
from attribution.page.served import served_folder
from attribution.page.server import serve
from attribution.page.settings import Settings


def main() -> int:
    """Serve the page until stopped; 2 is the exit code of a mistake in the input, 128 and more of a signal."""
    read, signals = os.environ.get, []

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    anywhere = "0.0.0.0"  # noqa: S104, a Space is reached from outside its container
    host = read("GRADIO_SERVER_NAME") or (anywhere if "SPACE_ID" in os.environ else "127.0.0.1")
    port = read("GRADIO_SERVER_PORT") or "7860"
    try:
        if not port.isdecimal():
            raise InputError(f"GRADIO_SERVER_PORT is {port!r}; give the number of a port")
        settings = Settings.from_environment()
        with served_folder() as folder:
            os.environ["GRADIO_TEMP_DIR"] = str(folder)
            serve(load(settings), host, int(port), settings)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass  # gradio, too, ends quietly
    return 128 + signals[0] if signals else 0


def leave(code: int) -> None:
    """End at once: threads that still compute would abort an interpreter that waits for none of them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
