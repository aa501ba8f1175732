"""Word lists: verbs that summaries start with, and nouns to put in place of words in varied examples."""

from __future__ import annotations

_VERBS = """
access add adjust advance append apply bind break build cache calculate call check chunk classify clean
collapse collect combine compare compose compute concatenate consume convert copy count create curry cycle
decode decorate define delete determine divide drop emit encode ensure escape evaluate execute expand extend
extract fetch filter find flatten fold format generate get give group insert interleave interpolate
intersperse invert iterate join limit list load locate lookup make map mark match measure merge modify move
normalize open order pad parse partition pass peek perform pick pluck prepend print process produce provide
pull push quote raise randomize read rearrange reduce remap remove repeat replace reshape resolve retrieve
return reverse roll round run save search select send serialize set shift show shuffle skip slice sort split
stagger store strip sum swap take test thread transform translate transpose traverse trim truncate try turn
unwrap unzip update use validate walk wrap write yield zip
"""
_NOUNS = """
amber basin cedar delta ember fjord grove haven inlet jetty knoll ledge maple north olive pearl quartz river
stone tulip umber vapor willow yarrow zephyr anchor barley candle dragon engine falcon garden harbor island
jungle kettle ladder meadow needle orchid pebble rabbit saddle timber valley window
"""


def _third_person(verb: str) -> str:
    """`apply` -> `applies`, `search` -> `searches`, `return` -> `returns`."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh")) else "s")


VERBS = frozenset(_VERBS.split())
INFLECTED = {_third_person(verb): verb for verb in VERBS}
"""Third person to base form, for summaries that say what a function does: `Returns the first item`."""
NOUNS = tuple(_NOUNS.split())
