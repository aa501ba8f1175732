"""`mt endpoints`: models outside the platform, to ask and to compare with."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from pydantic import SecretStr, ValidationError

from model_training.cli.console import out, print_json, print_table
from model_training.client.client import Client
from model_training.contracts.endpoints import EXTERNAL_PREFIX, EndpointCreate
from model_training.errors import UserError

app = typer.Typer(
    help="Make OpenAI-compatible endpoints of others known, to compare with.", no_args_is_help=True
)

Price = Annotated[float, typer.Option(min=0, help="US dollars for a million tokens.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What to call it here; asked as external:<name>.")],
    url: Annotated[str, typer.Argument(help="What stands before /chat/completions.")],
    model: Annotated[str, typer.Argument(help="The model's name there.")],
    key_variable: Annotated[
        str | None, typer.Option(help="Environment variable that holds its key; never the key itself.")
    ] = None,
    prompt_price: Price = 0.0,
    completion_price: Price = 0.0,
) -> None:
    """Make an endpoint known. Its key is kept encrypted and sent to that address alone."""
    try:
        request = EndpointCreate(
            name=name,
            url=url,
            model=model,
            key=_key(key_variable),
            million_prompt_tokens_usd=prompt_price,
            million_completion_tokens_usd=completion_price,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: {first['msg']}.") from error
    with Client() as client:
        made = client.endpoints.create(request)
    out.print(
        f"{EXTERNAL_PREFIX}{made.name} answers from {made.url}, model {made.model}. Compare with it: "
        f"mt compare --set 'endpoints=[\"{made.name}\"]'",
        soft_wrap=True,
    )


def _key(variable: str | None) -> SecretStr | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise UserError(f"The environment variable {variable} is not set.", hint=f"export {variable}=…")
    return SecretStr(key)


@app.command("list")
def list_endpoints(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List endpoints without their keys."""
    with Client() as client:
        found = client.endpoints.list().data
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "address", "its name there", "key", "$ per million tokens, read and written"),
        (
            (
                f"{EXTERNAL_PREFIX}{one.name}",
                one.url,
                one.model,
                "kept" if one.has_key else "none",
                f"{one.million_prompt_tokens_usd:g} and {one.million_completion_tokens_usd:g}",
            )
            for one in found
        ),
        "There are no endpoints. `mt endpoints add` makes one known.",
    )


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="An endpoint's name.")]) -> None:
    """Forget an endpoint and its key."""
    with Client() as client:
        client.endpoints.delete(name.removeprefix(EXTERNAL_PREFIX))
    out.print(f"{name} is forgotten")
