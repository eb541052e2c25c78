"""Load: profiles as data, a client pool, exact histograms, delivery checked."""
