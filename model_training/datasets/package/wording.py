"""The words of questions: how a call's arguments are told, and the sentences around them.

Evaluation and training have sentences of their own, so that no evaluation question stands word for word in a training row.
`{name}` is the bare function, `{home}` the module to import it from, `{values}` the arguments, `{value}` the wanted result,
`{need}` what the documentation says it does.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from model_training.datasets.package.calls import walk_outside_in
from model_training.datasets.package.records import Example, Function, Parameter

EVALUATION = {
    "write_call": (
        "Call `{name}` from {home} with {values} to get {value}. Answer with one Python expression.",
        "Using `{name}` of {home} on {values}, which expression has the value {value}?",
    ),
    "find_arguments": (
        "Which call of `{name}` ({home}) turns {first} into {value}? Answer with one Python expression.",
        "From {first}, get {value} by calling `{name}` of {home}. Give the expression.",
    ),
    "fit_need": (
        "Need: {need}. Given {values}, which {home} expression gives {value}?",
        "{home} can do this: {need}. For {values} the result shall be {value}. Give one Python expression.",
    ),
    "use_object": (
        "Make a `{name}` of {home} with {values} and use its `{member}` to get {value}. Answer with one Python expression.",
        "Which expression makes a {home}.{name} with {values} and takes {value} from it? It needs `{member}`.",
    ),
    "which_function": (
        "Which function of {home} fits this need: {need}?",
        "Find the function in {home} that is made for this: {need}. What is it called?",
    ),
    "what_does": ("What does `{name}` from {home} do?", "Describe in one sentence what {home}.{name} does."),
    "default_value": (
        "If you leave out `{parameter}` when calling {home}.{name}, which value does it have?",
        "What is the default value of `{parameter}` in `{name}` from {home}?",
    ),
    "parameter_name": (
        "What is the {ordinal} parameter of `{name}` from {home} called?",
        "Name the {ordinal} parameter of {home}.{name}.",
    ),
    "which_module": ("Which module do you import `{name}` of {package} from?",),
}
"""Sentences of evaluation items by form."""

TRAINING = {
    "write_call": (
        "Write an expression that calls `{name}` from {home} with {values} and gives {value}.",
        "How do you call `{name}` of {home} with {values} to get {value}?",
        "Use {home}.{name} with {values}. The value shall be {value}.",
    ),
    "find_arguments": (
        "Turn {first} into {value} with `{name}` from {home}. Which call does it?",
        "`{name}` of {home} makes {value} out of {first}. Write the call.",
    ),
    "fit_need": (
        "Which expression with {home} does this: {need}? Given {values}, wanted {value}.",
        "Task: {need}. Library: {home}. Given: {values}. Wanted: {value}.",
    ),
    "use_object": (
        "With a `{name}` from {home} made with {values}, use `{member}` to get {value}. Write the expression.",
        "{home}.{name} with {values}: how does `{member}` give {value}?",
    ),
    "which_function": (
        "Name the function of {home} for this: {need}.",
        "{home}: {need}. Which function?",
        "What do I call from {home} for this: {need}?",
    ),
    "what_does": (
        "Explain {home}.{name} in one sentence.",
        "What is `{name}` of {home} for?",
    ),
    "read_signature": (
        "What is the signature of `{name}` from {home}?",
        "Which parameters does {home}.{name} take?",
    ),
    "default_value": (
        "Which default has `{parameter}` of `{name}` ({home})?",
        "`{name}` of {home} is called without `{parameter}`. What is used?",
    ),
    "parameter_name": ("`{name}` of {home}: which parameter comes {ordinal}?",),
    "what_returns": (
        "After `from {home} import {name}`, what is the value of `{expression}`?",
        "What does `{expression}` return? ({home})",
    ),
    "which_module": ("Where in {package} is `{name}`?",),
}
"""Sentences of training rows by form."""

ORDINALS = ("first", "second", "third", "fourth", "fifth")
WRAPPERS = frozenset({"list", "tuple", "dict", "set", "sorted", "frozenset", "str", "sum", "bool"})
MAX_QUESTION_WORDS = 60


@dataclass(frozen=True)
class Told:
    """A call in words: `values` are all arguments (`iterable = [1, 2], n = 2`), `first` the first one's source alone.

    `guessable` is whether the others can be found out from the wanted value: one or two numbers, texts or flags.
    """

    values: str
    first: str | None
    count: int
    arguments: tuple[str, ...]
    guessable: bool
    member: str | None = None


def tell(example: Example, function: Function) -> Told | None:
    """The arguments of an example's call by parameter name; None if there are none to tell."""
    call = find_call(example.expression, function.name)
    if call is None or not (call.args or call.keywords):
        return None
    named = _bind(call, function.parameters or ())
    parts = [f"{name} = {text}" if name else text for name, text in named]
    first, *others = [*call.args, *(keyword.value for keyword in call.keywords)]
    shown = (
        ast.unparse(first)
        if call.args and not isinstance(first, ast.Starred | ast.Lambda | ast.Name)
        else None
    )
    guessable = 1 <= len(others) <= 2 and all(_is_scalar(one) for one in others)
    values = ", ".join(parts) + _imported(example)
    arguments = tuple(ast.unparse(one) for one in (first, *others) if not isinstance(one, ast.Starred))
    guessable = guessable and any(_is_number(one) for one in others)
    member = member_of(example.expression, function.name) if function.kind == "class" else None
    return Told(values, shown, len(named), arguments, guessable, member)


def member_of(expression: str, name: str) -> str | None:
    """What an expression uses of the object that it makes: `host` of `URL('…').host`, `get(1)` of `Bag([1]).get(1)`."""
    node: ast.expr = ast.parse(expression, mode="eval").body
    while (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in WRAPPERS
        and node.args
    ):
        node = node.args[0]
    used = node.func if isinstance(node, ast.Call) else node
    match used:
        case ast.Attribute(value=ast.Call(func=ast.Name(id=maker)) as made) if maker == name:
            return ast.unparse(node)[len(ast.unparse(made)) + 1 :]
        case _:
            return None


def _imported(example: Example) -> str:
    """Where names of the standard library come from: ` (from operator import add)`."""
    return f" ({'; '.join(example.imports)})" if example.imports else ""


def _is_scalar(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
    )


def _is_number(node: ast.expr) -> bool:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return (
        isinstance(inner, ast.Constant)
        and isinstance(inner.value, int | float)
        and not isinstance(inner.value, bool)
    )


def find_call(expression: str, name: str) -> ast.Call | None:
    """The outermost call of the function in the expression."""
    for node in walk_outside_in(ast.parse(expression, mode="eval").body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            return node
    return None


def is_simple(example: Example, function: Function) -> bool:
    """Whether nothing stands around the call but `list(...)` and the like, so that a reader can see what is asked.

    Of a class it is the use of one member that counts.
    """
    if function.kind == "class":
        return member_of(example.expression, function.name) is not None
    node: ast.expr = ast.parse(example.expression, mode="eval").body
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == function.name:
            return True
        if node.func.id not in WRAPPERS or len(node.args) != 1 or node.keywords:
            return False
        node = node.args[0]
    return False


def _bind(call: ast.Call, parameters: tuple[Parameter, ...]) -> list[tuple[str, str]]:
    positional = [one for one in parameters if one.kind in {"POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"}]
    rest = next((one.name for one in parameters if one.kind == "VAR_POSITIONAL"), "")
    bound: list[tuple[str, str]] = []
    extra: list[str] = []
    for index, argument in enumerate(call.args):
        text = ast.unparse(argument)
        if isinstance(argument, ast.Starred) or index >= len(positional):
            extra.append(text)
        else:
            bound.append((positional[index].name, text))
    if extra:
        bound.append((rest, " and ".join(extra)))
    bound.extend((keyword.arg or "", ast.unparse(keyword.value)) for keyword in call.keywords)
    return bound


def home_of(function: Function) -> str:
    """The module that one imports the function from."""
    return function.module
