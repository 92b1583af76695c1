"""The numbers of docs/wire.md, the contract with the BEAM.

`Pyre.Wire` holds the same names in small letters; a test compares the two.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "EFFECT_CANCEL_TIMER",
    "EFFECT_ESCALATE",
    "EFFECT_FAILURE",
    "EFFECT_SCHEDULE",
    "EFFECT_SPEND",
    "EFFECT_SUBSCRIBE",
    "EFFECT_TIMER",
    "EFFECT_UNSUBSCRIBE",
    "EFFECT_VERSION",
    "EXIT_BUG",
    "EXIT_BY_HAND",
    "EXIT_CLOSED",
    "EXIT_PROTOCOL",
    "EXIT_UNUSABLE",
    "KIND_CALL",
    "KIND_CAST",
    "KIND_ON_DOWN",
    "KIND_ON_START",
    "KIND_ON_STOP",
    "KIND_STREAM",
    "KIND_TIMER",
    "MAX_BODY_BYTES",
    "MAX_BODY_NESTING",
    "MAX_ENVELOPE_NESTING",
    "MAX_FRAME_BYTES",
    "MAX_ID_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_TUPLE_SIZE",
    "OP_ACTIVATE",
    "OP_BURST",
    "OP_BURST_DONE",
    "OP_CANCEL",
    "OP_CHUNK",
    "OP_CLOCK",
    "OP_CREDIT",
    "OP_DELIVER",
    "OP_DONE",
    "OP_DROP",
    "OP_DROPPED",
    "OP_HELLO",
    "OP_ITEM",
    "OP_PROGRESS",
    "OP_READ",
    "OP_READY",
    "OP_REQUEST",
    "OP_RESULT",
    "OP_RUN",
    "OP_STOP",
    "OP_WITHDRAW",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "RESULT_DONE",
    "RESULT_ERROR",
    "STATUS_CANCELLED",
    "STATUS_DONE",
    "STATUS_EVICTED",
    "STATUS_FAILED",
    "STATUS_REFUSED",
    "STATUS_REJECTED",
    "STATUS_RETRY",
    "STATUS_UNUSABLE",
    "VERB_CALL",
    "VERB_CAST",
    "VERB_COMMIT",
    "VERB_DEMONITOR",
    "VERB_ESCALATE",
    "VERB_GROUP",
    "VERB_MONITOR",
    "VERB_PUBLISH",
    "VERB_SHIELD",
    "VERB_SPAWN",
    "VERB_STEP",
    "VERB_STOP",
    "VERB_STREAM",
    "VERB_TIMERS",
    "VERB_TOOL",
    "VERB_TOOLS",
    "VERSION",
]

VERSION: Final = 1

# BEAM -> interpreter
OP_HELLO: Final = 1
OP_ACTIVATE: Final = 2
OP_DELIVER: Final = 3
OP_CANCEL: Final = 4
OP_DROP: Final = 5
OP_RESULT: Final = 6
OP_RUN: Final = 7
OP_CLOCK: Final = 8
OP_STOP: Final = 9
OP_CREDIT: Final = 10
OP_ITEM: Final = 11
OP_BURST: Final = 12

# interpreter -> BEAM
OP_READY: Final = 64
OP_DONE: Final = 65
OP_REQUEST: Final = 66
OP_DROPPED: Final = 67
OP_CHUNK: Final = 68
OP_WITHDRAW: Final = 69
OP_READ: Final = 71
OP_PROGRESS: Final = 70
OP_BURST_DONE: Final = 72

# DELIVER's kind
KIND_CALL: Final = 0
KIND_CAST: Final = 1
KIND_TIMER: Final = 2
KIND_ON_START: Final = 3
KIND_ON_STOP: Final = 4
KIND_ON_DOWN: Final = 5
KIND_STREAM: Final = 7

# DONE's status
STATUS_DONE: Final = 0
STATUS_FAILED: Final = 1
STATUS_REFUSED: Final = 2
STATUS_EVICTED: Final = 3
STATUS_REJECTED: Final = 4
STATUS_CANCELLED: Final = 5
STATUS_UNUSABLE: Final = 6
STATUS_RETRY: Final = 7

# RESULT's status
RESULT_DONE: Final = 0
RESULT_ERROR: Final = 2

# REQUEST's verb
VERB_CALL: Final = 1
VERB_CAST: Final = 2
VERB_SPAWN: Final = 3
VERB_STOP: Final = 4
VERB_COMMIT: Final = 5
VERB_GROUP: Final = 6
VERB_MONITOR: Final = 7
VERB_DEMONITOR: Final = 8
VERB_STEP: Final = 9
VERB_TIMERS: Final = 10
VERB_STREAM: Final = 11
VERB_SHIELD: Final = 14
VERB_PUBLISH: Final = 16
PRIORITY_HIGH: Final = 32  # added to a call or a cast
PRIORITY_LOW: Final = 64
VERB_ESCALATE: Final = 19
VERB_TOOL: Final = 22
VERB_TOOLS: Final = 23

# what rides with a commit
EFFECT_TIMER: Final = 1
EFFECT_CANCEL_TIMER: Final = 2
EFFECT_SCHEDULE: Final = 3
EFFECT_SUBSCRIBE: Final = 4
EFFECT_UNSUBSCRIBE: Final = 5
EFFECT_ESCALATE: Final = 6
EFFECT_FAILURE: Final = 7
EFFECT_SPEND: Final = 8
EFFECT_VERSION: Final = 9

# how the interpreter ended
EXIT_CLOSED: Final = 0
EXIT_BY_HAND: Final = 64
EXIT_UNUSABLE: Final = 69
EXIT_BUG: Final = 70
EXIT_PROTOCOL: Final = 76

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_BODY_NESTING: Final = 64
MAX_ENVELOPE_NESTING: Final = 8
MAX_TUPLE_SIZE: Final = 255
MAX_ID_BYTES: Final = 255
MAX_RECORD_BYTES: Final = 64 * 1024
