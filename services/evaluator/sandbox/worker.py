"""What runs for one item in the jail, in a process of its own: an answer (`answer`), or the test that calls it (`verify`).

The process of an answer never holds an expected value. It evaluates or calls what it was sent and replies with plain
values; the other side of the channel compares. Each reply carries the nonce of the item, so that bytes written
blindly on the channel are no reply.
"""

from __future__ import annotations

import builtins
import socket
from contextlib import suppress
from typing import Any

from services.evaluator.sandbox import codec
from services.evaluator.sandbox.tracer import CallTracer

Message = dict[str, Any]


def answer(channel: socket.socket) -> None:
    """Serve one item to the other side of `channel`."""
    job = codec.receive(channel)
    if job is None:
        return
    if job["mode"] == "call":
        reply = _guarded(_evaluate, job)
        _send(channel, job["nonce"], reply)
    else:
        _serve_function(channel, job)


def _evaluate(job: Message) -> Message:
    scope: dict[str, Any] = {"__name__": "__answer__", "__builtins__": builtins}
    for statement in (*job["imports"], *job["setup"], *job["own_imports"]):
        exec(compile(statement, "<setup>", "exec"), scope)  # nosec B102 # this is the sandbox
    code = compile(job["expression"], "<answer>", "eval")
    tracer = CallTracer(job["package"], job["must_call"])
    tracer.start()
    try:
        form = codec.encode(eval(code, scope))  # nosec B307 # this is the sandbox
    finally:
        tracer.stop()
    return {"value": form, "called": tracer.called}


def _serve_function(channel: socket.socket, job: Message) -> None:
    scope: dict[str, Any] = {"__name__": "__answer__", "__builtins__": builtins}

    def define(_: Message) -> Message:
        exec(compile(job["source"], "<answer>", "exec"), scope)  # nosec B102 # this is the sandbox
        if not callable(scope.get(job["entry_point"])):
            return {"raised": "NameError", "text": f"the answer defines no function `{job['entry_point']}`"}
        return {"value": None}

    def call(request: Message) -> Message:
        args, kwargs = codec.decode(request["args"]), codec.decode(request["kwargs"])
        return {"value": codec.encode(scope[job["entry_point"]](*args, **kwargs), opaque=True)}

    _send(channel, job["nonce"], _guarded(define, job))
    while (request := codec.receive(channel)) is not None:
        _send(channel, job["nonce"], _guarded(call, request))


def _guarded(work: Any, message: Message) -> Message:
    """The reply of `work`, or what went wrong in words. SystemExit and KeyboardInterrupt are the answer's own doing too."""
    try:
        return work(message)
    except codec.TooLong as error:
        return {"too_long": str(error)}
    except codec.NotPlain as error:
        return {"not_plain": str(error)[:200]}
    except MemoryError:
        return {"memory": True}
    except BaseException as error:
        return {"raised": type(error).__name__[:100], "text": _text(error)}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


def _send(channel: socket.socket, nonce: str, reply: Message) -> None:
    try:
        frame = codec.dumps({"nonce": nonce, **reply})
    except codec.TooLong as error:
        frame = codec.dumps({"nonce": nonce, "too_long": str(error)})
    channel.sendall(frame)


class AnswerFault(Exception):
    """The answer did something that ends the test; `reply` says what."""

    def __init__(self, reply: Message) -> None:
        super().__init__(str(reply))
        self.reply = reply


class AnswerRaised(Exception):
    """Stands for an exception of the answer that is no built-in one."""


class Proxy:
    """The function under test, as the test sees it: plain values go over, plain values come back."""

    def __init__(self, channel: socket.socket, nonce: str) -> None:
        self._channel, self._nonce = channel, nonce
        self.raised: tuple[BaseException, Message] | None = None

    def define(self, job: Message) -> None:
        """Send the answer's source over. Raises AnswerFault, or what the source raised."""
        self._ask(job)

    def _ask(self, message: Message) -> Any:
        try:
            codec.send(self._channel, message)
            reply = codec.receive(self._channel)
        except (OSError, codec.Malformed):
            reply = {"forged": True}
        if reply is None:
            raise AnswerFault({"gone": True})
        if reply.get("nonce") != self._nonce:
            raise AnswerFault({"forged": True})
        if "value" in reply:
            try:
                return codec.decode(reply["value"])
            except codec.Malformed:
                raise AnswerFault({"forged": True}) from None
        if "raised" in reply:
            self._raise(reply)
        raise AnswerFault(reply)

    def _raise(self, reply: Message) -> None:
        kind = getattr(builtins, str(reply["raised"]), None)
        is_known = isinstance(kind, type) and issubclass(kind, Exception)
        error = kind(reply.get("text", "")) if is_known else AnswerRaised(reply.get("text", ""))  # type: ignore[misc]
        self.raised = (error, reply)
        raise error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value = self._ask({"args": codec.encode(args), "kwargs": codec.encode(kwargs)})
        return list(value.values) if isinstance(value, codec.Items) else value


def verify(channel: socket.socket, answer_channel: socket.socket) -> None:
    """Run the test of one item against the answer that serves `answer_channel`; report the outcome on `channel`."""
    job = codec.receive(channel)
    if job is None:
        return
    proxy = Proxy(answer_channel, job["answer"]["nonce"])
    _send(channel, job["nonce"], _outcome(proxy, job))


def _outcome(proxy: Proxy, job: Message) -> Message:
    try:
        proxy.define(job["answer"])
        _run_test(proxy, job)
        return {"verdict": "passed"}
    except AnswerFault as fault:
        return {"verdict": "fault", "reply": fault.reply}
    except BaseException as error:
        if proxy.raised is not None and error is proxy.raised[0]:
            return {"verdict": "fault", "reply": proxy.raised[1]}
        text = f"{type(error).__name__}: {_text(error)}".rstrip(": ")
        # A value of the wrong type makes the test itself stumble; that is a wrong answer, not a broken test.
        stumbled = (AssertionError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
        return {"verdict": "wrong" if isinstance(error, stumbled) else "broken", "text": text}


def _run_test(proxy: Proxy, job: Message) -> None:
    scope: dict[str, Any] = {"__name__": "__test__", "__builtins__": builtins}
    with suppress(
        SyntaxError
    ):  # helpers that the test uses may stand in the prompt, where that is a module of its own
        exec(compile(job["prompt"], "<prompt>", "exec"), scope)  # nosec B102 # this is the sandbox
    scope[job["entry_point"]] = proxy
    exec(compile(job["test"], "<test>", "exec"), scope)  # nosec B102 # this is the sandbox
    check = scope.get("check")
    if callable(check) and check is not proxy:  # a function under test may have that name
        check(proxy)
