"""Worker processes that end with the one that started them."""

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Worker processes outlive a parent that was killed, unless they watch it."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
