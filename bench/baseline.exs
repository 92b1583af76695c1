# What bench/quick_bench.exs measured on a quiet machine: our speed as a share of the floor's in the same run. Written by
# `mix pyre.bench quick --write`.
%{alone: 0.55, calls_256: 0.5, calls_64: 0.5, echo_1m: 0.6, echo_4k: 0.55}
