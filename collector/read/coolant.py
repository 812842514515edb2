"""Heat that a coolant carries away, from its flow and the rise of its temperature."""

from __future__ import annotations

from typing import Literal

Coolant = Literal["water", "pg25"]
"""Water, or water with 25 % by volume of inhibited propylene glycol."""

# Density times specific heat capacity at 40 degree C and 0.2 MPa, in J/(m3 K). Between 20 and 50
# degree C water's differs from this by at most 0.8 %, the glycol's by 0.4 %.
# Water: IAPWS-95, 992.3 kg/m3 and 4179 J/(kg K).
# pg25: ASHRAE Handbook Fundamentals (2009), chapter 31, aqueous propylene glycol, interpolated to
# 25 %: 1014.5 kg/m3 and 3962 J/(kg K).
HEAT_CAPACITY: dict[Coolant, float] = {"water": 992.3 * 4179.0, "pg25": 1014.5 * 3962.0}


def heat(flow: float, rise: float, coolant: Coolant = "water") -> float:
    """Return the watts that a coolant takes up.

    Args:
        flow: In cubic metres per second.
        rise: Return less supply in kelvin; negative where the coolant gives heat off.
        coolant: What flows.
    """
    return HEAT_CAPACITY[coolant] * flow * rise + 0.0  # never -0.0
