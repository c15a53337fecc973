"""Every fault that a long run can inject, by name."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.faults_of_callers import Cuts, Forgery, Liars
from tests.faults.faults_of_processes import (
    ClockJump,
    ServerKill,
    ServerKillAtPoint,
    ServerTerm,
    WorkerHang,
    WorkerKill,
    WorkerTerm,
)
from tests.faults.faults_of_storage import DatabaseKill, DatabaseRestart, DiskFull, IoError

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(ServerKill, ServerKillAtPoint, ServerTerm, WorkerKill, WorkerTerm, WorkerHang),
        *(DiskFull, IoError, Cuts, Liars, ClockJump, Forgery, DatabaseRestart, DatabaseKill),
    )
}
