defmodule Pyre.Wire do
  @moduledoc false

  # The numbers of docs/wire.md, which is the contract with the interpreter: version, opcodes, statuses, verbs,
  # exit codes, limits. Each is a macro, so that it stands in patterns and guards:
  #
  #     require Pyre.Wire, as: Wire
  #     def handle({Wire.op_done(), number, Wire.status_done(), body, state, effects}), do: ...
  #
  # priv/python/pyre/_wire.py holds the same names in capitals; a test compares the two.

  @constants [
    version: 1,

    # BEAM -> interpreter
    op_hello: 1,
    op_activate: 2,
    op_deliver: 3,
    op_cancel: 4,
    op_drop: 5,
    op_result: 6,
    op_run: 7,
    op_clock: 8,
    op_stop: 9,
    op_credit: 10,
    op_item: 11,
    op_burst: 12,

    # interpreter -> BEAM
    op_ready: 64,
    op_done: 65,
    op_request: 66,
    op_dropped: 67,
    op_chunk: 68,
    op_withdraw: 69,
    op_read: 71,
    op_progress: 70,
    op_burst_done: 72,

    # DELIVER's kind
    kind_call: 0,
    kind_cast: 1,
    kind_timer: 2,
    kind_on_start: 3,
    kind_on_stop: 4,
    kind_on_down: 5,
    kind_stream: 7,

    # DONE's status
    status_done: 0,
    status_failed: 1,
    status_refused: 2,
    status_evicted: 3,
    status_rejected: 4,
    status_cancelled: 5,
    status_unusable: 6,
    status_retry: 7,

    # RESULT's status
    result_done: 0,
    result_error: 2,

    # REQUEST's verb
    verb_call: 1,
    verb_cast: 2,
    verb_spawn: 3,
    verb_stop: 4,
    verb_commit: 5,
    verb_group: 6,
    verb_monitor: 7,
    verb_demonitor: 8,
    verb_step: 9,
    verb_timers: 10,
    verb_stream: 11,
    verb_shield: 14,
    verb_publish: 16,
    # added to a call or a cast
    priority_high: 32,
    priority_low: 64,
    verb_escalate: 19,
    verb_tool: 22,
    verb_tools: 23,

    # what rides with a commit
    effect_timer: 1,
    effect_cancel_timer: 2,
    effect_schedule: 3,
    effect_subscribe: 4,
    effect_unsubscribe: 5,
    effect_escalate: 6,
    effect_failure: 7,
    effect_spend: 8,
    effect_version: 9,

    # how the interpreter ended
    exit_closed: 0,
    exit_by_hand: 64,
    exit_unusable: 69,
    exit_bug: 70,
    exit_protocol: 76,
    max_frame_bytes: 64 * 1024 * 1024,
    max_body_bytes: 16 * 1024 * 1024,
    max_body_nesting: 64,
    max_envelope_nesting: 8,
    max_tuple_size: 255,
    max_id_bytes: 255,
    max_record_bytes: 64 * 1024
  ]

  for {name, value} <- @constants do
    defmacro unquote(name)(), do: unquote(value)
  end

  @doc "All constants by name."
  @spec constants() :: keyword(non_neg_integer())
  def constants, do: @constants
end
