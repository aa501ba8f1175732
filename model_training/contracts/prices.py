"""What answering costs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from model_training.contracts.base import Number, Wire

Dollars = Annotated[Number, Field(ge=0, le=1e6)]


class Prices(Wire):
    """What answering costs, and what changes cost, in US dollars. The default is an hour of a two-core cloud machine."""

    machine_hour_usd: Dollars = 0.10
    electricity_kwh_usd: Dollars = Field(
        default=0.0, description="For a machine of your own, with its `machine_watts`."
    )
    machine_watts: Annotated[Number, Field(ge=0, le=1e6)] = 0.0
    million_prompt_tokens_usd: Dollars = Field(
        default=0.0, description="For a model that is billed by token."
    )
    million_completion_tokens_usd: Dollars = 0.0
    wrong_answer_usd: Dollars = Field(
        default=0.0, description="What a wrong answer costs you; 0 leaves quality out of the break-even."
    )
