"""Layer 1, power, from outside: carbon intensity and price of energy."""

from collector.entity import Kind
from collector.metric import GAUGE, Metric

CARBON_INTENSITY = Metric(
    "site.carbon_intensity",
    GAUGE,
    "g/J",
    Kind.SITE,
    "CO2 equivalents of the grid's electricity; average of all plants, or marginal: of the plant "
    "that would run more. Grams per kWh are 3.6 million times this.",
    ("provider", "signal"),
)
CARBON_ESTIMATED = Metric(
    "site.carbon_intensity.estimated",
    GAUGE,
    "",
    Kind.SITE,
    "1 if the provider estimated or forecast the figure, 0 if it was measured.",
    ("provider", "signal"),
)
ENERGY_PRICE = Metric(
    "site.energy.price",
    GAUGE,
    "{currency}/J",
    Kind.SITE,
    "Price of electricity now. Per kWh it is 3.6 million times this.",
    ("currency",),
)
