"""Reports: one stream of events in, many writers out."""
