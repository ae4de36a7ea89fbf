"""Which initialisation lets signals and gradients pass any depth."""

from kernreg.theory.criticality.critical_point import Critical, critical
from kernreg.theory.criticality.fixed_points import (
    FixedPoint,
    correlation_fixed_point,
    depth_scale,
    fixed_points,
)
from kernreg.theory.criticality.phases import (
    Edge,
    Phase,
    PhaseDiagram,
    edge_of_chaos,
    phase,
    phase_diagram,
)
from kernreg.theory.criticality.reports import Report, report
from kernreg.theory.criticality.single_input import (
    Susceptibilities,
    Trajectory,
    recursion,
    susceptibilities,
)
from kernreg.theory.criticality.tuning import tune

__all__ = [
    "Critical",
    "Edge",
    "FixedPoint",
    "Phase",
    "PhaseDiagram",
    "Report",
    "Susceptibilities",
    "Trajectory",
    "correlation_fixed_point",
    "critical",
    "depth_scale",
    "edge_of_chaos",
    "fixed_points",
    "phase",
    "phase_diagram",
    "recursion",
    "report",
    "susceptibilities",
    "tune",
]
