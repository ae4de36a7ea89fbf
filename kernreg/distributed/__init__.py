"""Several processes as one job: how it starts, what they send, and errors that reach all of them.

Every function also works in a program of one process, where it sends nothing.
"""

from kernreg.distributed.job import (
    described,
    initialize,
    is_distributed,
    local_processes,
    processes,
    rank,
    report,
    share,
)
from kernreg.distributed.messages import (
    agree,
    by_rows,
    from_first,
    handed_out,
    join,
    tell,
    total,
)

__all__ = [
    "agree",
    "by_rows",
    "described",
    "from_first",
    "handed_out",
    "initialize",
    "is_distributed",
    "join",
    "local_processes",
    "processes",
    "rank",
    "report",
    "share",
    "tell",
    "total",
]
