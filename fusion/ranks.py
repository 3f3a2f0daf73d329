"""Work shared by the processes that torchrun starts, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from utils.errors import UserError

if TYPE_CHECKING:  # it is imported only where there are several processes
    import torch.distributed as dist

PATIENCE = timedelta(days=7)  # a rank may wait for another's last stack


class Ranks:
    """Process number ``rank`` of the ``count`` that share the work; a context manager. There is one
    process without torchrun."""

    def __init__(self) -> None:
        self.rank, self.count = 0, int(os.environ.get("WORLD_SIZE", 1))
        self._store: dist.Store | None = None
        if self.count > 1:
            import torch.distributed as dist

            self._dist = dist
            store, self.rank, self.count = next(iter(dist.rendezvous("env://")))
            self._store = dist.PrefixStore("work", store)
            group = dist.PrefixStore("group", store)
            dist.init_process_group(
                "gloo", store=group, rank=self.rank, world_size=self.count, timeout=PATIENCE
            )

    def __enter__(self) -> Ranks:
        return self

    def take(self, count: int) -> Iterator[int]:
        """Numbers below ``count``, each to one process: a free process takes the next."""
        if self._store is None:
            yield from range(count)
            return
        while (number := self._store.add("taken", 1) - 1) < count:
            yield number

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, for each process; waits for the slowest.

        Raises:
            UserError: a process was lost.
        """
        if self._store is None:
            return [value]
        values: list[Any] = [None] * self.count
        try:
            self._dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise UserError(
                "a process was lost; run the same command again with --resume for what it left"
            ) from error
        return values

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait for the others: torchrun ends all processes as soon as one fails."""
        if self._store is not None and kind is None:
            self.gather(None)
            self._dist.destroy_process_group()
