"""What is derived: energy from the outlet to the agent, and what a token costs.

At every level, energy handed down plus energy left over equals energy metered.
"""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

_MODEL = ("gen_ai.request.model",)

PDU_OUTLETS_ENERGY = Metric(
    "pdu.outlets.energy",
    COUNTER,
    "J",
    Kind.PDU,
    "Energy of the PDU's outlets since the daemon started, from their power.",
)
PDU_ENERGY_UNATTRIBUTED = Metric(
    "pdu.energy.unattributed",
    COUNTER,
    "J",
    Kind.PDU,
    "Energy of the PDU's outlets to which no host is mapped.",
)
HOST_POWER = Metric(
    "host.power",
    GAUGE,
    "W",
    Kind.HOST,
    "Power of the host by the best meter there is; basis says which: pdu, bmc, components.",
    ("basis",),
)
HOST_ENERGY = Metric(
    "host.energy", COUNTER, "J", Kind.HOST, "Energy of the host by the best meter.", ("basis",)
)
HOST_ENERGY_UNATTRIBUTED = Metric(
    "host.energy.unattributed",
    COUNTER,
    "J",
    Kind.HOST,
    "Energy of the host that went to no GPU, because it has none that could be read.",
)
GPU_ENERGY_ATTRIBUTED = Metric(
    "gpu.energy.attributed",
    COUNTER,
    "J",
    Kind.GPU,
    "Energy of the host handed down to the GPU: its own, and the rest of the host's in "
    "proportion to it.",
)
GPU_ENERGY_UNATTRIBUTED = Metric(
    "gpu.energy.unattributed",
    COUNTER,
    "J",
    Kind.GPU,
    "Energy handed down to the GPU while no engine used it.",
)
ENGINE_ENERGY = Metric(
    "engine.energy", COUNTER, "J", Kind.ENGINE, "Energy handed down to the engine.", _MODEL
)
ENGINE_ENERGY_UNATTRIBUTED = Metric(
    "engine.energy.unattributed",
    COUNTER,
    "J",
    Kind.ENGINE,
    "Energy of the engine that no reported call of an agent accounts for.",
    _MODEL,
)
ENGINE_ENERGY_PENDING = Metric(
    "engine.energy.pending",
    GAUGE,
    "J",
    Kind.ENGINE,
    "Energy of the engine's last minutes that a call reported late can still claim.",
    _MODEL,
)
ENGINE_ENERGY_PER_OUTPUT_TOKEN = Metric(
    "engine.energy.per_output_token",
    GAUGE,
    "J/{token}",
    Kind.ENGINE,
    "Energy per generated token over the window, the prompt's energy included.",
    _MODEL,
)
ENGINE_ENERGY_PER_TOKEN = Metric(
    "engine.energy.per_token",
    GAUGE,
    "J/{token}",
    Kind.ENGINE,
    "Energy per prompt or generated token over the window.",
    _MODEL,
)
ENGINE_TOKEN_RATE_PER_WATT = Metric(
    "engine.output_tokens_per_second_per_watt",
    GAUGE,
    "{token}",
    Kind.ENGINE,
    "Generated tokens per second and watt over the window.",
    _MODEL,
)
MODEL_ENERGY_PER_OUTPUT_TOKEN = Metric(
    "model.energy.per_output_token",
    GAUGE,
    "J/{token}",
    Kind.MODEL,
    "Energy per generated token over the window, over all engines of the model.",
)
MODEL_ENERGY_PER_TOKEN = Metric(
    "model.energy.per_token",
    GAUGE,
    "J/{token}",
    Kind.MODEL,
    "Energy per prompt or generated token over the window, over all engines of the model.",
)
AGENT_ENERGY = Metric(
    "agent.energy",
    COUNTER,
    "J",
    Kind.AGENT,
    "Energy that the agent's model calls took, estimated from their tokens and times.",
    _MODEL,
)
AGENT_ENERGY_PER_OUTPUT_TOKEN = Metric(
    "agent.energy.per_output_token",
    GAUGE,
    "J/{token}",
    Kind.AGENT,
    "Energy per generated token of the agent's calls over the window.",
    _MODEL,
)
AGENT_TOKENS_UNMATCHED = Metric(
    "agent.tokens.unmatched",
    COUNTER,
    "{token}",
    Kind.AGENT,
    "Tokens of calls that no engine seen here served, hosted models for one.",
    _MODEL,
)
