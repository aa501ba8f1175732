"""Votes: one a key on the same question and arms, changed by voting again; only arms can be chosen."""

from __future__ import annotations

from tests.integration.gateway.conftest import RunningGateway

ARMS = ["gemma-3-270m", "rag:docs@gemma-3-270m"]


def test_voting_again_changes_the_vote(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        question = "How do I vote? \u4f60\u597d </script>"
        first = http.post("/v1/votes", json={"question": question, "arms": ARMS, "chosen": ARMS[0]}).json()
        again = http.post(
            "/v1/votes", json={"question": question, "arms": ARMS[::-1], "chosen": ARMS[1]}
        ).json()
        other = http.post(
            "/v1/votes", json={"question": question, "arms": ARMS[:1], "chosen": ARMS[0]}
        ).json()
        assert again == {**first, "chosen": ARMS[1], "created_at": again["created_at"]}
        assert other["id"] != first["id"]
        listed = http.get("/v1/votes").json()["data"]
        assert [vote["id"] for vote in listed][:2] == [other["id"], first["id"]]
        older = http.get("/v1/votes", params={"after": other["id"], "limit": 1}).json()["data"]
        assert [vote["chosen"] for vote in older] == [ARMS[1]]


def test_what_did_not_answer_cannot_be_chosen(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        before = http.get("/v1/votes").json()["data"]
        answer = http.post("/v1/votes", json={"question": "x", "arms": ARMS, "chosen": "gpt"})
        assert (answer.status_code, answer.json()["param"]) == (400, "chosen")
        assert http.get("/v1/votes").json()["data"] == before
