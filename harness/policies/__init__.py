"""Who may do what, proved by execution: worlds, probes, judgement and witnesses."""
