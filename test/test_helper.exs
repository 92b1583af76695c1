# What a test logs is shown where it fails. What is known to be wrong, and not yet put right, is left out. Messages that a
# test waits for may come late on a machine that does other things.
ExUnit.start(capture_log: true, exclude: [:known_bug], assert_receive_timeout: 5_000)
