# What is known to be wrong, and not yet put right.
ExUnit.start(exclude: [:known_bug])
