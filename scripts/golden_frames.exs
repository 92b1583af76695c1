# Writes test/fixtures/wire anew: mix run --no-start scripts/golden_frames.exs

Code.require_file("../test/support/golden_frames.ex", __DIR__)

directory = Pyre.GoldenFrames.directory()
File.rm_rf!(directory)
File.mkdir_p!(directory)

for golden <- Pyre.GoldenFrames.all() do
  File.write!(Path.join(directory, golden.name <> ".bin"), golden.bytes)
  File.write!(Path.join(directory, golden.name <> ".json"), Pyre.GoldenFrames.json(golden))
end
