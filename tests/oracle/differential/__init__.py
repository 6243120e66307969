"""The parts of differential.py. Each has `cases(rng, n, args)`, which gives JSON objects with `part`, `kind`, the input
and what the reference makes of it; an object without `kind` is something that cases refer to."""
